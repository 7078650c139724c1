"""Appending: composites of composites' parts, references that pass over, writes in between (S14)."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
import sqlalchemy as sa
from msgspec import structs

from catalog import appending, blobs, buckets, lookup, objects, schema, uploads, usage, work
from catalog.appending import AppendPlan
from catalog.embedded import EmbeddedCatalog
from catalog.engine import Catalog
from catalog.errors import Changed, NoSuchKey, PreconditionFailed, QuotaExceeded
from catalog.model import (
    Attributes,
    Checksum,
    Condition,
    NewBlob,
    ObjectRow,
    PartRef,
    PutResult,
    RequestedPart,
    Versioning,
)
from catalog.statement import Statement
from tests.catalog.making import SQLITE_ONLY, Clock, SqliteStore, Store, copy, new_blob, put, source_of
from tests.model.books import check_books

KEY = b"key"
SIZE = 4096

_MANIFESTS = Statement(sa.select(schema.manifests.c.blob_id))


def _unchanged(attributes: Attributes) -> Attributes:
    return attributes


async def _planned(catalog: Catalog, bucket_id: int, key: bytes = KEY) -> tuple[AppendPlan, NewBlob]:
    row = await lookup.lookup(catalog, bucket_id, key)
    assert row is not None
    blob = new_blob()
    return appending.plan(row, blob, size=SIZE, etag=blob.id.hex(), checksum="sum"), blob


async def _commit(
    catalog: Catalog, bucket_id: int, planned: tuple[AppendPlan, NewBlob], condition: Condition | None = None
) -> PutResult:
    plan, blob = planned
    return await catalog.write(
        lambda tx: appending.append(
            tx,
            plan,
            bucket_id=bucket_id,
            blob=blob,
            etag=f"e-{len(plan.parts)}",
            change=_unchanged,
            condition=condition,
        ),
        blob=blob,
    )


async def _append(catalog: Catalog, bucket_id: int, key: bytes = KEY) -> PutResult:
    return await _commit(catalog, bucket_id, await _planned(catalog, bucket_id, key))


async def _upload(catalog: Catalog, bucket_id: int, numbers: list[int], key: bytes = KEY) -> list[bytes]:
    """A multipart object; its parts' blobs."""
    upload = await catalog.write(
        lambda tx: uploads.create(
            tx, bucket_id=bucket_id, key=key, owner="o", content_type="a/b", attributes=Attributes()
        )
    )
    made = [new_blob() for _ in numbers]

    async def sent(number: int, blob: NewBlob) -> None:
        await catalog.write(
            lambda tx: uploads.put_part(tx, upload=upload, number=number, blob=blob, etag=str(number)),
            blob=blob,
        )

    await asyncio.gather(*(sent(number, blob) for number, blob in zip(numbers, made, strict=True)))
    requested = [RequestedPart(number, str(number)) for number in numbers]
    plan = await catalog.read(
        lambda reader: uploads.plan_completion(reader, upload, requested, part_bytes_min=1)
    )
    await catalog.write(lambda tx: uploads.complete(tx, plan, etag="up-1", attributes=Attributes()))
    return [blob.id for blob in made]


async def _current(catalog: Catalog, bucket_id: int, key: bytes = KEY) -> ObjectRow:
    row = await lookup.lookup(catalog, bucket_id, key)
    assert row is not None
    return row


async def _books(catalog: Catalog, bucket_id: int) -> None:
    _, together = await catalog.read(usage.totals)
    await check_books(catalog, bucket_id, together)


async def _collect(catalog: Catalog, clock: Clock) -> None:
    """All garbage, also what becomes garbage by that."""
    while True:
        clock.now_ms += 2 * catalog.settings.grace_ms
        due = await catalog.read(
            lambda reader: work.due_garbage(reader, catalog.placements, now_ms=clock.now_ms, limit=1000)
        )
        if not due:
            return
        for item in due:
            blob_id = item.blob_id
            if await catalog.write(lambda tx, one=blob_id: work.condemn(tx, one)) is not None:  # type: ignore[misc]
                while not await catalog.write(lambda tx, one=blob_id: work.collected(tx, one)):  # type: ignore[misc]
                    pass


