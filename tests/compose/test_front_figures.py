"""A front's recorder as the process makes it: gauges from its parts, a history that is saved at the end and bounded."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from catalog import buckets, history
from catalog.engine import Catalog
from catalog.errors import CatalogBusy
from catalog.history import MINUTE_MS, Figures
from cluster.budget import ByteBudget
from cluster.topology import NodeSet
from compose import front_figures
from compose.data_dir import DataDir
from compose.front_figures import HISTORY_MS, recorder
from s3front.metrics.layout import GAUGES
from s3front.metrics.requests import RequestMetrics
from tests.catalog.making import SqliteStore, small_settings


@pytest_asyncio.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[Catalog]:
    store = SqliteStore(tmp_path)
    opened = Catalog.open(store.path, small_settings())
    await opened.start()
    yield opened
    await opened.close()


def _place(tmp_path: Path) -> DataDir:
    (tmp_path / "run").mkdir()
    return DataDir(tmp_path)


def _count(requests: RequestMetrics, operation: str) -> None:
    tally = requests.begin()
    tally.operation, tally.status = operation, 200
    requests.end(tally)


async def _kept(catalog: Catalog) -> list[tuple[int, str, Figures]]:
    return await catalog.read(lambda reader: list(history.read(reader, 0, 1 << 60)))


async def test_what_was_counted_is_saved_at_the_end_and_the_oldest_is_dropped(
    catalog: Catalog, tmp_path: Path
) -> None:
    """Red when the end does not flush, and when a flush does not trim: the table would grow for ever."""
    now_ms = time.time_ns() // 1_000_000
    minute_ms = now_ms // MINUTE_MS * MINUTE_MS
    figures = {"GetObject": Figures(count=1)}
    too_old_ms, still_kept_ms = minute_ms - HISTORY_MS - 2 * MINUTE_MS, minute_ms - HISTORY_MS + 5 * MINUTE_MS
    await catalog.write(lambda tx: history.add(tx, too_old_ms, figures))
    await catalog.write(lambda tx: history.add(tx, still_kept_ms, figures))
    budget = ByteBudget(1000)
    async with recorder(
        _place(tmp_path), "front-1", catalog, NodeSet([], {}), write_budget=budget, read_budget=budget
    ) as requests:
        _count(requests, "PutObject")
    found = await _kept(catalog)
    assert [(minute, name, each.count) for minute, name, each in found[:1]] == [
        (still_kept_ms, "GetObject", 1)
    ]
    assert [(name, each.count) for minute, name, each in found[1:]] == [("PutObject", 1)]
    assert abs(found[1][0] - minute_ms) <= MINUTE_MS


async def test_gauges_and_commits_are_those_of_the_parts(catalog: Catalog, tmp_path: Path) -> None:
    """Red when a gauge has no source, a free figure is told as a used one, or commits are not listened to."""
    write_budget, read_budget = ByteBudget(1000), ByteBudget(2000)
    async with recorder(
        _place(tmp_path),
        "front-1",
        catalog,
        NodeSet([], {}),
        write_budget=write_budget,
        read_budget=read_budget,
    ) as requests:
        assert write_budget.try_acquire(300)
        assert read_budget.try_acquire(50)
        requests.begin()
        await catalog.write(lambda tx: buckets.create(tx, name="bucket", owner="owner", region="region"))
        (reading,) = requests.read_all()
        told = requests.layout.gauges(reading.slots)
        assert told == dict.fromkeys(GAUGES, 0) | {
            "requests_in_flight": 1,
            "write_budget_used_bytes": 300,
            "write_budget_bytes": 1000,
            "read_budget_used_bytes": 50,
            "read_budget_bytes": 2000,
        }
        assert requests.layout.commit_writes(reading.slots) == {1: 1}
        assert (tmp_path / "run" / "metrics" / "front-1.slots").exists()


async def test_a_catalog_that_refuses_at_the_end_does_not_keep_the_front(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Red when the front's last flush may fail its stop."""

    def busy(*_: object, **__: object) -> None:
        raise CatalogBusy("of the test")

    monkeypatch.setattr(front_figures, "_added", busy)
    budget = ByteBudget(1000)
    async with recorder(
        _place(tmp_path), "front-1", catalog, NodeSet([], {}), write_budget=budget, read_budget=budget
    ) as requests:
        _count(requests, "PutObject")
    assert "are lost" in caplog.text
    assert await _kept(catalog) == []
