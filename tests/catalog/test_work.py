"""Garbage in two steps (S14, S11), repairs, events."""

import asyncio

import pytest
import sqlalchemy as sa
from msgspec import structs

from catalog import blobs, objects, progress, schema, work
from catalog.engine import Catalog
from catalog.errors import Changed
from catalog.model import ExtraCopy, FaultReport, GarbageItem, NewBlob, RepairItem, Run
from catalog.statement import Statement
from catalog.transaction import Transaction
from tests.catalog.making import Clock, Store, copy, new_blob, put, source_of

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
    tx.execute(blobs.INSERT_GARBAGE, (blob_id, 0, 0, 1, 1, 0, 0, 2, 1))


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


async def test_faults_of_a_blob_gather_in_one_row(catalog: Catalog, bucket_id: int, clock: Clock) -> None:
    """Each once, a bounded number; reported from many requests at a time."""
    blob = new_blob(stripes=100)
    await put(catalog, bucket_id, b"key", blob)
    blob_id = blob.id
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
    told = FaultReport(0, 0, 0, "unreadable")
    await catalog.write(lambda tx: work.report_faults(tx, blob_id, [faults[99], told]))
    (item,) = await catalog.read(lambda reader: work.due_repairs(reader, now_ms=clock.now_ms, limit=10))
    assert item.faults == (told, *faults[:63]), "what is about the blob is not lost among many"
    later = clock.now_ms + 1000
    await catalog.write(lambda tx: work.postpone_repair(tx, blob_id, later))
    assert await catalog.read(lambda reader: work.due_repairs(reader, now_ms=clock.now_ms, limit=10)) == []
    (item,) = await catalog.read(lambda reader: work.due_repairs(reader, now_ms=later, limit=10))
    assert item.attempts == 1
    await catalog.write(lambda tx: work.repaired(tx, blob_id))
    assert await catalog.read(lambda reader: work.due_repairs(reader, now_ms=later, limit=10)) == []


async def _report(catalog: Catalog, blob_id: bytes, *faults: FaultReport) -> None:
    await catalog.write(lambda tx: work.report_faults(tx, blob_id, faults))


async def _repairs(catalog: Catalog, now_ms: int, limit: int = 100) -> list[RepairItem]:
    return await catalog.read(lambda reader: work.due_repairs(reader, now_ms, limit))


async def test_a_repair_that_a_wrong_clock_put_off_is_due(
    catalog: Catalog, bucket_id: int, clock: Clock
) -> None:
    """It was reported by a process whose clock was days ahead. Red when what is due is what is due by now: the
    repair waited for days."""
    blobs = [new_blob(), new_blob()]
    for number, blob in enumerate(blobs):
        await put(catalog, bucket_id, b"%d" % number, blob)
    now_ms = clock.now_ms
    clock.now_ms += 3 * 24 * 3600 * 1000
    await _report(catalog, blobs[0].id, FaultReport(0, 0, 1, "missing"))
    clock.now_ms = now_ms
    await _report(catalog, blobs[1].id, FaultReport(0, 0, 1, "missing"))
    assert [item.blob_id for item in await _repairs(catalog, now_ms)] == [blobs[1].id, blobs[0].id]
    await catalog.write(lambda tx: work.postpone_repair(tx, blobs[1].id, now_ms + 3_600_000))
    assert [item.blob_id for item in await _repairs(catalog, now_ms)] == [blobs[0].id]


async def test_repairs_come_in_order_of_danger(catalog: Catalog, bucket_id: int, clock: Clock) -> None:
    """Those that can lose least first, among those the longest due; a postponed one is passed over, and what
    is reported later can only raise the danger. Red when they come by due time alone."""
    wide = (1, 2, 3, 4, 5, 6)
    made = [structs.replace(new_blob(nodes=wide, stripes=4), k=4, m=2) for _ in range(4)]
    lost = [
        [FaultReport(0, 0, 1, "missing")],
        [FaultReport(2, 0, 1, "missing"), FaultReport(2, 5, 6, "corrupt"), FaultReport(1, 1, 2, "missing")],
        [FaultReport(0, shard, shard + 1, "missing") for shard in range(3)],
        [FaultReport(3, 0, 1, "missing")],
    ]
    for number, (blob, faults) in enumerate(zip(made, lost, strict=True)):
        await put(catalog, bucket_id, b"%d" % number, blob)
        clock.now_ms += 1
        await _report(catalog, blob.id, *faults)
    found = await _repairs(catalog, clock.now_ms)
    assert [(item.blob_id, item.spare) for item in found] == [
        (made[2].id, -1),
        (made[1].id, 0),
        (made[0].id, 1),
        (made[3].id, 1),
    ]
    assert await _repairs(catalog, clock.now_ms, limit=3) == found[:3]
    assert await catalog.read(work.repair_count) == 4
    await catalog.write(lambda tx: work.postpone_repair(tx, made[2].id, clock.now_ms + 1))
    assert [item.blob_id for item in await _repairs(catalog, clock.now_ms, limit=2)] == [
        made[1].id,
        made[0].id,
    ]
    await _report(catalog, made[3].id, FaultReport(3, 1, 2, "missing"))
    assert [item.blob_id for item in await _repairs(catalog, clock.now_ms)] == [
        made[1].id,
        made[3].id,
        made[0].id,
    ]


