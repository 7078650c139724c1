"""A look at a catalog file from outside: nothing is migrated, written or kept open."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from msgspec import Struct

from catalog import schema, sqlite
from catalog.errors import CatalogRefused
from catalog.model import NodeRow
from catalog.nodes import list_nodes
from catalog.statement import Reader, Statement, page

_CACHE_BYTES = 64 << 20
_WAIT_MS = 2000

_CLOCK = Statement(sa.select(schema.meta.c.clock_ms))
_NEWEST_EVENT = Statement(
    page(sa.select(schema.events.c.at_ms).order_by(schema.events.c.number.desc())), "limit"
)


class Examination(Struct, frozen=True):
    """`faults`: what is wrong with the pages, nothing normally; None when they were not read. `newest_ms`: the
    latest moment that the catalog knows of. `nodes` is empty where the schema is not this release's.
    """

    revision: str | None
    file_bytes: int
    log_bytes: int
    faults: list[str] | None
    newest_ms: int
    nodes: tuple[NodeRow, ...]

    @property
    def current(self) -> bool:
        """The schema is this release's."""
        return self.revision == schema.HEAD_REVISION


def examine(path: Path, *, read_bytes_max: int) -> Examination:
    """Look at the catalog at `path`; its pages are read when they are not more than `read_bytes_max`. Raises
    CatalogRefused when it can't be read as a database.
    """
    log = Path(f"{path}-wal")
    file_bytes, log_bytes = path.stat().st_size, log.stat().st_size if log.exists() else 0
    database = sqlite.Sqlite(path, mmap_bytes=0, cache_bytes=_CACHE_BYTES)
    try:
        connection = database.connect(busy_timeout_ms=_WAIT_MS)
        try:
            revision = sqlite.revision_of(connection)
            faults = _faults(connection) if file_bytes <= read_bytes_max else None
            reader = Reader(connection.cursor(), database.dialect)
            known = revision == schema.HEAD_REVISION
            return Examination(
                revision,
                file_bytes,
                log_bytes,
                faults,
                newest_ms(reader) if known else 0,
                list_nodes(reader) if known else (),
            )
        finally:
            connection.close()
    except sqlite.DriverError as error:
        raise CatalogRefused(f"{path} can't be read: {error}") from error


def _faults(connection: object) -> list[str]:
    """Pages and their links; the rows of indexes are not compared with those of tables."""
    rows = connection.execute("PRAGMA quick_check(10)").fetchall()  # type: ignore[attr-defined]
    return [row[0] for row in rows if row[0] != "ok"]


def newest_ms(reader: Reader) -> int:
    """The latest moment that a catalog of this release knows of; 0 for none."""
    moments = [*reader.rows(_CLOCK), *reader.rows(_NEWEST_EVENT, (1,))]
    return max((row[0] for row in moments), default=0)
