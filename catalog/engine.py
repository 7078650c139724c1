"""The catalog as its users see it: open, read, write. What differs between engines is in `sqlite.py`,
and in `writer.py` as far as SQLite has one writer at a time."""

from __future__ import annotations

import logging
import os
import time
from asyncio import AbstractEventLoop
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from msgspec import Struct

from catalog import blobs, layouts, migrating, schema, sqlite, transaction
from catalog.ballast import Ballast
from catalog.configuration import Configuration
from catalog.errors import CatalogFailed, CatalogRefused
from catalog.lock import FileLock, lock_path
from catalog.model import Meta, NewBlob, PartRef
from catalog.new_file import made_whole, refuse_occupied
from catalog.read_pool import ReadPool
from catalog.side_thread import SideThread
from catalog.statement import Parameters, Reader, Row, Statement
from catalog.transaction import PlacementNumbers, Transaction
from catalog.writer import Writer, WriterSettings

log = logging.getLogger(__name__)
T = TypeVar("T")

_MANIFEST_PARTS_CACHED = 20_000
_MIGRATION_WAIT_S = 5.0


class CatalogSettings(Struct, frozen=True):
    """Limits and sizes of one process's catalog."""

    lock_wait_s: float = 2.0
    waiting_writes_max: int = 4096
    waiting_reads_max: int = 1024
    abandoned_blobs_max: int = 16_384
    batch_writes_max: int = 64
    read_threads: int = 2
    wal_bytes_max: int = 16 << 20
    ballast_bytes: int = 16 << 20
    mmap_bytes: int = 1 << 30
    cache_bytes: int = 32 << 20
    grace_ms: int = 15 * 60_000
    day_ms: int = 86_400_000
    """How long a day of a lifecycle rule lasts; shorter only to try rules."""


class Runtime(Struct, frozen=True):
    """Where calls that block are made, and what time they take. The simulation has neither threads nor real time."""

    side_thread: Callable[[str, AbstractEventLoop], SideThread] = SideThread
    read_pool: Callable[..., ReadPool] = ReadPool
    monotonic: Callable[[], float] = time.monotonic


def wall_clock_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def end_process(error: BaseException) -> None:
    """The default answer to an unknown commit (S11); the log has the cause."""
    logging.shutdown()
    os._exit(70)


def create(
    path: Path,
    *,
    cluster_id: bytes,
    nodes_hold_data: bool,
    settings: CatalogSettings = CatalogSettings(),  # noqa: B008 - frozen
    clock: Callable[[], int] = wall_clock_ms,
    random: Callable[[int], bytes] = os.urandom,
) -> None:
    """Make a new, empty catalog with an identity of its own, whole or not at all. Raises CatalogRefused when
    there is one, or when node directories hold data: an empty catalog would call all of it garbage (S18)."""
    sqlite.check_version(sqlite.runtime_version())
    refuse_occupied(path)
    if nodes_hold_data:
        raise CatalogRefused(
            f"{path} is missing but node directories hold data: restore the catalog, "
            "or start with empty node directories"
        )
    with made_whole(path) as growing:
        database = _database(growing, settings)
        connection = database.initialise()
        migrating.migrate(database.engine(connection))
        # The engine has closed the connection; the last one out folds the log into the file.
        connection = database.connect(query_only=False)
        now_ms = clock()
        values = (1, random(16), cluster_id, 1, 1, 0, 1, 0, now_ms, now_ms)
        connection.execute(_INSERT_META.text(database.dialect), values)
        connection.close()


_INSERT_META = Statement(
    schema.meta.insert(),
    "id",
    "catalog_id",
    "cluster_id",
    "term",
    "upload_epoch",
    "collect_horizon",
    "config_generation",
    "batch",
    "clock_ms",
    "created_ms",
)


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