async def test_only_what_something_refers_to_is_repaired(catalog: Catalog, bucket_id: int) -> None:
    """Nobody will miss the rest, and nothing of it stays on the queue. Red when a report of an unknown blob is
    queued: the steward would look for it on all nodes, again and again."""
    fault = FaultReport(0, 0, 1, "missing")
    unknown, deleted, collected = new_blob(), new_blob(), new_blob()
    await put(catalog, bucket_id, b"deleted", deleted)
    await put(catalog, bucket_id, b"collected", collected)
    await _report(catalog, collected.id, fault)
    await _delete(catalog, bucket_id, b"deleted")
    await _delete(catalog, bucket_id, b"collected")
    for blob in (unknown, deleted):
        await _report(catalog, blob.id, fault)
    assert [item.blob_id for item in await _repairs(catalog, 1 << 60)] == [collected.id]
    assert await catalog.write(lambda tx: work.condemn(tx, collected.id))
    assert await catalog.write(lambda tx: work.collected(tx, collected.id))
    assert await catalog.read(work.repair_count) == 0


async def _due_extra(catalog: Catalog, now_ms: int, limit: int = 100) -> list[ExtraCopy]:
    return await catalog.read(lambda reader: work.due_extra(reader, now_ms, limit))


async def test_s20_extra_copies_are_named_by_sequence(catalog: Catalog, clock: Clock) -> None:
    """Two copies of one block on one node are two, each queued once and due a grace period after it was first
    queued (S21). Red when the sequence is no part of their name, or when queueing again puts it off."""
    blob_id = new_blob().id
    first, second = (ExtraCopy(blob_id, 3, 1, 2, sequence) for sequence in (7, 8))
    await catalog.write(lambda tx: work.queue_extra(tx, [first, second, first]))
    due_ms = clock.now_ms + catalog.settings.grace_ms
    clock.now_ms += 1000
    await catalog.write(lambda tx: work.queue_extra(tx, [first]))
    assert await _due_extra(catalog, due_ms - 1) == []
    assert await _due_extra(catalog, due_ms) == [first, second]
    assert await _due_extra(catalog, due_ms, limit=1) == [first]
    await catalog.write(lambda tx: work.postpone_extra(tx, [first], due_ms + 5))
    assert await _due_extra(catalog, due_ms) == [second]
    await catalog.write(lambda tx: work.extra_done(tx, [second]))
    assert await catalog.read(work.extra_count) == 1
    assert await _due_extra(catalog, due_ms + 5) == [first]


async def test_p7_copies_of_a_blob_that_waits_for_repair_are_kept(
    catalog: Catalog, bucket_id: int, clock: Clock
) -> None:
    """One of them may be the last good one: the layout's own was just found bad. Red when `due_extra` hands them
    out all the same."""
    blob, sound = new_blob(), new_blob()
    await put(catalog, bucket_id, b"key", blob)
    copies = [ExtraCopy(blob.id, 0, 0, 9, 1), ExtraCopy(sound.id, 0, 0, 9, 2)]
    await catalog.write(lambda tx: work.queue_extra(tx, copies))
    await _report(catalog, blob.id, FaultReport(0, 0, 1, "corrupt"))
    later = clock.now_ms + catalog.settings.grace_ms
    assert await _due_extra(catalog, later) == copies[1:]
    await catalog.write(lambda tx: work.repaired(tx, blob.id))
    assert await _due_extra(catalog, later) == copies


async def test_s20_a_repair_settles_only_the_faults_that_it_knew_of(catalog: Catalog, bucket_id: int) -> None:
    """Red when the row was dropped with what was reported while the repair went on."""
    blob = new_blob(stripes=3)
    await put(catalog, bucket_id, b"key", blob)
    known, later = FaultReport(0, 0, 1, "missing"), FaultReport(2, 1, 2, "corrupt")
    await _report(catalog, blob.id, known)
    (item,) = await _repairs(catalog, 1 << 60)
    await _report(catalog, blob.id, later)
    await catalog.write(lambda tx: work.repaired(tx, blob.id, item.faults))
    (item,) = await _repairs(catalog, 1 << 60)
    assert item.faults == (known, later)
    await catalog.write(lambda tx: work.repaired(tx, blob.id, ()))
    assert await catalog.read(work.repair_count) == 1, "a repair that knew of no row"
    await catalog.write(lambda tx: work.repaired(tx, blob.id, item.faults))
    assert await catalog.read(work.repair_count) == 0
    await catalog.write(lambda tx: work.repaired(tx, blob.id, item.faults))


