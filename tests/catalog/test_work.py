"""Garbage in two steps (S14, S11), repairs, events."""

import asyncio

import pytest
import sqlalchemy as sa

from catalog import blobs, objects, schema, work
from catalog.engine import Catalog
from catalog.errors import Changed
from catalog.model import FaultReport, GarbageItem, NewBlob, Run
from catalog.statement import Statement
from catalog.transaction import Transaction
from tests.catalog.making import Clock, copy, new_blob, put, source_of

_ALL_BLOBS = Statement(sa.select(schema.blobs.c.id))
_LEFTOVERS = Statement(
    sa.union_all(sa.select(schema.blob_runs.c.blob_id), sa.select(schema.manifests.c.blob_id))
)


async def _due(catalog: Catalog, now_ms: int = 1 << 60) -> list[GarbageItem]:
    return await catalog.read(
        lambda reader: work.due_garbage(reader, catalog.placements, now_ms=now_ms, limit=100)
    )


async def _delete(catalog: Catalog, bucket_id: int, key: bytes) -> None:
    await catalog.write(lambda tx: objects.delete(tx, bucket_id=bucket_id, key=key))


def _queue(tx: Transaction, blob_id: bytes) -> None:
    tx.execute(blobs.INSERT_GARBAGE, (blob_id, 0, 0, 1, 1, 0, 0))


async def test_from_due_to_collected(catalog: Catalog, bucket_id: int) -> None:
    """A condemned blob stays on the queue, marked, until its collection is reported; then nothing is left."""
    plain = new_blob(nodes=(2, 3, 1), stripes=3)
    blob = NewBlob(plain.id, 3 << 20, 2, 1, 1 << 20, plain.nodes, 3, (Run(1, (2, 3, 2)),))
    await put(catalog, bucket_id, b"key", blob)
    await _delete(catalog, bucket_id, b"key")
    (item,) = await _due(catalog)
    assert (item.blob_id, item.condemned, item.stripes, item.parts) == (blob.id, False, 3, 0)
    condemned = await catalog.write(lambda tx: work.condemn(tx, blob.id))
    assert condemned is not None
    assert (condemned.condemned, condemned.nodes, condemned.runs) == (True, (2, 3, 1), blob.runs)
    assert await _due(catalog) == [condemned]
    assert await catalog.write(lambda tx: work.condemn(tx, blob.id)) == condemned
    assert await catalog.write(lambda tx: work.collected(tx, blob.id))
    assert await _due(catalog) == []
    assert await catalog.read(lambda reader: reader.rows(_ALL_BLOBS)) == []
    assert await catalog.read(lambda reader: reader.rows(_LEFTOVERS)) == []
    assert await catalog.write(lambda tx: work.collected(tx, blob.id))
    assert await catalog.write(lambda tx: work.condemn(tx, blob.id)) is None


async def test_s14_a_referenced_blob_is_not_condemned(catalog: Catalog, bucket_id: int) -> None:
    """However it came on the queue. Break caught: `condemn` that does not count references."""
    blob = new_blob()
    await put(catalog, bucket_id, b"key", blob)
    await catalog.write(lambda tx: _queue(tx, blob.id))
    assert len(await _due(catalog)) == 1
    assert await catalog.write(lambda tx: work.condemn(tx, blob.id)) is None
    assert await _due(catalog) == []
    await copy(catalog, await source_of(catalog, bucket_id, b"key"), bucket_id, b"copy")


async def test_s14_a_condemned_blob_cannot_be_referenced(catalog: Catalog, bucket_id: int) -> None:
    """Between the two steps nothing may take it up again. Break caught: `add_reference` without the
    condition on `condemned`."""
    blob = new_blob()
    await put(catalog, bucket_id, b"key", blob)
    await _delete(catalog, bucket_id, b"key")
    await catalog.write(lambda tx: work.condemn(tx, blob.id))
    with pytest.raises(Changed):
        await catalog.write(lambda tx: blobs.add_reference(tx, blob.id))


