"""Objects: what is stored is found again; conditions; S13, S14 (copy against delete), S19."""

import asyncio

import pytest

from catalog import buckets, leases, lookup, objects, work
from catalog.engine import Catalog
from catalog.errors import BlobAbandoned, Changed, HorizonPassed, NoSuchBucket, NoSuchKey, PreconditionFailed
from catalog.model import Attributes, Checksum, Condition, DeleteResult, NewBlob, Run
from tests.catalog.making import Clock, Store, copy, new_blob, put, source_of


async def _delete(
    catalog: Catalog, bucket_id: int, key: bytes, condition: Condition | None = None
) -> DeleteResult:
    return await catalog.write(
        lambda tx: objects.delete(tx, bucket_id=bucket_id, key=key, condition=condition), frees=True
    )


async def _garbage_ids(catalog: Catalog) -> list[bytes]:
    items = await catalog.read(
        lambda reader: work.due_garbage(reader, catalog.placements, now_ms=1 << 60, limit=1000)
    )
    return [item.blob_id for item in items]


async def test_what_is_put_is_found(catalog: Catalog, bucket_id: int, clock: Clock) -> None:
    """Every field, of a key with odd bytes."""
    key = "prefix//../é\x01\x7f 😀".encode()
    attributes = Attributes(
        headers={"cache-control": "no-store"},
        metadata={"author": "me"},
        checksum=Checksum("CRC64NVME", "FULL_OBJECT", "AAAAAAAAAAA="),
        storage_class="REDUCED_REDUNDANCY",
    )
    blob = new_blob(size=5, nodes=(4, 2, 9))
    result = await put(catalog, bucket_id, key, blob, etag="e" * 32, attributes=attributes)
    assert (result.sequence, result.version_id, result.modified_ms) == (1, None, clock.now_ms)
    row = await lookup.lookup(catalog, bucket_id, key)
    assert row is not None
    assert (row.key, row.size, row.etag, row.content_type) == (key, 5, "e" * 32, "binary/octet-stream")
    assert (row.sequence, row.modified_ms, row.attributes) == (1, clock.now_ms, attributes)
    assert (row.blob.id, row.blob.size, row.blob.k, row.blob.m) == (blob.id, 5, 2, 1)
    assert (row.blob.nodes, row.blob.manifest, row.blob.runs) == ((4, 2, 9), None, ())
    assert await lookup.blob(catalog, blob.id) == row.blob
    assert await lookup.blob(catalog, b"?" * 16) is None
    assert await lookup.blobs_by_id(catalog, [blob.id, b"?" * 16]) == {blob.id: row.blob}


async def test_what_is_put_is_found_by_another_process(
    store: Store, catalog: Catalog, bucket_id: int, clock: Clock
) -> None:
    """Which has met none of its placements (P4)."""
    other = store.open(clock)
    await other.start()
    assert await lookup.lookup(other, bucket_id, b"key") is None
    await put(catalog, bucket_id, b"key", new_blob(nodes=(3, 1, 2)))
    row = await lookup.lookup(other, bucket_id, b"key")
    assert row is not None
    assert row.blob.nodes == (3, 1, 2)
    await put(other, bucket_id, b"other", new_blob(nodes=(3, 1, 2)))
    await other.close()


async def test_s9_a_blob_of_several_runs_keeps_its_layout(catalog: Catalog, bucket_id: int) -> None:
    """The slot that degraded writes will fill: read back, by stripe, also as garbage."""
    plain = new_blob(nodes=(1, 2, 3), stripes=10, size=10 << 20)
    runs = (Run(4, (1, 2, 1)), Run(7, (2, 3, 1)))
    blob = NewBlob(plain.id, plain.size, 2, 1, 1 << 20, plain.nodes, 10, runs)
    await put(catalog, bucket_id, b"key", blob)
    row = await lookup.lookup(catalog, bucket_id, b"key")
    assert row is not None
    assert row.blob.runs == runs
    assert [row.blob.nodes_at(stripe) for stripe in (0, 3, 4, 6, 7, 9)] == [
        (1, 2, 3),
        (1, 2, 3),
        (1, 2, 1),
        (1, 2, 1),
        (2, 3, 1),
        (2, 3, 1),
    ]
    await _delete(catalog, bucket_id, b"key")
    (item,) = await catalog.read(
        lambda reader: work.due_garbage(reader, catalog.placements, now_ms=1 << 60, limit=10)
    )
    assert (item.nodes, item.runs, item.nodes_at(5)) == ((1, 2, 3), runs, (1, 2, 1))


