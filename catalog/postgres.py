"""PostgreSQL as it is, and what speaks like it: connections, and what its errors mean. Only SQL that the
PostgreSQL-compatible distributed databases know too; what is PostgreSQL's own is asked for only where it is there."""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any, cast

import psycopg
import sqlalchemy as sa
from psycopg import conninfo
from psycopg.types.numeric import Int8BinaryDumper, NumericBinaryLoader, NumericLoader
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import Dialect
from sqlalchemy.pool import NullPool

from catalog import statement
from catalog.errors import CatalogBusy, CatalogRefused, TextRefused
from catalog.statement import Reader, Value

log = logging.getLogger(__name__)

APPLICATION = "trivet"
"""What the server's list of connections calls ours."""
DriverError: type[Exception] = psycopg.Error

_CONFLICTS = {"40001", "40P01", "55P03"}
_DUPLICATE = "23505"
_FULL = "53100"
_UNKNOWN = "40003"
_STANDBY = "25006"
# Class 08: the connection; 53300: no connection left; 57P0x: shut down.
_LOST = ("08", "53300", "57P0")

# Starting a connection's process takes its time on a machine that is busy.
_CONNECT_WAIT_S = 5
_UNANSWERED_MS = 5000
_RETRY_PAUSE_S = 0.25
_STATEMENTS_PREPARED = 512
_NO_TEXT = "\x01\ufdd0"
# Tables of a few rows are read by their index too: a sequential scan locks the whole relation against writers (SSI).
# That makes what has no index look so dear that it would be compiled first (13 ms for the one row of `meta`).
_POSTGRES_ONLY = "SET enable_seqscan = off; SET jit = off"
# A process whose machine is gone must not keep others from its rows for longer than they wait.
_NO_ABANDONED_LOCKS = (
    "SET idle_in_transaction_session_timeout = '4s'; SET tcp_user_timeout = '5s'; "
    "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3"
)
# A batch that meets a row of another's open transaction is evaluated again in any case once that commits, so there is
# nothing to wait for with rows of one's own held; two that wait for each other would do so until the server looks for
# deadlocks, after a second. Both must not give up at the same moment.
_LOCK_WAIT_MS = (50, 150)
_KEPT_SYNCHRONOUS = (
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
)


def is_conflict(error: BaseException) -> bool:
    """Whether the transaction met another one, and is to be evaluated again (S13)."""
    return _state(error) in _CONFLICTS


def is_duplicate(error: BaseException) -> bool:
    """Whether a row is there already: of another transaction that committed since this one has looked, mostly."""
    return _state(error) == _DUPLICATE


def is_full(error: BaseException) -> bool:
    """Whether the server's disk is full."""
    return _state(error) == _FULL


def is_standby(error: BaseException) -> bool:
    """Whether a writer speaks to a server that is no longer the primary."""
    return _state(error) == _STANDBY


def leaves_unknown(error: BaseException) -> bool:
    """Whether a server that goes on answering can't tell what became of a commit."""
    return _state(error) == _UNKNOWN


def _state(error: BaseException) -> str:
    return (error.sqlstate or "") if isinstance(error, psycopg.Error) else ""


class _WholeNumber(NumericBinaryLoader):
    """Sums of integers are `numeric`; what is read here has no fractions."""

    def load(self, data: Any) -> int:  # type: ignore[override]
        return int(super().load(data))


class _WholeNumberText(NumericLoader):
    def load(self, data: Any) -> int:  # type: ignore[override]
        return int(super().load(data))


def _without_nul(query: str, params: Sequence[Value]) -> list[Value]:
    """Parameters that the server takes, for a statement that compares with a text that has a NUL: no text in it has,
    so nothing is equal. In its place stands what nobody stores, and what sorts as it would. Raises TextRefused when it
    is to be stored."""
    stored = 0
    if not query.startswith(("SELECT", "DELETE")):
        stored = (query.rpartition("WHERE")[0] if query.startswith("UPDATE") else query).count("%s")
    if any(isinstance(value, str) and "\0" in value for value in params[:stored]):
        raise TextRefused("a text with a NUL character can't be stored")
    return [value.replace("\0", _NO_TEXT) if isinstance(value, str) else value for value in params]


class Cursor(psycopg.Cursor[tuple[Any, ...]]):
    """A cursor that takes and gives values as the server stores them, and knows whether it has changed anything."""

    wrote = False

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        super().__init__(connection)
        self.format = psycopg.pq.Format.BINARY

    def execute(self, query: Any, params: Any = (), **kwargs: Any) -> Cursor:
        """As of a DBAPI cursor. Raises TextRefused for a text with a NUL that would be stored."""
        if not query.startswith("SELECT"):
            self.wrote = True
        for value in params:
            if value.__class__ is str and "\0" in value:
                params = _without_nul(query, params)
                break
        super().execute(query, params, **kwargs)
        return self

    def control(self, text: str) -> str:
        """Run one or more statements that steer the transaction, in one round trip; what the last one became."""
        self.format = psycopg.pq.Format.TEXT
        try:
            super().execute(text.encode(), None, prepare=False)
        finally:
            self.format = psycopg.pq.Format.BINARY
        while self.nextset():
            pass
        return self.statusmessage or ""


