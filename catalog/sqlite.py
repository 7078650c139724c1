"""SQLite as it is (S16): the one place that knows what PostgreSQL does otherwise. Commits and checkpoints
are made by `writer.py`, under the file lock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pysqlite3.dbapi2 as driver
import sqlalchemy as sa
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.pool import NullPool

from catalog.errors import CatalogRefused

DriverError: type[Exception] = driver.Error

_SAFE_SINCE = (3, 51, 3)
_UNSAFE_SERIES = (3, 52)
_BUSY = 5
_FULL = 13
_STATEMENTS_CACHED = 512
_CHECK_CACHE_BYTES = 64 << 20


def check_version(version: tuple[int, ...]) -> None:
    """Refuse a library with the WAL-reset bug, which corrupts files: 3.51.3 and 3.53 have it fixed (S16).
    Raises CatalogRefused."""
    if version < _SAFE_SINCE or version[:2] == _UNSAFE_SERIES:
        found = ".".join(map(str, version))
        raise CatalogRefused(
            f"SQLite {found} can corrupt the catalog (WAL-reset bug): install 3.51.3, 3.53 or newer"
        )


def is_busy(error: BaseException) -> bool:
    """Whether another connection was in the way."""
    return isinstance(error, driver.OperationalError) and _code(error) == _BUSY


def is_full(error: BaseException) -> bool:
    """Whether the disk, or the file's allowance, is full."""
    return isinstance(error, driver.OperationalError) and _code(error) == _FULL


def _code(error: Exception) -> int:
    extended: int = getattr(error, "sqlite_errorcode", 0)
    return extended & 0xFF


_OPEN_WAIT_S = 5.0
"""The first look into a file waits so long while another process brings it into being, migrates or closes it."""


@dataclass(frozen=True, slots=True)
class Sqlite:
    """One catalog file and how to open it."""

    path: Path
    mmap_bytes: int
    cache_bytes: int

    @property
    def dialect(self) -> Dialect:
        """What compiles statements for it."""
        return DIALECT

    def connect(self, *, busy_timeout_ms: int = 0, query_only: bool = True) -> Any:
        """A connection in autocommit mode that never checkpoints by itself."""
        connection = driver.connect(
            str(self.path),
            timeout=_OPEN_WAIT_S,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=_STATEMENTS_CACHED,
        )
        for pragma in (
            "synchronous = FULL",  # P1: a commit is on the disk when it returns
            "wal_autocheckpoint = 0",
            f"mmap_size = {self.mmap_bytes}",
            f"cache_size = -{self.cache_bytes // 1024}",
            "trusted_schema = OFF",
            f"query_only = {'ON' if query_only else 'OFF'}",
            f"busy_timeout = {busy_timeout_ms}",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        return connection

    def initialise(self) -> Any:
        """A connection to a new file, set up as a write-ahead-logged database."""
        connection = self.connect(query_only=False)
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            connection.close()
            raise CatalogRefused(
                f"{self.path} cannot be write-ahead logged on this file system (mode {mode})"
            )
        return connection

    def engine(self, connection: Any) -> sa.Engine:
        """A SQLAlchemy engine over one open connection, in a transaction, for a migration."""
        connection.execute("BEGIN IMMEDIATE")
        return sa.create_engine("sqlite://", module=driver, creator=lambda: connection, poolclass=NullPool)


DIALECT = SQLiteDialect_pysqlite(paramstyle="qmark")


def data_version(cursor: Any) -> int:
    """A number that moves when another connection has committed (3 µs)."""
    cursor.execute("PRAGMA data_version")
    version: int = cursor.fetchall()[0][0]
    return version


def wal_bytes(cursor: Any) -> int:
    """How much of the write-ahead log is in use, checkpointed or not."""
    cursor.execute("PRAGMA wal_checkpoint(NOOP)")
    pages: int = cursor.fetchall()[0][1]
    return pages * _PAGE_BYTES


def checkpoint(cursor: Any) -> None:
    """Bring the log's content into the file; the next commit then begins the log anew if no reader is in it."""
    cursor.execute("PRAGMA wal_checkpoint(PASSIVE)")
    cursor.fetchall()


def revision_of(connection: Any) -> str | None:
    """The schema revision of an open database, None when it has none."""
    cursor = connection.cursor()
    if not cursor.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchall():
        return None
    rows = cursor.execute("SELECT version_num FROM alembic_version").fetchall()
    return rows[0][0] if rows else None


@contextmanager
def finished_file(path: Path) -> Iterator[Any]:
    """A connection to a database that nobody has open: it is read as it is, and no file appears beside it."""
    connection = driver.connect(f"{path.resolve().as_uri()}?immutable=1", uri=True, isolation_level=None)
    try:
        connection.execute(f"PRAGMA cache_size = -{_CHECK_CACHE_BYTES // 1024}").fetchall()
        yield connection
    finally:
        connection.close()


def copy(connection: Any, target: Path) -> None:
    """Copy a database as of one moment into an empty file, which the caller then syncs. In one step, which holds
    a snapshot while others write: a copy in several would begin again at each of their commits."""
    copied = driver.connect(str(target), isolation_level=None)
    try:
        # Of no use to a file that counts only when it is whole.
        for pragma in ("journal_mode = OFF", "synchronous = OFF"):
            copied.execute(f"PRAGMA {pragma}").fetchall()
        connection.backup(copied)
    finally:
        copied.close()


def integrity_faults(connection: Any) -> list[str]:
    """What is wrong with a database, all pages and indexes read; nothing, normally."""
    rows = connection.execute("PRAGMA integrity_check(10)").fetchall()
    return [row[0] for row in rows if row[0] != "ok"]


_PAGE_BYTES = 4096


def runtime_version() -> tuple[int, ...]:
    """The library's version."""
    return tuple(map(int, driver.sqlite_version.split(".")))