class Catalog:
    """One process's door to the catalog. `open`, then `start` on the event loop that will use it; everything
    else on that loop. Several processes may have the same catalog open."""

    def __init__(
        self,
        database: sqlite.Sqlite,
        settings: CatalogSettings,
        clock: Callable[[], int],
        random: Callable[[int], bytes],
        on_fatal: Callable[[BaseException], None],
        *,
        runtime: Runtime,
    ) -> None:
        """Use `open`."""
        self.settings = settings
        self.placements = PlacementNumbers()
        self._database = database
        self._clock = clock
        self._random = random
        self._on_fatal = on_fatal
        self._runtime = runtime
        self._lock = FileLock(lock_path(database.path))
        self._loop_connection = database.connect()
        self._loop_cursor = self._loop_connection.cursor()
        self._loop_reader = Reader(self._loop_cursor, database.dialect)
        self._configuration = Configuration(transaction.read_meta(self._loop_reader))
        self._proved_version = -1
        self._manifests: OrderedDict[bytes, tuple[PartRef, ...]] = OrderedDict()
        self._manifest_parts = 0
        self._pool_connections: list[Any] = []
        self._writer_connection: Any = None
        self._writer: Writer
        self._pool: ReadPool

    @classmethod
    def open(
        cls,
        path: Path,
        settings: CatalogSettings = CatalogSettings(),  # noqa: B008 - frozen
        *,
        clock: Callable[[], int] = wall_clock_ms,
        random: Callable[[int], bytes] = os.urandom,
        on_fatal: Callable[[BaseException], None] = end_process,
        runtime: Runtime | None = None,
        may_migrate: bool = True,
    ) -> Catalog:
        """Open an existing catalog, migrating its schema if it is older. `clock` gives milliseconds since
        1970; `on_fatal` ends the process. `may_migrate`: whether no process of an older release may be at work on it,
        which would not keep what the new schema has (the books of the buckets). Raises CatalogRefused."""
        sqlite.check_version(sqlite.runtime_version())
        if not path.exists():
            raise CatalogRefused(f"there is no catalog at {path}")
        database = _database(path, settings)
        _bring_up_to_date(database, may_migrate=may_migrate)
        return cls(database, settings, clock, random, on_fatal, runtime=runtime or Runtime())

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
            settings=WriterSettings(
                lock_wait_s=settings.lock_wait_s,
                waiting_writes_max=settings.waiting_writes_max,
                abandoned_blobs_max=settings.abandoned_blobs_max,
                batch_writes_max=settings.batch_writes_max,
                wal_bytes_max=settings.wal_bytes_max,
            ),
            begin=self._begin,
            data_version=lambda: sqlite.data_version(self._loop_cursor),
            on_fatal=self._on_fatal,
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
        return Transaction(
            cursor,
            self._database.dialect,
            now_ms=self._clock(),
            grace_ms=self.settings.grace_ms,
            day_ms=self.settings.day_ms,
            random=self._random,
            placements=self.placements,
        )

    @property
    def path(self) -> Path:
        """The file; its log lies beside it."""
        return self._database.path

    @property
    def waiting_writes(self) -> int:
        """Requests that no group commit has taken up yet."""
        return self._writer.waiting

    def tell_commits(self, heard: Callable[[int, float], None]) -> None:
        """From now on call `heard` on the loop with each group commit that wrote: how many requests it had, and how
        many seconds it took to make it durable."""
        self._writer.on_commit = heard

    async def write(
        self, function: Callable[[Transaction], T], *, blob: NewBlob | None = None, frees: bool = False
    ) -> T:
        """Run `function` in a transaction; return its result once that is durable (S12), or raise what it
        raised, with nothing of it committed. It runs on the loop, between others of the same group commit: it
        must be short and must not await. Once called, the outcome no longer depends on the caller: cancelling
        changes nothing (S11). `blob`: what the request would commit; whenever this does not return, the writer
        queues it as garbage itself, so neither abandon it nor use it again. `frees`: the request gives
        space back (deletes, collection) and passes when the disk is full (S27). Raises CatalogBusy,
        CatalogFull, CatalogFailed, CommitUnknown."""
        self._writer.settle()
        return await self._writer.submit(function, blob, frees)  # type: ignore[no-any-return]

    def abandon(self, blob: NewBlob) -> None:
        """Queue a blob that was written and will not be committed, or was written in part, as garbage: later,
        and without an answer. Not for blobs that were handed to `write`."""
        self._writer.abandon(blob)

    async def read(self, function: Callable[[Reader], T]) -> T:
        """Run a scan in a read thread; all of it sees one moment. Raises CatalogBusy,
        CatalogFailed and what `function` raises."""
        self._settle()
        return await self._pool.run(function)

    async def point(self, statement: Statement, parameters: Parameters = ()) -> list[Row]:
        """The few rows of a point read, on the loop's own connection; nothing stays open (S16)."""
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

    @property
    def known_configuration(self) -> Configuration:
        """Cached configuration as last proved, for a caller that compares its generation with one read later."""
        return self._configuration

    async def _prove(self, version: int) -> None:
        (generation,) = (await self.point(_GENERATION))[0]
        if generation != self._configuration.meta.config_generation:
            self._configuration = Configuration(await self.read(transaction.read_meta))
        self._proved_version = version

    async def meta(self) -> Meta:
        """Identity, term, upload epoch and horizon, as of now."""
        return (await self.configuration()).meta

    async def placement(self, number: int) -> tuple[int, ...]:
        """The node numbers behind a placement that the process has not met yet."""
        return await self.read(lambda reader: layouts.nodes_of(reader, self.placements, number))

    async def manifest(self, blob_id: bytes) -> tuple[PartRef, ...] | None:
        """The parts of a composite blob, which never change; None when it is gone. The last ones are kept."""
        known = self._manifests.get(blob_id)
        if known is not None:
            self._manifests.move_to_end(blob_id)
            return known
        rows = await self.point(blobs.MANIFEST, (blob_id,))
        if not rows:
            return None
        manifest = blobs.unpack_manifest(rows[0][0])
        self._manifests[blob_id] = manifest
        self._manifest_parts += len(manifest)
        while self._manifest_parts > _MANIFEST_PARTS_CACHED and len(self._manifests) > 1:
            _, oldest = self._manifests.popitem(last=False)
            self._manifest_parts -= len(oldest)
        return manifest
