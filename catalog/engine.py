"""The catalog as its users see it: open, read, write. What differs between databases is in `embedded.py` (SQLite)
and `postgres_catalog.py`, one class each."""

from __future__ import annotations

import logging
import os
import time
from abc import ABC, abstractmethod
from asyncio import AbstractEventLoop
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct
from sqlalchemy.engine import Dialect

from catalog import blobs, layouts, schema
from catalog.configuration import Configuration
from catalog.errors import CatalogRefused
from catalog.log_records import LogSink
from catalog.model import Meta, NewBlob, PartRef
from catalog.new_file import refuse_occupied
from catalog.read_pool import ReadPool
from catalog.side_thread import SideThread
from catalog.statement import Parameters, Reader, Row, Statement, Value
from catalog.transaction import PlacementNumbers, Transaction

T = TypeVar("T")

_MANIFEST_PARTS_CACHED = 20_000


class CatalogSettings(Struct, frozen=True):
    """Limits and sizes of one process's catalog."""

    lock_wait_s: float = 2.0
    """How long a write waits for its turn at the file."""
    server_wait_s: float = 8.0
    """And how long for PostgreSQL: longer than the server's disk stalls in a commit under load, and than the 4 s after
    which a process that froze in a transaction loses its rows."""
    waiting_writes_max: int = 4096
    waiting_reads_max: int = 1024
    abandoned_blobs_max: int = 16_384
    batch_writes_max: int = 64
    read_threads: int = 2
    wal_bytes_max: int = 16 << 20
    ballast_bytes: int = 16 << 20
    mmap_bytes: int = 1 << 30
    cache_bytes: int = 32 << 20
    connections: int = 4
    """To PostgreSQL, for reads; one more is the writer's."""
    copies: int = 0
    """On how many storage nodes a group commit of the embedded catalog is before it is answered (S17)."""
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
    where: Path | str,
    *,
    cluster_id: bytes,
    nodes_hold_data: bool,
    settings: CatalogSettings = CatalogSettings(),  # noqa: B008 - frozen
    clock: Callable[[], int] = wall_clock_ms,
    random: Callable[[int], bytes] = os.urandom,
) -> None:
    """Make a new, empty catalog with an identity of its own, whole or not at all: in a file, or in the PostgreSQL
    database at a URL. Raises CatalogRefused when there is one, or when node directories hold data: an empty catalog
    would call all of it garbage (S18)."""
    from catalog import embedded, postgres_catalog

    if isinstance(where, Path):
        refuse_occupied(where)
    if nodes_hold_data:
        raise CatalogRefused(
            f"{where if isinstance(where, Path) else 'the catalog'} is missing but node directories hold data: "
            "restore the catalog, or start with empty node directories"
        )
    if isinstance(where, Path):
        embedded.create(where, settings, cluster_id=cluster_id, identity=random(16), now_ms=clock())
    else:
        postgres_catalog.create(where, cluster_id=cluster_id, identity=random(16), now_ms=clock())