async def test_s13_order_is_counted_not_timed(catalog: Catalog, bucket_id: int, clock: Clock) -> None:
    """The wall clock runs backwards; the last commit is the current version all the same. Break caught: a
    sequence taken from the clock."""
    sequences = []
    for number in range(5):
        clock.now_ms -= 60_000
        result = await put(catalog, bucket_id, b"key", etag=f"etag-{number}")
        sequences.append(result.sequence)
        row = await lookup.lookup(catalog, bucket_id, b"key")
        assert row is not None
        assert (row.etag, row.modified_ms) == (f"etag-{number}", clock.now_ms)
    assert sequences == [1, 2, 3, 4, 5]


async def test_s13_concurrent_versions_have_sequences_of_their_own(
    store: Store, catalog: Catalog, bucket_id: int, clock: Clock
) -> None:
    """Over two openings, as two fronts. Break caught: reading the highest sequence before the transaction."""
    other = store.open(clock)
    await other.start()
    results = await asyncio.gather(*(put(which, bucket_id, b"key") for which in [catalog, other] * 20))
    assert sorted(result.sequence for result in results) == list(range(1, 41))
    assert len(await _garbage_ids(catalog)) == 39
    await other.close()


async def test_an_overwritten_or_deleted_version_becomes_garbage(
    catalog: Catalog, bucket_id: int, clock: Clock
) -> None:
    """Due after the grace period and not before (S21)."""
    first, second = new_blob(), new_blob()
    await put(catalog, bucket_id, b"key", first)
    await put(catalog, bucket_id, b"key", second)
    assert await _garbage_ids(catalog) == [first.id]
    assert await _delete(catalog, bucket_id, b"key") == DeleteResult(existed=True)
    assert await _delete(catalog, bucket_id, b"key") == DeleteResult(existed=False)
    assert sorted(await _garbage_ids(catalog)) == sorted([first.id, second.id])

    async def due(now_ms: int) -> int:
        items = await catalog.read(
            lambda reader: work.due_garbage(reader, catalog.placements, now_ms=now_ms, limit=10)
        )
        return len(items)

    assert await due(clock.now_ms + catalog.settings.grace_ms - 1) == 0
    assert await due(clock.now_ms + catalog.settings.grace_ms) == 2


