"""The catalog embedded in one SQLite file (S16): what `engine.Catalog` promises, on the loop's own connection where
a statement takes microseconds, and in threads where it takes longer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from catalog import migrating, outbox, schema, sqlite, transaction
from catalog.ballast import Ballast
from catalog.configuration import Configuration
from catalog.engine import INSERT_META, Catalog, CatalogSettings, Runtime, new_meta
from catalog.errors import CatalogBusy, CatalogFailed, CatalogRefused
from catalog.lock import FileLock, lock_path
from catalog.log_records import LogSink
from catalog.model import NewBlob
from catalog.new_file import made_whole
from catalog.read_pool import ReadPool
from catalog.recording import RecordingTransaction
from catalog.replication import Replication
from catalog.statement import Parameters, Reader, Row, Statement, Value
from catalog.transaction import Transaction
from catalog.write_queue import QueueSettings
from catalog.writer import Writer

log = logging.getLogger(__name__)
T = TypeVar("T")

_MIGRATION_WAIT_S = 5.0


def create(path: Path, settings: CatalogSettings, *, cluster_id: bytes, identity: bytes, now_ms: int) -> None:
    """Make the file, whole or not at all. Raises CatalogRefused when there is one."""
    sqlite.check_version(sqlite.runtime_version())
    with made_whole(path) as growing:
        fill(_database(growing, settings), new_meta(identity, cluster_id, now_ms))


def fill(database: sqlite.Sqlite, meta: tuple[Value, ...], revision: str = schema.HEAD_REVISION) -> None:
    """Make an empty file a new catalog, by default of the newest schema."""
    connection = database.initialise()
    migrating.migrate(database.engine(connection), revision)
    # The engine has closed the connection; the last one out folds the log into the file.
    connection = database.connect(query_only=False)
    connection.execute(INSERT_META.text(database.dialect), meta)
    connection.close()


_GENERATION = Statement(sa.select(schema.meta.c.config_generation))


def _bring_up_to_date(database: sqlite.Sqlite, *, may_migrate: bool) -> None:
    connection = database.connect(query_only=False, busy_timeout_ms=int(_MIGRATION_WAIT_S * 1000))
    revision = sqlite.revision_of(connection)
    if revision == schema.HEAD_REVISION:
        connection.close()
        return
    if revision is None:
        connection.close()
        raise CatalogRefused(f"{database.path} is not a catalog")
    if not may_migrate:
        connection.close()
        raise CatalogRefused(
            f"{database.path} is of another release (schema {revision}, this one has {schema.HEAD_REVISION}), and a "
            "store runs on it: stop that, and start it again with the release that is installed now"
        )
    lock = FileLock(lock_path(database.path))
    lock.acquire()
    try:
        migrating.migrate(database.engine(connection))
    finally:
        connection.close()
        lock.close()


def _database(path: Path, settings: CatalogSettings) -> sqlite.Sqlite:
    return sqlite.Sqlite(path, mmap_bytes=settings.mmap_bytes, cache_bytes=settings.cache_bytes)


class EmbeddedCatalog(Catalog):
    """The file `path`. Several processes may have it open; commits take turns by a file lock."""

    def __init__(
        self,
        path: Path,
        settings: CatalogSettings,
        clock: Callable[[], int],
        random: Callable[[int], bytes],
        on_fatal: Callable[[BaseException], None],
        *,
        runtime: Runtime,
        may_migrate: bool,
    ) -> None:
        """Use `Catalog.open`."""
        super().__init__(settings, clock, random)
        sqlite.check_version(sqlite.runtime_version())
        if not path.exists():
            raise CatalogRefused(f"there is no catalog at {path}")
        database = _database(path, settings)
        _bring_up_to_date(database, may_migrate=may_migrate)
        self._database = database
        self._on_fatal = on_fatal
        self._runtime = runtime
        self._lock = FileLock(lock_path(database.path))
        self._loop_connection = database.connect()
        self._loop_cursor = self._loop_connection.cursor()
        self._loop_reader = Reader(self._loop_cursor, database.dialect)
        self._configuration = Configuration(transaction.read_meta(self._loop_reader))
        self._proved_version = -1
        self._pool_connections: list[Any] = []
        self._log_left_at = 0
        self._writer_connection: Any = None
        self._writer: Writer
        self._pool: ReadPool

    async def start(self) -> None:
        """Begin to serve, on the running loop."""
        database, settings = self._database, self.settings
        self._pool_connections = [
            database.connect(busy_timeout_ms=int(settings.lock_wait_s * 1000))
            for _ in range(settings.read_threads)
        ]
        readers = [Reader(connection.cursor(), database.dialect) for connection in self._pool_connections]
        self._pool = self._runtime.read_pool(readers, waiting_max=settings.waiting_reads_max)
        self._writer_connection = database.connect(query_only=False)
        ballast = Ballast(
            database.path.with_name("catalog.ballast"), settings.ballast_bytes, self._runtime.monotonic
        )
        if not ballast.present() and not ballast.restore():
            log.error("no room for the catalog's ballast: only requests that free space pass")
        self._writer = Writer(
            connection=self._writer_connection,
            lock=self._lock,
            ballast=ballast,
            settings=QueueSettings(
                wait_s=settings.lock_wait_s,
                waiting_writes_max=settings.waiting_writes_max,
                batch_writes_max=settings.batch_writes_max,
                abandoned_blobs_max=settings.abandoned_blobs_max,
            ),
            wal_bytes_max=settings.wal_bytes_max,
            begin=self._begin,
            data_version=lambda: sqlite.data_version(self._loop_cursor),
            on_fatal=self._on_fatal,
            replication=self._replication if settings.copies else None,
            side_thread=self._runtime.side_thread,
            monotonic=self._runtime.monotonic,
        )

    async def close(self) -> None:
        """Finish what waits, then close. The last process's close folds the log into the file, which is a
        checkpoint and so happens under the lock; without it the files are left to the process's end."""
        if self._writer_connection is None:  # opened and never started
            self._loop_connection.close()
            self._lock.close()
            return
        locked = await self._writer.finish()
        self._pool.close()
        if locked:
            for connection in (*self._pool_connections, self._loop_connection, self._writer_connection):
                connection.close()
            self._lock.close()

    def _begin(self, cursor: Any) -> Transaction:
        if self.settings.copies:
            return self._transaction(cursor, self._database.dialect, RecordingTransaction)
        plain = self._transaction(cursor, self._database.dialect, Transaction)
        if outbox.position(plain).batch != self._log_left_at:
            self._log_left_at = outbox.leave_log(plain)
        return plain

    def _replication(self, pump: Callable[[], None]) -> Replication:
        cursor = self._writer_connection.cursor()
        return Replication(cursor, self._database.dialect, self._loop_reader, pump)

    def replicate_to(self, sink: LogSink) -> None:
        """See `Catalog.replicate_to`."""
        if self._writer.replication is not None:
            self._writer.replication.replicate_to(sink, self._configuration.meta.catalog_id)

    @property
    def path(self) -> Path:
        """The file; its log lies beside it."""
        return self._database.path

    @property
    def waiting_writes(self) -> int:
        """Requests that no group commit has taken up yet."""
        return self._writer.waiting

    def tell_commits(self, heard: Callable[[int, float], None]) -> None:
        """See `Catalog.tell_commits`."""
        self._writer.on_commit = heard

    async def write(
        self,
        function: Callable[[Transaction], T],
        *,
        blob: NewBlob | None = None,
        frees: bool = False,
        unshipped: bool = False,
    ) -> T:
        """See `Catalog.write`; the function runs on the loop, between others of the same group commit."""
        self._writer.settle()
        replication = self._writer.replication
        if replication is not None and not unshipped and not replication.ready:
            try:
                await replication.wait_ready(self.settings.lock_wait_s)
            except (CatalogBusy, asyncio.CancelledError):
                if blob is not None:
                    self._writer.abandon(blob)
                raise
        return await self._writer.submit(function, blob, frees, unshipped)  # type: ignore[no-any-return]

    def abandon(self, blob: NewBlob) -> None:
        """See `Catalog.abandon`."""
        self._writer.abandon(blob)

    async def read(self, function: Callable[[Reader], T]) -> T:
        """See `Catalog.read`: in a read thread."""
        self._settle()
        return await self._pool.run(function)

    async def point(self, statement: Statement, parameters: Parameters = ()) -> list[Row]:
        """See `Catalog.point`: on the loop's own connection, and nothing stays open (S16)."""
        self._settle()
        try:
            return self._loop_reader.rows(statement, parameters)
        except sqlite.DriverError as error:
            if not sqlite.is_busy(error):
                raise CatalogFailed(str(error)) from error
            return await self._pool.run(lambda reader: reader.rows(statement, parameters))

    def _settle(self) -> None:
        self._writer.settle()
        self._pool.settle()

    async def configuration(self) -> Configuration:
        """Cached configuration, proved to be as of now (S16): 3 µs unless some process has committed."""
        try:
            version = sqlite.data_version(self._loop_cursor)
        except sqlite.DriverError as error:
            if not sqlite.is_busy(error):
                raise CatalogFailed(str(error)) from error
            version = -1
        else:
            self._writer.settle(version)
            self._pool.settle()
        if version != self._proved_version or version == -1:
            await self._prove(version)
        return self._configuration

    async def _prove(self, version: int) -> None:
        (generation,) = (await self.point(_GENERATION))[0]
        if generation != self._configuration.meta.config_generation:
            self._configuration = Configuration(await self.read(transaction.read_meta))
        self._proved_version = version