INSERT_META = Statement(
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


def new_meta(identity: bytes, cluster_id: bytes, now_ms: int) -> tuple[Value, ...]:
    """The values of INSERT_META for a new catalog."""
    return (1, identity, cluster_id, 1, 1, 0, 1, 0, now_ms, now_ms)


class Catalog(ABC):
    """One process's door to the catalog. `open`, then `start` on the event loop that will use it; everything
    else on that loop. Several processes may have the same catalog open."""

    _configuration: Configuration

    def __init__(
        self, settings: CatalogSettings, clock: Callable[[], int], random: Callable[[int], bytes]
    ) -> None:
        """Use `open`."""
        self.settings = settings
        self.placements = PlacementNumbers()
        self._clock = clock
        self._random = random
        self._manifests: OrderedDict[bytes, tuple[PartRef, ...]] = OrderedDict()
        self._manifest_parts = 0

    @staticmethod
    def open(
        where: Path | str,
        settings: CatalogSettings = CatalogSettings(),  # noqa: B008 - frozen
        *,
        clock: Callable[[], int] = wall_clock_ms,
        random: Callable[[int], bytes] = os.urandom,
        on_fatal: Callable[[BaseException], None] = end_process,
        runtime: Runtime | None = None,
        may_migrate: bool = True,
    ) -> Catalog:
        """Open an existing catalog, migrating its schema if it is older: a file, or the PostgreSQL database at a URL.
        `clock` gives milliseconds since 1970; `on_fatal` ends the process. `may_migrate`: whether no process of an
        older release may be at work on it, which would not keep what the new schema has (the books of the buckets).
        Raises CatalogRefused, and CatalogBusy when a database is out of reach."""
        from catalog import embedded, postgres_catalog

        if isinstance(where, Path):
            return embedded.EmbeddedCatalog(
                where,
                settings,
                clock,
                random,
                on_fatal,
                runtime=runtime or Runtime(),
                may_migrate=may_migrate,
            )
        return postgres_catalog.PostgresCatalog(where, settings, clock, random, may_migrate=may_migrate)

    @abstractmethod
    async def start(self) -> None:
        """Begin to serve, on the running loop."""

    @abstractmethod
    async def close(self) -> None:
        """Finish what waits, then close."""

    def _transaction(
        self, cursor: Any, dialect: Dialect, kind: type[Transaction] = Transaction
    ) -> Transaction:
        return kind(
            cursor,
            dialect,
            now_ms=self._clock(),
            grace_ms=self.settings.grace_ms,
            day_ms=self.settings.day_ms,
            random=self._random,
            placements=self.placements,
        )

    @property
    @abstractmethod
    def path(self) -> Path | None:
        """The file of an embedded catalog; its log lies beside it."""

    @property
    @abstractmethod
    def waiting_writes(self) -> int:
        """Requests that no group commit has taken up yet."""

    @abstractmethod
    def tell_commits(self, heard: Callable[[int, float], None]) -> None:
        """From now on call `heard` on the loop with each group commit that wrote: how many requests it had, and how
        many seconds it took to make it durable."""

    def replicate_to(self, sink: LogSink) -> None:
        """From now on no write is answered before the storage nodes have it (S17); to be called once, after `start`.
        Without copies in the settings nothing changes. Raises CatalogRefused where the database has its own."""
        raise CatalogRefused("this catalog has copies of its own")

    @abstractmethod
    async def write(
        self,
        function: Callable[[Transaction], T],
        *,
        blob: NewBlob | None = None,
        frees: bool = False,
        unshipped: bool = False,
    ) -> T:
        """Run `function` in a transaction; return its result once that is durable (S12), or raise what it
        raised, with nothing of it committed. It runs between others of the same group commit, on the loop or in a
        thread, and again from its beginning when the database asks for that (S13): it must be short, must not await,
        and must leave nothing behind but what it returns. Once called, the outcome no longer depends on the caller:
        cancelling changes nothing (S11). `blob`: what the request would commit; whenever this does not return, the
        writer queues it as garbage itself, so neither abandon it nor use it again. `frees`: the request gives
        space back (deletes, collection) and passes when the disk is full (S27). `unshipped`: the answer need not wait
        for the storage nodes (S17). Raises CatalogBusy, CatalogFull, CatalogFailed, CommitUnknown."""

    @abstractmethod
    def abandon(self, blob: NewBlob) -> None:
        """Queue a blob that was written and will not be committed, or was written in part, as garbage: later,
        and without an answer. Not for blobs that were handed to `write`."""

    @abstractmethod
    async def read(self, function: Callable[[Reader], T]) -> T:
        """Run a scan in a thread; all of it sees one moment. Raises CatalogBusy, CatalogFailed and what
        `function` raises."""

    @abstractmethod
    async def point(self, statement: Statement, parameters: Parameters = ()) -> list[Row]:
        """The few rows of a point read, as of now. Raises CatalogBusy, CatalogFailed."""

    @abstractmethod
    async def configuration(self) -> Configuration:
        """Cached configuration, proved to be as of now (S16)."""

    @property
    def known_configuration(self) -> Configuration:
        """Cached configuration as last proved, for a caller that compares its generation with one read later."""
        return self._configuration

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
