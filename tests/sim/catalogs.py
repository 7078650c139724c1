"""The real catalog on SQLite, without threads: what blocks is done at once, its answer comes after a while."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from catalog import buckets, engine, nodes
from catalog.embedded import EmbeddedCatalog
from catalog.engine import Catalog, CatalogSettings, Runtime
from catalog.errors import CatalogFailed
from catalog.read_pool import ReadPool
from catalog.side_thread import SideThread
from catalog.sqlite import DriverError
from catalog.statement import Reader
from catalog.transaction import Transaction
from tests.sim.clocks import EPOCH_MS
from tests.sim.loop import SimLoop
from tests.sim.node import CLUSTER_ID

T = TypeVar("T")

BUCKET = "bucket"
GRACE_MS = 20_000


class InlineThread(SideThread):
    """Makes its call at once; the news of it arrives a little later, or never: a crash may lie between."""

    def __init__(self, loop: SimLoop, chance: random.Random, after_call: Callable[[], None]) -> None:
        self._sim_loop = loop
        self._chance = chance
        self._after_call = after_call

    def start(self, call: Callable[[], None], done: Callable[[Exception | None], None]) -> None:
        error: Exception | None = None
        try:
            call()
        except Exception as raised:  # noqa: BLE001 - as in the thread
            error = raised
        self._after_call()
        self._sim_loop.call_later(0.0003 + 0.002 * self._chance.random(), done, error)

    def settle(self, wait_s: float) -> bool:
        return False

    def close(self) -> None:
        """There is no thread."""


class InlinePool(ReadPool):
    """Scans at once; now and then the result comes late, and so is old."""

    def __init__(self, readers: Sequence[Reader], chance: random.Random) -> None:
        self._reader = readers[0]
        self._chance = chance

    async def run(self, function: Callable[[Reader], T]) -> T:
        try:
            with self._reader.snapshot():
                value = function(self._reader)
        except DriverError as error:
            raise CatalogFailed(str(error)) from error
        if self._chance.random() < 0.3:
            await asyncio.sleep(0.002 * self._chance.random())
        return value

    def settle(self) -> None:
        """Nothing is under way."""

    def close(self) -> None:
        """There are no threads."""


SETTINGS = CatalogSettings(
    ballast_bytes=4096,
    read_threads=1,
    mmap_bytes=0,
    cache_bytes=1 << 20,
    wal_bytes_max=1 << 40,  # no checkpoint: the lock is never held between two callbacks
    grace_ms=GRACE_MS,
    copies=2,
)


def make_template(folder: Path, node_rows: Sequence[tuple[bytes, str, str, str]]) -> Path:
    """A catalog with a bucket and these nodes (id, name, region, host), to be copied for each schedule."""
    path = folder / "template.db"
    engine.create(
        path,
        cluster_id=CLUSTER_ID,
        nodes_hold_data=False,
        settings=SETTINGS,
        clock=lambda: EPOCH_MS,
        random=lambda n: b"sim catalog id.."[:n],
    )

    def found(tx: Transaction) -> None:
        buckets.create(tx, name=BUCKET, owner="owner", region="us-east-1")
        for node_id, name, region, host in node_rows:
            row = nodes.register(tx, node_id=node_id, name=name, region=region, zone="", host=host, port=1)
            nodes.set_state(tx, row.number, nodes.UP)

    async def fill() -> None:
        catalog = Catalog.open(path, SETTINGS, clock=lambda: EPOCH_MS)
        await catalog.start()
        await catalog.write(found)
        await catalog.close()

    asyncio.run(fill())
    return path


def copy_template(template: Path, folder: Path) -> Path:
    """A catalog of its own for a schedule."""
    path = folder / "catalog.db"
    shutil.copyfile(template, path)
    return path


async def open_catalog(
    path: Path,
    loop: SimLoop,
    chance: random.Random,
    *,
    clock: Callable[[], int],
    after_call: Callable[[], None],
    on_fatal: Callable[[BaseException], None],
) -> Catalog:
    """One process's door to it; `clock` is its wall clock. Close its connections with `close_catalog` when the
    process is dead."""

    def pool(readers: Sequence[Reader], *, waiting_max: int) -> ReadPool:
        return InlinePool(readers, chance)

    runtime = Runtime(
        side_thread=lambda name, _: InlineThread(loop, chance, after_call),
        read_pool=pool,
        monotonic=loop.time,
    )
    catalog = Catalog.open(
        path,
        SETTINGS,
        clock=clock,
        random=chance.randbytes,
        on_fatal=on_fatal,
        runtime=runtime,
    )
    await catalog.start()
    return catalog


def close_catalog(catalog: Catalog) -> None:
    """What the kernel does when the process is gone."""
    assert isinstance(catalog, EmbeddedCatalog)
    connections: list[Any] = [
        *catalog._pool_connections,
        catalog._loop_connection,
        catalog._writer_connection,
    ]
    for connection in connections:
        if connection is not None:
            connection.close()
    catalog._lock.close()