async def test_s14_only_what_was_condemned_is_collected(catalog: Catalog, bucket_id: int) -> None:
    """Skipping the first step is our mistake and leaves everything as it was."""
    blob = new_blob()
    await put(catalog, bucket_id, b"key", blob)
    await _delete(catalog, bucket_id, b"key")
    with pytest.raises(AssertionError):
        await catalog.write(lambda tx: work.collected(tx, blob.id))
    assert len(await _due(catalog)) == 1


async def test_an_abandoned_blob_without_a_row(catalog: Catalog, clock: Clock) -> None:
    """What an unfinished upload may have left on nodes, with its runs, goes the same way."""
    plain = new_blob(nodes=(5, 6, 7), stripes=9)
    blob = NewBlob(plain.id, 0, 2, 1, 1 << 20, plain.nodes, 9, (Run(4, (5, 6, 5)),))
    catalog.abandon(blob)
    await catalog.write(lambda tx: None)
    assert await _due(catalog, clock.now_ms) == []
    (item,) = await _due(catalog, clock.now_ms + catalog.settings.grace_ms)
    assert (item.blob_id, item.stripes, item.nodes, item.runs) == (blob.id, 9, (5, 6, 7), blob.runs)
    assert await catalog.write(lambda tx: work.condemn(tx, blob.id))
    assert await catalog.write(lambda tx: work.collected(tx, blob.id))
    assert await _due(catalog) == []
    assert await catalog.read(lambda reader: reader.rows(_LEFTOVERS)) == []


async def test_garbage_comes_oldest_first(catalog: Catalog, clock: Clock) -> None:
    """By due time, in pages."""
    expected = []
    for _ in range(5):
        clock.now_ms += 10
        blob = new_blob()
        catalog.abandon(blob)
        await catalog.write(lambda tx: None)
        expected.append(blob.id)
    items = await catalog.read(
        lambda reader: work.due_garbage(reader, catalog.placements, now_ms=1 << 60, limit=3)
    )
    assert [item.blob_id for item in items] == expected[:3]


async def test_faults_of_a_blob_gather_in_one_row(catalog: Catalog, clock: Clock) -> None:
    """Each once, a bounded number; reported from many requests at a time."""
    blob_id = new_blob().id
    faults = [FaultReport(stripe, stripe % 3, 1, "missing") for stripe in range(100)]
    await asyncio.gather(
        *(
            catalog.write(lambda tx, f=fault: work.report_faults(tx, blob_id, [f, f]))  # type: ignore[misc]
            for fault in faults
        )
    )
    (item,) = await catalog.read(lambda reader: work.due_repairs(reader, now_ms=clock.now_ms, limit=10))
    assert (item.blob_id, item.attempts, item.reported_ms) == (blob_id, 0, clock.now_ms)
    assert item.faults == tuple(faults[:64])
    later = clock.now_ms + 1000
    await catalog.write(lambda tx: work.postpone_repair(tx, blob_id, later))
    assert await catalog.read(lambda reader: work.due_repairs(reader, now_ms=clock.now_ms, limit=10)) == []
    (item,) = await catalog.read(lambda reader: work.due_repairs(reader, now_ms=later, limit=10))
    assert item.attempts == 1
    await catalog.write(lambda tx: work.repaired(tx, blob_id))
    assert await catalog.read(lambda reader: work.due_repairs(reader, now_ms=later, limit=10)) == []


async def test_events_are_kept_in_order(catalog: Catalog, clock: Clock) -> None:
    """With their times, in pages."""
    await catalog.write(lambda tx: work.record_event(tx, "detected", node=2, detail="no reply"))
    clock.now_ms += 5
    await catalog.write(lambda tx: work.record_event(tx, "recovered", node=2))
    first, second = await catalog.read(work.list_events)
    assert (first.kind, first.node, first.detail) == ("detected", 2, "no reply")
    assert second.at_ms - first.at_ms == 5
    assert await catalog.read(lambda reader: work.list_events(reader, after=first.number)) == [second]