async def test_garbage_of_any_layout_names_every_copy(catalog: Catalog, bucket_id: int) -> None:
    """A degraded layout has more entries than shards: which shard an entry is needs k and m, that of a deleted
    blob as that of an abandoned one. Red when `release` or `abandon` leaves them out."""
    degraded = structs.replace(
        new_blob(stripes=5), nodes=(1, 1, 0, 2, 2, 0), runs=(Run(2, (1, 2, 3)), Run(4, (3, 3, 0, 2, 2, 0)))
    )
    abandoned = structs.replace(degraded, id=new_blob().id)
    await put(catalog, bucket_id, b"key", degraded)
    await _delete(catalog, bucket_id, b"key")
    catalog.abandon(abandoned)
    await catalog.write(lambda tx: None)
    items = await _due(catalog)
    assert {item.blob_id for item in items} == {degraded.id, abandoned.id}
    for item in items:
        assert (item.k, item.m, item.width, item.nodes, item.runs) == (2, 1, 3, degraded.nodes, degraded.runs)
        copies = {
            (stripe, entry % item.width, node)
            for stripe in range(item.stripes)
            for entry, node in enumerate(item.nodes_at(stripe))
            if node
        }
        assert copies == {
            *((stripe, shard, node) for stripe in (0, 1) for shard in (0, 1) for node in (1, 2)),
            *((stripe, shard, shard + 1) for stripe in (2, 3) for shard in (0, 1, 2)),
            *((4, shard, node) for shard in (0, 1) for node in (3, 2)),
        }


async def test_garbage_that_waits_for_a_node_gives_way_until_it_is_back(
    catalog: Catalog, clock: Clock
) -> None:
    """Also after a restart of the steward. Red when parked rows keep their time: they came first again and again."""
    first, second, third = new_blob(), new_blob(), new_blob()
    for blob in (first, second, third):
        clock.now_ms += 1
        catalog.abandon(blob)
        await catalog.write(lambda tx: None)
    later = clock.now_ms + 2 * catalog.settings.grace_ms
    await catalog.write(lambda tx: work.park_garbage(tx, [first.id], 3))
    await catalog.write(lambda tx: work.park_garbage(tx, [second.id], 2))
    assert [item.blob_id for item in await _due(catalog, 1 << 61)] == [third.id]
    assert await catalog.read(work.garbage_count) == 3
    assert not await catalog.read(lambda reader: work.parked_garbage(reader, 1))
    assert await catalog.write(lambda tx: work.unpark_garbage(tx, 1, limit=10)) == 0
    assert await catalog.read(lambda reader: work.parked_garbage(reader, 3))
    assert await catalog.write(lambda tx: work.unpark_garbage(tx, 3, limit=10)) == 1
    assert {item.blob_id for item in await _due(catalog, later)} == {third.id, first.id}


async def test_old_events_are_forgotten(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flapping node must not fill the catalog; the newest can be had first."""
    monkeypatch.setattr(work, "_EVENTS_KEPT", 5)

    def record(tx: Transaction) -> None:
        for number in range(8):
            work.record_event(tx, "flapped", node=number)

    await catalog.write(record)
    assert [event.node for event in await catalog.read(work.list_events)] == [3, 4, 5, 6, 7]
    newest = await catalog.read(lambda reader: work.list_events(reader, limit=2, newest_first=True))
    assert [event.node for event in newest] == [7, 6]


async def test_progress_is_kept_by_name(store: Store, catalog: Catalog, clock: Clock) -> None:
    """And read by another process."""
    other = store.open(clock)
    await other.start()
    assert await catalog.read(lambda reader: progress.read(reader, "scrub")) is None
    for state in (b"half", b"most"):
        await catalog.write(lambda tx, s=state: progress.write(tx, "scrub", s))  # type: ignore[misc]
        await catalog.write(lambda tx: progress.write(tx, "repair", b"other"))
        assert await other.read(lambda reader: progress.read(reader, "scrub")) == state
    await other.close()


async def test_events_are_kept_in_order(catalog: Catalog, clock: Clock) -> None:
    """With their times, in pages."""
    await catalog.write(lambda tx: work.record_event(tx, "detected", node=2, detail="no reply"))
    clock.now_ms += 5
    await catalog.write(lambda tx: work.record_event(tx, "recovered", node=2))
    first, second = await catalog.read(work.list_events)
    assert (first.kind, first.node, first.detail) == ("detected", 2, "no reply")
    assert second.at_ms - first.at_ms == 5
    assert await catalog.read(lambda reader: work.list_events(reader, after=first.number)) == [second]