async def test_pieces_follow_each_other(catalog: Catalog, bucket_id: int) -> None:
    """What was there becomes the first part, with the ETag and checksum it had; what is kept beside stays."""
    first = new_blob()
    attributes = Attributes(metadata={"a": "b"}, checksum=Checksum("CRC32", "FULL_OBJECT", "first"))
    await put(catalog, bucket_id, KEY, first, etag="aa", attributes=attributes)
    one = await _append(catalog, bucket_id)
    two = await _append(catalog, bucket_id)
    row = await _current(catalog, bucket_id)
    assert row.blob.manifest is not None
    assert [(part.number, part.size) for part in row.blob.manifest] == [(1, SIZE), (2, SIZE), (3, SIZE)]
    assert (row.blob.manifest[0].blob_id, row.blob.manifest[0].etag) == (first.id, "aa")
    assert row.blob.manifest[0].checksum == "first"
    assert (row.size, row.blob.size, row.etag) == (3 * SIZE, 3 * SIZE, "e-3")
    assert row.attributes == attributes
    assert (one.sequence, two.sequence, row.sequence) == (2, 3, 3)
    await _books(catalog, bucket_id)


async def test_parts_of_an_upload_keep_their_numbers(catalog: Catalog, bucket_id: int) -> None:
    """Unless there is no number left above them. Red when a number above 10,000 is given out."""
    await _upload(catalog, bucket_id, [3, 9])
    await _append(catalog, bucket_id)
    row = await _current(catalog, bucket_id)
    assert [part.number for part in row.blob.manifest or ()] == [3, 9, 10]
    await _upload(catalog, bucket_id, [3, 10_000])
    await _append(catalog, bucket_id)
    row = await _current(catalog, bucket_id)
    assert [part.number for part in row.blob.manifest or ()] == [1, 2, 3]


@pytest.mark.parametrize("versioning", list(Versioning))
async def test_references_are_those_that_are_named(
    store: Store, catalog: Catalog, bucket_id: int, clock: Clock, versioning: Versioning
) -> None:
    """Appends among puts, copies, deletes and collections, in any order. Red when the old composite's references pass
    over although a copy or an older version still names it, when they are dropped with it and not passed, and when the
    first blob of an object is not counted for the manifest."""
    random = Random(versioning)
    keys = [b"a", b"b"]
    if versioning is not Versioning.NEVER:
        await put(catalog, bucket_id, b"a")
        await catalog.write(lambda tx: buckets.set_versioning(tx, bucket_id, Versioning.ENABLED))
        await put(catalog, bucket_id, b"a")
        await catalog.write(lambda tx: buckets.set_versioning(tx, bucket_id, versioning))
    for _ in range(120 if isinstance(store, SqliteStore) else 40):
        key = random.choice(keys)
        there = await lookup.lookup(catalog, bucket_id, key) is not None
        what = random.choice("pppaaaaaaaccdug") if there else "p"
        if what == "p":
            await put(catalog, bucket_id, key)
        elif what == "a":
            await _append(catalog, bucket_id, key)
        elif what == "c":
            source = await source_of(catalog, bucket_id, key)
            await copy(catalog, source, bucket_id, random.choice(keys))
        elif what == "d":
            await catalog.write(lambda tx, key=key: objects.delete(tx, bucket_id=bucket_id, key=key))  # type: ignore[misc]
        elif what == "u":
            await _upload(catalog, bucket_id, [1, 2], key)
        else:
            await _collect(catalog, clock)
        await _books(catalog, bucket_id)


async def test_nothing_is_left_of_what_was_appended_to(
    catalog: Catalog, bucket_id: int, clock: Clock
) -> None:
    """A log that grows piece by piece is one manifest, not one a piece, also within the grace period; and when it
    is deleted, everything is."""
    await put(catalog, bucket_id, KEY)
    for _ in range(20):
        await _append(catalog, bucket_id)
    held = await catalog.read(lambda reader: reader.rows(_MANIFESTS))
    assert len(held) == 1
    await catalog.write(lambda tx: objects.delete(tx, bucket_id=bucket_id, key=KEY))
    await _collect(catalog, clock)
    assert (
        await catalog.read(lambda reader: blobs.page(reader, catalog.placements, after=b"", limit=10)) == []
    )
    assert await catalog.read(lambda reader: reader.rows(_MANIFESTS)) == []


