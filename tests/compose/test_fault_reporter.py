"""Bad blocks that readers meet reach the repair queue of a real catalog."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from catalog import blobs, work
from catalog.engine import Catalog
from catalog.model import FaultReport, NewBlob, RepairItem
from catalog.transaction import Transaction
from cluster.stripe_read import Fault
from compose import fault_reporter
from compose.fault_reporter import FaultReporter
from tests.catalog.fresh import fresh_catalog

LATER_MS = 1 << 50
EPOCH = 1


def blob_id(number: int) -> bytes:
    """Of an upload epoch that is not behind the horizon."""
    return EPOCH.to_bytes(4, "big") + number.to_bytes(12, "big")


BLOB = blob_id(0)


def know_blobs(tx: Transaction) -> None:
    """What is not in the catalog can't be reported."""
    for number in range(5):
        blobs.add(tx, NewBlob(blob_id(number), 8 << 20, 2, 1, 1 << 20, (1, 2, 3), 8))


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[Catalog]:
    fresh_catalog(tmp_path / "catalog.sqlite", cluster_id=bytes(16))
    opened = Catalog.open(tmp_path / "catalog.sqlite")
    await opened.start()
    await opened.write(know_blobs)
    yield opened
    await opened.close()


@pytest.fixture
async def reporter(catalog: Catalog) -> AsyncIterator[FaultReporter]:
    made = FaultReporter(catalog)
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()


async def queued(catalog: Catalog, count: int) -> list[RepairItem]:
    """The repair queue as soon as it has `count` blobs."""
    async with asyncio.timeout(20):
        while True:
            items = await catalog.read(lambda tx: work.due_repairs(tx, now_ms=LATER_MS, limit=1000))
            if len(items) >= count:
                return items
            await asyncio.sleep(0.01)


async def test_each_fault_is_queued_once(catalog: Catalog, reporter: FaultReporter) -> None:
    for shard in (0, 2, 0, 2):
        reporter.report(Fault(BLOB, 7, shard, shard + 1, "corrupt"))
    (item,) = await queued(catalog, 1)
    assert item.blob_id == BLOB
    assert item.faults == (FaultReport(7, 0, 1, "corrupt"), FaultReport(7, 2, 3, "corrupt"))


async def test_what_waits_is_bounded(
    catalog: Catalog, reporter: FaultReporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fault_reporter, "BLOBS_MAX", 2)
    monkeypatch.setattr(fault_reporter, "FAULTS_PER_BLOB_MAX", 3)
    for blob in range(5):
        for stripe in range(5):
            reporter.report(Fault(blob_id(blob), stripe, 0, 1, "missing"))
    items = await queued(catalog, 2)
    assert [len(item.faults) for item in items] == [3, 3]