class Postgres:
    """One database and how to open it."""

    def __init__(self, url: str) -> None:
        self._url = url
        try:
            self._given = conninfo.conninfo_to_dict(url)
        except psycopg.Error as error:
            raise CatalogRefused(
                "the catalog's URL can't be read: postgresql://USER@HOST:PORT/DATABASE"
            ) from error
        self._lock = threading.Lock()
        self._not_before = 0.0

    @property
    def dialect(self) -> Dialect:
        """What compiles statements for it."""
        return _DIALECT

    @property
    def name(self) -> str:
        """For messages: where it is, without what is secret."""
        given = self._given
        return f"{given.get('host', 'localhost')}:{given.get('port', 5432)}/{given.get('dbname', '')}"

    def connect(self) -> psycopg.Connection[Any]:
        """A connection in autocommit mode. Raises CatalogBusy when the server is out of reach; so many who ask get
        that without trying, until a pause is over."""
        with self._lock:
            if time.monotonic() < self._not_before:
                raise CatalogBusy("the catalog's database is out of reach")
        try:
            return self._connected()
        except psycopg.Error as error:
            with self._lock:
                self._not_before = time.monotonic() + _RETRY_PAUSE_S
            log.warning("no connection to the catalog at %s: %s", self.name, str(error).strip())
            raise CatalogBusy("the catalog's database is out of reach") from error

    def _connected(self) -> psycopg.Connection[Any]:
        defaults: dict[str, Any] = {
            "connect_timeout": _CONNECT_WAIT_S,
            "tcp_user_timeout": _UNANSWERED_MS,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "application_name": APPLICATION,
            "target_session_attrs": "read-write",
        }
        given = defaults | self._given | {"client_encoding": "UTF8"}
        connection = psycopg.connect(**given, autocommit=True, prepare_threshold=1)
        try:
            self._refuse_encoding(connection.info.parameter_status("server_encoding"))
            connection.prepared_max = _STATEMENTS_PREPARED
            adapters = connection.adapters
            # One type for all integers: otherwise each size of each of them would be a prepared statement of its own.
            adapters.register_dumper(int, Int8BinaryDumper)
            adapters.register_loader("numeric", _WholeNumber)
            adapters.register_loader("numeric", _WholeNumberText)
            # P1: a commit is on the disk when it is answered, whatever the server's own default.
            connection.execute(_KEPT_SYNCHRONOUS, prepare=False)
            if _is_postgres(connection):
                wait_ms = random.randint(*_LOCK_WAIT_MS)  # noqa: S311 - any will do
                settings = f"{_POSTGRES_ONLY}; {_NO_ABANDONED_LOCKS}; SET lock_timeout = {wait_ms}"
                connection.execute(settings.encode(), prepare=False)
        except BaseException:
            connection.close()
            raise
        return connection

    def _refuse_encoding(self, encoding: str | None) -> None:
        """Text of any language goes in and comes back as it was, in the order of its bytes, in UTF-8 only."""
        if encoding not in {"UTF8", None}:
            raise CatalogRefused(
                f"the database {self.name} has the encoding {encoding}, Trivet needs UTF8: make another with "
                "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and name that one"
            )

    def engine(self, connection: psycopg.Connection[Any]) -> sa.Engine:
        """A SQLAlchemy engine over one open connection, which it closes, for a migration."""
        connection.autocommit = False
        return sa.create_engine("postgresql+psycopg://", creator=lambda: connection, poolclass=NullPool)


_DIALECT: Dialect = PGDialect_psycopg(paramstyle="format")  # type: ignore[no-untyped-call]


def _is_postgres(connection: psycopg.Connection[Any]) -> bool:
    row = connection.execute("SELECT version()", prepare=False).fetchone()
    return row is not None and row[0].startswith("PostgreSQL")


def revision_of(connection: psycopg.Connection[Any]) -> str | None:
    """The schema revision of the database, None when it has none."""
    if connection.execute("SELECT to_regclass('alembic_version')").fetchone() == (None,):
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return row[0] if row else None


class Link:
    """A thread's connection, made when it is needed and again after it was lost."""

    def __init__(self, database: Postgres) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None
        self._cursor: Cursor | None = None
        self.severed = False

    def cursor(self) -> Cursor:
        """The cursor of an open connection. Raises CatalogBusy."""
        if self._cursor is None:
            connection = self._database.connect()
            with self._lock:
                self._connection = connection
                self._cursor = Cursor(connection)
                self.severed = False
        self._cursor.wrote = False
        return self._cursor

    def reader(self) -> Reader:
        """A reader on it. Raises CatalogBusy."""
        return Reader(cast(statement.Cursor, self.cursor()), self._database.dialect)

    def is_lost(self, error: BaseException) -> bool:
        """Whether the error is of the connection and not of the statement."""
        connection = self._connection
        return connection is None or connection.broken or connection.closed or _state(error).startswith(_LOST)

    def drop(self) -> None:
        """Close it; the next use makes a new one."""
        with self._lock:
            connection, self._connection, self._cursor = self._connection, None, None
            if connection is not None:
                connection.close()

    def sever(self) -> None:
        """Cut the connection under a thread that waits for an answer on it: it gets an error. From any thread."""
        with self._lock:
            if self._connection is None or self._connection.closed:
                return
            self.severed = True
            log.warning("the catalog's database at %s does not answer: cut off", self._database.name)
            with socket.socket(fileno=os.dup(self._connection.fileno())) as taken:
                try:
                    taken.shutdown(socket.SHUT_RDWR)
                except OSError as error:
                    log.info("the connection was lost already: %s", error)
