"""The figures of the store: read once for many who ask, kept for as long as reading them is dear, never waited for."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from catalog import buckets, work
from catalog.engine import Catalog
from catalog.errors import CatalogFailed
from catalog.statement import Reader
from catalog.transaction import Transaction
from s3front.metrics.store_figures import KEPT_FOR, StoreWatch
from tests.catalog.making import Clock, SqliteStore


@pytest_asyncio.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[Catalog]:
    opened = SqliteStore(tmp_path).open(Clock())
    await opened.start()
    yield opened
    await opened.close()


class SlowCatalog:
    """The catalog, whose reads take as long as the test wants them to."""

    def __init__(self, catalog: Catalog) -> None:
        self.path = catalog.path
        self.reads = 0
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.fails = False
        self.now_s = 100.0
        self.takes_s = 0.25
        self._catalog = catalog

    async def read(self, function: Callable[[Reader], Any]) -> Any:
        self.reads += 1
        await self.go_on.wait()
        self.now_s += self.takes_s
        if self.fails:
            raise CatalogFailed("of the test")
        return await self._catalog.read(function)

    def watch(self) -> StoreWatch:
        return StoreWatch(self, monotonic=lambda: self.now_s, deadline_s=0.05)  # type: ignore[arg-type]


def _happened(tx: Transaction) -> None:
    buckets.create(tx, name="bucket", owner="owner", region="region")
    work.record_event(tx, "node-down", node=1)


async def test_the_figures_are_those_of_the_catalog(catalog: Catalog) -> None:
    """Red when the log beside the file, or its file system, is looked for in another place."""
    await catalog.write(_happened)
    figures, age_s, well = await StoreWatch(catalog).latest()
    assert figures is not None
    assert well
    assert age_s < 1.0
    assert (figures.totals.buckets, figures.events_kept, figures.events_ever) == (1, {"node-down": 1}, 1)
    assert catalog.path is not None
    assert figures.catalog_bytes == catalog.path.stat().st_size
    assert figures.wal_bytes > 0
    assert figures.disk_free_bytes > 0
    assert figures.lease.holder is None


async def test_what_took_long_is_kept_for_long(catalog: Catalog) -> None:
    """Red when each scrape reads the catalog: watching a large store would be its main work."""
    slow = SlowCatalog(catalog)
    watch = slow.watch()
    await watch.latest()
    slow.now_s += KEPT_FOR * slow.takes_s - 0.01
    _, age_s, well = await watch.latest()
    assert (slow.reads, well) == (1, True)
    assert age_s == pytest.approx(KEPT_FOR * slow.takes_s - 0.01)
    slow.now_s += 0.02
    await watch.latest()
    assert slow.reads == 2


async def test_scrapes_at_the_same_time_share_one_read(catalog: Catalog) -> None:
    """Red when each scrape that finds the figures too old begins a read of its own."""
    slow = SlowCatalog(catalog)
    watch = slow.watch()
    found = await asyncio.gather(*(watch.latest() for _ in range(5)))
    assert slow.reads == 1
    assert all(figures is not None and well for figures, _, well in found)


async def test_a_catalog_that_hangs_is_not_waited_for_and_its_answer_counts_once_it_comes(
    catalog: Catalog,
) -> None:
    """Red when a scrape waits without a limit, begins another read beside the one that hangs, or throws the late
    answer away.
    """
    slow = SlowCatalog(catalog)
    watch = slow.watch()
    before, _, _ = await watch.latest()
    slow.now_s += 1000
    slow.go_on.clear()
    for _ in range(2):
        async with asyncio.timeout(10):
            figures, age_s, well = await watch.latest()
        assert (figures, age_s, well) == (before, 1000, False)
    assert slow.reads == 2
    await catalog.write(_happened)
    slow.go_on.set()
    figures, age_s, well = await watch.latest()
    assert figures is not None
    assert (figures.totals.buckets, age_s, well) == (1, 0.0, True)
    assert slow.reads == 2


async def test_a_catalog_that_fails_is_a_problem_and_not_the_end(catalog: Catalog) -> None:
    """Red when the error reaches the scrape, or a read that failed is never tried again."""
    slow = SlowCatalog(catalog)
    slow.fails = True
    watch = slow.watch()
    assert await watch.latest() == (None, 0.0, False)
    slow.fails = False
    figures, _, well = await watch.latest()
    assert figures is not None
    assert well