async def test_conditions(catalog: Catalog, bucket_id: int, clock: Clock) -> None:
    """If-Match and If-None-Match, with and without a current version, on PUT and DELETE (P4)."""

    async def attempt(condition: Condition) -> str:
        try:
            await put(catalog, bucket_id, b"key", etag="new", condition=condition)
        except PreconditionFailed as refused:
            return refused.condition
        except NoSuchKey:
            return "NoSuchKey"
        return "put"

    assert await attempt(Condition(if_match="*")) == "NoSuchKey"
    assert await attempt(Condition(if_match="etag")) == "NoSuchKey"
    assert await attempt(Condition(if_none_match="new")) == "put"
    assert await attempt(Condition(if_none_match="*")) == "If-None-Match"
    assert await attempt(Condition(if_none_match="new")) == "If-None-Match"
    assert await attempt(Condition(if_none_match="other")) == "put"
    assert await attempt(Condition(if_match="other")) == "If-Match"
    assert await attempt(Condition(if_match="new")) == "put"
    assert await attempt(Condition(if_match="*")) == "put"
    modified_ms = clock.now_ms
    for wrong in (
        Condition(if_match="other"),
        Condition(if_match_size=4095),
        Condition(if_match_modified_ms=modified_ms + 1000),
    ):
        with pytest.raises(PreconditionFailed):
            await _delete(catalog, bucket_id, b"key", wrong)
    right = Condition(if_match="new", if_match_size=4096, if_match_modified_ms=modified_ms // 1000 * 1000)
    assert await _delete(catalog, bucket_id, b"key", right) == DeleteResult(existed=True)
    with pytest.raises(NoSuchKey):
        await _delete(catalog, bucket_id, b"key", Condition(if_match="*"))


async def test_a_copy_shares_the_blob(catalog: Catalog, bucket_id: int) -> None:
    """Which is garbage only when both are gone, also when a copy overwrites its own source."""
    blob = new_blob()
    await put(catalog, bucket_id, b"source", blob)
    await copy(catalog, await source_of(catalog, bucket_id, b"source"), bucket_id, b"copy")
    await copy(catalog, await source_of(catalog, bucket_id, b"source"), bucket_id, b"source")
    for key, sequence in ((b"source", 2), (b"copy", 1)):
        row = await lookup.lookup(catalog, bucket_id, key)
        assert row is not None
        assert (row.blob.id, row.sequence, row.size) == (blob.id, sequence, 4096)
    await _delete(catalog, bucket_id, b"source")
    assert await _garbage_ids(catalog) == []
    await _delete(catalog, bucket_id, b"copy")
    assert await _garbage_ids(catalog) == [blob.id]


async def test_s14_a_copy_of_a_source_deleted_meanwhile_starts_over(catalog: Catalog, bucket_id: int) -> None:
    """CopyObject looks its source up, the source is deleted, the copy commits. Break caught: `copy` that
    trusts the blob id it was given brings a deleted blob back."""
    blob = new_blob()
    await put(catalog, bucket_id, b"source", blob)
    source = await source_of(catalog, bucket_id, b"source")
    await _delete(catalog, bucket_id, b"source")
    with pytest.raises(Changed):
        await copy(catalog, source, bucket_id, b"copy")
    assert await lookup.lookup(catalog, bucket_id, b"copy") is None
    assert await _garbage_ids(catalog) == [blob.id]


async def test_s14_a_copy_of_a_source_replaced_meanwhile_starts_over(
    catalog: Catalog, bucket_id: int
) -> None:
    """By other bytes, or by new attributes over the same bytes."""
    await put(catalog, bucket_id, b"source")
    first = await source_of(catalog, bucket_id, b"source")
    await copy(catalog, first, bucket_id, b"source")
    with pytest.raises(Changed):
        await copy(catalog, first, bucket_id, b"copy")
    second = await source_of(catalog, bucket_id, b"source")
    assert second.blob_id == first.blob_id
    await put(catalog, bucket_id, b"source")
    with pytest.raises(Changed):
        await copy(catalog, second, bucket_id, b"copy")
    await copy(catalog, await source_of(catalog, bucket_id, b"source"), bucket_id, b"copy")


async def test_s19_a_blob_at_the_horizon_is_refused(catalog: Catalog, bucket_id: int) -> None:
    """A front froze for longer than the grace period, its blob's shards were collected as orphans, it wakes
    up and commits. Break caught: no check of the epoch in `blobs.add`."""
    frozen = new_blob(epoch=(await catalog.meta()).upload_epoch)
    epoch = await catalog.write(leases.advance_epoch)
    await catalog.write(lambda tx: leases.set_horizon(tx, epoch - 1))
    with pytest.raises(HorizonPassed):
        await put(catalog, bucket_id, b"key", frozen)
    assert await lookup.lookup(catalog, bucket_id, b"key") is None
    assert (await catalog.meta()).upload_epoch == epoch
    await put(catalog, bucket_id, b"key", new_blob(epoch=epoch))


async def test_s19_the_horizon_counts_within_the_same_batch(catalog: Catalog, bucket_id: int) -> None:
    """A commit just before the horizon passes, one just after it does not, in one group commit. Break
    caught: a transaction that keeps its copy of the meta row when that has changed."""
    epoch = await catalog.write(leases.advance_epoch)
    outcomes = await asyncio.gather(
        put(catalog, bucket_id, b"before", new_blob(epoch=epoch - 1)),
        catalog.write(lambda tx: leases.set_horizon(tx, epoch - 1)),
        put(catalog, bucket_id, b"after", new_blob(epoch=epoch - 1)),
        return_exceptions=True,
    )
    assert [type(outcome).__name__ for outcome in outcomes] == ["PutResult", "NoneType", "HorizonPassed"]


async def test_a_blob_that_is_queued_for_deletion_cannot_be_committed(
    catalog: Catalog, bucket_id: int
) -> None:
    """A handler that tries again with the blob of a failed transaction."""
    await put(catalog, bucket_id, b"key")
    blob = new_blob()
    with pytest.raises(PreconditionFailed):
        await put(catalog, bucket_id, b"key", blob, condition=Condition(if_none_match="*"))
    with pytest.raises(BlobAbandoned):
        await put(catalog, bucket_id, b"key", blob)


async def test_ids_of_deleted_buckets_are_not_given_out_again(catalog: Catalog, bucket_id: int) -> None:
    """A PUT that read its body for an hour must not land in somebody else's new bucket."""
    await catalog.write(lambda tx: buckets.delete(tx, bucket_id))
    other = await catalog.write(lambda tx: buckets.create(tx, name="other", owner="o", region="r"))
    assert other.id != bucket_id
    with pytest.raises(NoSuchBucket):
        await put(catalog, bucket_id, b"key")