@SQLITE_ONLY
async def test_p9_the_cost_does_not_grow_with_the_object(catalog: EmbeddedCatalog, bucket_id: int) -> None:
    """As many statements behind 500 parts as behind 2. Red when each part's references are counted up and down."""
    counts = []
    for numbers in ([1, 2], list(range(1, 501))):
        await _upload(catalog, bucket_id, numbers)
        planned = await _planned(catalog, bucket_id)
        texts: list[str] = []
        catalog._writer_connection.set_trace_callback(texts.append)
        await _commit(catalog, bucket_id, planned)
        catalog._writer_connection.set_trace_callback(None)
        counts.append(len(texts))
    assert counts[0] == counts[1] < 40


async def test_s14_a_write_between_plan_and_commit(catalog: Catalog, bucket_id: int) -> None:
    """Two appends at the same place, an overwrite, a delete: one of them counts, the other knows. Red when the commit
    does not look whether the version is the one that was planned for: a piece is lost."""
    await put(catalog, bucket_id, KEY)
    both = [await _planned(catalog, bucket_id) for _ in range(2)]
    told = await asyncio.gather(*(_commit(catalog, bucket_id, one) for one in both), return_exceptions=True)
    assert [type(one) for one in told] == [PutResult, Changed]
    stale = await _planned(catalog, bucket_id)
    await put(catalog, bucket_id, KEY)
    with pytest.raises(Changed):
        await _commit(catalog, bucket_id, stale)
    stale = await _planned(catalog, bucket_id)
    await catalog.write(lambda tx: objects.delete(tx, bucket_id=bucket_id, key=KEY))
    with pytest.raises(Changed):
        await _commit(catalog, bucket_id, stale)
    await _books(catalog, bucket_id)


async def test_tags_put_meanwhile_stay(catalog: Catalog, bucket_id: int) -> None:
    """They change a version in place. Red when the new version takes the attributes that were read before."""
    await put(catalog, bucket_id, KEY)
    planned = await _planned(catalog, bucket_id)
    await catalog.write(
        lambda tx: objects.change_attributes(
            tx,
            bucket_id=bucket_id,
            key=KEY,
            version_id=None,
            change=lambda old: structs.replace(old, tags={"a": "b"}),
        )
    )
    await _commit(catalog, bucket_id, planned)
    assert (await _current(catalog, bucket_id)).attributes.tags == {"a": "b"}


async def test_an_append_keeps_conditions_and_quota(catalog: Catalog, bucket_id: int) -> None:
    await put(catalog, bucket_id, KEY, etag="old")
    with pytest.raises(PreconditionFailed):
        await _commit(catalog, bucket_id, await _planned(catalog, bucket_id), Condition(if_match="new"))
    await _commit(catalog, bucket_id, await _planned(catalog, bucket_id), Condition(if_match="old"))
    await catalog.write(lambda tx: buckets.set_quota(tx, bucket_id, 3 * SIZE))
    await _append(catalog, bucket_id)
    with pytest.raises(QuotaExceeded):
        await _append(catalog, bucket_id)
    await _books(catalog, bucket_id)


async def test_the_first_piece_replaces_nothing(catalog: Catalog, bucket_id: int) -> None:
    """Red when a second first piece overwrites the first one."""

    async def create(condition: Condition | None = None) -> PutResult:
        blob = new_blob()
        return await catalog.write(
            lambda tx: appending.create(
                tx,
                bucket_id=bucket_id,
                key=KEY,
                blob=blob,
                size=SIZE,
                etag="e",
                content_type="a/b",
                attributes=Attributes(),
                condition=condition,
            ),
            blob=blob,
        )

    with pytest.raises(NoSuchKey):
        await create(Condition(if_match="*"))
    told = await asyncio.gather(create(), create(), return_exceptions=True)
    assert [type(one) for one in told] == [PutResult, Changed]
    await _books(catalog, bucket_id)


async def test_a_reader_between_row_and_manifest_looks_again(
    catalog: Catalog, bucket_id: int, store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process appends just then, and the manifest that the row names is gone at once. Red when the reader takes
    that for an object that is not there."""
    other = store.open(clock)
    await other.start()
    await _upload(catalog, bucket_id, [1, 2])
    read = catalog.manifest

    async def late(blob_id: bytes) -> tuple[PartRef, ...] | None:
        monkeypatch.setattr(catalog, "manifest", read)
        await _append(other, bucket_id)
        return await read(blob_id)

    monkeypatch.setattr(catalog, "manifest", late)
    assert [part.number for part in (await _current(catalog, bucket_id)).blob.manifest or ()] == [1, 2, 3]
    await other.close()
