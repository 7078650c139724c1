"""Multipart uploads: parts, completion, abortion; S14 (complete against re-upload of a part)."""

import asyncio
from functools import partial

import pytest

from catalog import buckets, lookup, objects, sweeping, upload_listing, uploads, work
from catalog.engine import Catalog
from catalog.errors import (
    Changed,
    EntityTooSmall,
    InvalidPart,
    InvalidPartOrder,
    NoSuchBucket,
    NoSuchUpload,
    PreconditionFailed,
)
from catalog.model import (
    Attributes,
    CompletionPlan,
    Condition,
    NewBlob,
    PartRow,
    PutResult,
    RequestedPart,
    UploadRow,
)
from tests.catalog.making import Clock, copy, new_blob, put, source_of


async def _begin(catalog: Catalog, bucket_id: int, key: bytes = b"key") -> UploadRow:
    return await catalog.write(
        lambda tx: uploads.create(
            tx,
            bucket_id=bucket_id,
            key=key,
            owner="owner",
            content_type="text/plain",
            attributes=Attributes(metadata={"a": "b"}),
            checksum_algorithm="CRC32",
            checksum_type="COMPOSITE",
        )
    )


async def _part(catalog: Catalog, upload: UploadRow, number: int, blob: NewBlob | None = None) -> PartRow:
    committed = blob or new_blob()
    return await catalog.write(
        lambda tx: uploads.put_part(
            tx, upload=upload, number=number, blob=committed, etag=committed.id.hex(), checksum=f"sum{number}"
        ),
        blob=committed,
    )


async def _plan(
    catalog: Catalog, upload: UploadRow, parts: list[PartRow], part_bytes_min: int = 1
) -> CompletionPlan:
    requested = [RequestedPart(part.number, part.etag, part.checksum) for part in parts]
    return await catalog.read(
        lambda reader: uploads.plan_completion(reader, upload, requested, part_bytes_min=part_bytes_min)
    )


async def _complete(
    catalog: Catalog, plan: CompletionPlan, etag: str = "etag-2", condition: Condition | None = None
) -> PutResult:
    return await catalog.write(
        lambda tx: uploads.complete(
            tx, plan, etag=etag, attributes=plan.upload.attributes, condition=condition
        )
    )


async def _garbage_ids(catalog: Catalog) -> set[bytes]:
    items = await catalog.read(
        lambda reader: work.due_garbage(reader, catalog.placements, now_ms=1 << 60, limit=100_000)
    )
    return {item.blob_id for item in items}


async def _sweep_all(catalog: Catalog) -> int:
    slices = 0
    while due := await catalog.read(lambda reader: sweeping.due_sweeps(reader, 10)):
        for sweep_id in due:
            await catalog.write(lambda tx, number=sweep_id: sweeping.sweep(tx, number, 100))  # type: ignore[misc]
            slices += 1
    return slices


async def test_an_upload_from_begin_to_end(catalog: Catalog, bucket_id: int, clock: Clock) -> None:
    """Parts out of order, one replaced, one not used; the object has its manifest and nothing is lost."""
    upload = await _begin(catalog, bucket_id)
    assert await uploads.get(catalog, bucket_id, b"key", upload.upload_id) == upload
    third, replaced, unused = new_blob(), new_blob(), new_blob()
    parts = {3: await _part(catalog, upload, 3, third), 1: await _part(catalog, upload, 1, replaced)}
    clock.now_ms += 1000
    parts[1] = await _part(catalog, upload, 1)
    await _part(catalog, upload, 2, unused)
    assert (await uploads.get(catalog, bucket_id, b"key", upload.upload_id)).revision == 4
    assert await _garbage_ids(catalog) == {replaced.id}
    page = await catalog.read(lambda reader: upload_listing.list_parts(reader, upload.number, limit=2))
    assert ([part.number for part in page.parts], page.truncated) == ([1, 2], True)
    assert page.parts[0] == parts[1]
    page = await catalog.read(
        lambda reader: upload_listing.list_parts(reader, upload.number, after=2, limit=2)
    )
    assert ([part.number for part in page.parts], page.truncated) == ([3], False)

    result = await _complete(catalog, await _plan(catalog, upload, [parts[1], parts[3]]))
    row = await lookup.lookup(catalog, bucket_id, b"key")
    assert row is not None
    assert (row.size, row.etag, row.sequence) == (8192, "etag-2", result.sequence)
    assert (row.content_type, row.attributes.metadata) == ("text/plain", {"a": "b"})
    assert row.blob.manifest is not None
    assert [(part.number, part.blob_id, part.size, part.checksum) for part in row.blob.manifest] == [
        (1, parts[1].blob_id, 4096, "sum1"),
        (3, third.id, 4096, "sum3"),
    ]
    assert set(await lookup.blobs_by_id(catalog, [parts[1].blob_id, third.id])) == {
        parts[1].blob_id,
        third.id,
    }
    assert await _garbage_ids(catalog) == {replaced.id, unused.id}
    with pytest.raises(NoSuchUpload):
        await uploads.get(catalog, bucket_id, b"key", upload.upload_id)


async def test_a_plan_refuses_what_s3_refuses(catalog: Catalog, bucket_id: int) -> None:
    """Order, unknown parts, other ETags and checksums, small parts that are not the last."""
    upload = await _begin(catalog, bucket_id)
    one, two = await _part(catalog, upload, 1), await _part(catalog, upload, 2)
    with pytest.raises(InvalidPartOrder):
        await _plan(catalog, upload, [two, one])
    with pytest.raises(InvalidPartOrder):
        await _plan(catalog, upload, [one, two, one])
    assert [part.number for part in (await _plan(catalog, upload, [one, one])).parts] == [1]
    with pytest.raises(InvalidPart) as refused:
        await _plan(catalog, upload, [one, PartRow(3, b"", 0, "x", None, 0)])
    assert refused.value.number == 3
    with pytest.raises(InvalidPart):
        await _plan(catalog, upload, [PartRow(1, b"", 0, two.etag, None, 0)])
    with pytest.raises(InvalidPart):
        await _plan(catalog, upload, [PartRow(1, b"", 0, one.etag, "wrong", 0)])
    with pytest.raises(EntityTooSmall) as small:
        await _plan(catalog, upload, [one, two], part_bytes_min=5 << 20)
    assert small.value.number == 1
    await _plan(catalog, upload, [two], part_bytes_min=5 << 20)
    await catalog.write(lambda tx: uploads.abort(tx, upload))
    with pytest.raises(NoSuchUpload):
        await _plan(catalog, upload, [one])


async def test_s14_complete_against_the_re_upload_of_a_part(catalog: Catalog, bucket_id: int) -> None:
    """Complete has read the parts, then part 1 is uploaded again, then complete commits: its manifest would
    name a blob that is queued for deletion. Break caught: `complete` that does not compare the revision."""
    upload = await _begin(catalog, bucket_id)
    first = await _part(catalog, upload, 1)
    stale = await _plan(catalog, upload, [first])
    second = await _part(catalog, upload, 1)
    with pytest.raises(Changed):
        await _complete(catalog, stale)
    with pytest.raises(InvalidPart):
        await _plan(catalog, upload, [first])
    await _complete(catalog, await _plan(catalog, upload, [second]))
    row = await lookup.lookup(catalog, bucket_id, b"key")
    assert row is not None
    assert row.blob.manifest is not None
    assert row.blob.manifest[0].blob_id == second.blob_id
    assert await _garbage_ids(catalog) == {first.blob_id}


async def test_s14_a_part_needs_the_open_upload(catalog: Catalog, bucket_id: int) -> None:
    """Its body was under way while the upload was completed or aborted, in one batch too. Break caught: a
    part commit that does not look for the upload leaves a part row, and a blob, that nobody clears."""
    upload = await _begin(catalog, bucket_id)
    part = await _part(catalog, upload, 1)
    plan = await _plan(catalog, upload, [part])
    late = new_blob()
    outcomes = await asyncio.gather(
        _complete(catalog, plan), _part(catalog, upload, 1, late), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [PutResult, NoSuchUpload]
    assert await _garbage_ids(catalog) == {late.id}
    other = await _begin(catalog, bucket_id)
    await catalog.write(lambda tx: uploads.abort(tx, other))
    with pytest.raises(NoSuchUpload):
        await _part(catalog, other, 1)
    with pytest.raises(NoSuchUpload):
        await catalog.write(lambda tx: uploads.abort(tx, other))


async def test_completing_twice_gives_the_same_answer(catalog: Catalog, bucket_id: int, clock: Clock) -> None:
    """Also at once, also when the object is gone again; other parts are another completion. The condition was that of
    the first one. Red when it is looked at before the earlier completion."""
    upload = await _begin(catalog, bucket_id)
    plan = await _plan(catalog, upload, [await _part(catalog, upload, 1)])
    new = Condition(if_none_match="*")
    first, second = await asyncio.gather(*(_complete(catalog, plan, condition=new) for _ in range(2)))
    assert first == second
    await catalog.write(lambda tx: objects.delete(tx, bucket_id=bucket_id, key=b"key"))
    clock.now_ms += 1000
    assert await _complete(catalog, plan) == first
    assert await lookup.lookup(catalog, bucket_id, b"key") is None
    done = await uploads.completion(catalog, bucket_id, b"key", upload.upload_id)
    assert done is not None
    assert (done.etag, done.result) == ("etag-2", first)
    with pytest.raises(NoSuchUpload):
        await _complete(catalog, plan, etag="another")
    assert await catalog.write(lambda tx: work.forget_completions(tx, before_ms=clock.now_ms, limit=10)) == 1
    assert await uploads.completion(catalog, bucket_id, b"key", upload.upload_id) is None


async def test_a_refused_completion_leaves_the_upload_open(catalog: Catalog, bucket_id: int) -> None:
    """If-None-Match, then without it."""
    await put(catalog, bucket_id, b"key")
    upload = await _begin(catalog, bucket_id)
    plan = await _plan(catalog, upload, [await _part(catalog, upload, 1)])
    with pytest.raises(PreconditionFailed):
        await _complete(catalog, plan, condition=Condition(if_none_match="*"))
    await _complete(catalog, plan)


async def test_parts_by_reference(catalog: Catalog, bucket_id: int) -> None:
    """One source as two parts: two references, and the source may go."""
    blob = new_blob()
    await put(catalog, bucket_id, b"source", blob)
    source = await source_of(catalog, bucket_id, b"source")
    upload = await _begin(catalog, bucket_id)
    parts = [
        await catalog.write(
            lambda tx, n=number: uploads.put_part_reference(  # type: ignore[misc]
                tx, upload=upload, number=n, source=source, etag="e", checksum="sum"
            )
        )
        for number in (1, 2)
    ]
    await catalog.write(lambda tx: objects.delete(tx, bucket_id=bucket_id, key=b"source"))
    with pytest.raises(Changed):
        await catalog.write(
            lambda tx: uploads.put_part_reference(tx, upload=upload, number=3, source=source, etag="e")
        )
    await _complete(catalog, await _plan(catalog, upload, parts))
    row = await lookup.lookup(catalog, bucket_id, b"key")
    assert row is not None
    assert (row.size, row.blob.manifest and {part.blob_id for part in row.blob.manifest}) == (8192, {blob.id})
    assert await _garbage_ids(catalog) == set()
    await catalog.write(lambda tx: objects.delete(tx, bucket_id=bucket_id, key=b"key"))
    assert await _garbage_ids(catalog) == {row.blob.id}
    assert await catalog.write(lambda tx: work.condemn(tx, row.blob.id))
    assert await catalog.write(lambda tx: work.collected(tx, row.blob.id))
    assert await _garbage_ids(catalog) == {blob.id}


async def test_p9_many_parts_are_completed_copied_and_collected_in_slices(
    catalog: Catalog, bucket_id: int
) -> None:
    """1,000 parts, 300 of them unused: completion touches no part row but the first slice; what is left over
    is swept, and each blob is released exactly once."""
    upload = await _begin(catalog, bucket_id)
    parts = [
        part
        for start in range(1, 1001, 100)
        for part in await asyncio.gather(*(_part(catalog, upload, n) for n in range(start, start + 100)))
    ]
    used = [part for part in parts if part.number % 10 < 7]
    plan = await _plan(catalog, upload, used)
    await _complete(catalog, plan)
    await copy(catalog, await source_of(catalog, bucket_id, b"key"), bucket_id, b"copy")
    unused = {part.blob_id for part in parts} - {part.blob_id for part in used}
    assert len(await _garbage_ids(catalog)) < 40
    assert await _sweep_all(catalog) == 10
    assert await _garbage_ids(catalog) == unused
    row = await lookup.lookup(catalog, bucket_id, b"copy")
    assert row is not None
    assert row.blob.manifest is not None
    assert len(row.blob.manifest) == 700
    for key in (b"key", b"copy"):
        await catalog.write(lambda tx, k=key: objects.delete(tx, bucket_id=bucket_id, key=k))  # type: ignore[misc]
    composite = row.blob.id
    assert await _garbage_ids(catalog) == unused | {composite}
    assert await catalog.write(lambda tx: work.condemn(tx, composite))
    slices = 1
    while not await catalog.write(lambda tx: work.collected(tx, composite)):
        slices += 1
    assert slices == 11
    assert await _garbage_ids(catalog) == {part.blob_id for part in parts}


async def test_an_aborted_upload_gives_all_its_space_back(catalog: Catalog, bucket_id: int) -> None:
    """In slices when it is long."""
    upload = await _begin(catalog, bucket_id)
    parts = await asyncio.gather(*(_part(catalog, upload, number) for number in range(1, 101)))
    await catalog.write(lambda tx: uploads.abort(tx, upload))
    await _sweep_all(catalog)
    assert await _garbage_ids(catalog) == {part.blob_id for part in parts}


async def test_a_deleted_bucket_takes_its_uploads_with_it(catalog: Catalog, bucket_id: int) -> None:
    """No part is committed any more, and the steward clears the rest."""
    open_uploads = [await _begin(catalog, bucket_id, b"key-%d" % number) for number in range(40)]
    parts = [await _part(catalog, upload, 1) for upload in open_uploads]
    await catalog.write(lambda tx: buckets.delete(tx, bucket_id))
    with pytest.raises(NoSuchUpload):
        await _part(catalog, open_uploads[-1], 2)
    with pytest.raises(NoSuchBucket):
        await _begin(catalog, bucket_id)
    await _sweep_all(catalog)
    assert {part.blob_id for part in parts} < await _garbage_ids(catalog)


async def test_uploads_are_listed_by_key_and_age(catalog: Catalog, bucket_id: int, clock: Clock) -> None:
    """With both markers and a delimiter, at every page size."""
    made = []
    for turn in range(3):
        for key in (b"a", b"b/1", b"b/2", b"c"):
            clock.now_ms += 1
            made.append((key, turn, (await _begin(catalog, bucket_id, key)).upload_id))
    expected = [(key, upload_id) for key, _, upload_id in sorted(made)]

    async def whole(limit: int, delimiter: bytes) -> tuple[list[tuple[bytes, str]], list[bytes]]:
        found: list[tuple[bytes, str]] = []
        prefixes: list[bytes] = []
        key_marker, upload_id_marker = b"", ""
        while True:
            one_page = partial(
                upload_listing.list_uploads,
                bucket_id=bucket_id,
                delimiter=delimiter,
                key_marker=key_marker,
                upload_id_marker=upload_id_marker,
                limit=limit,
            )
            page = await catalog.read(one_page)
            assert len(page.entries) + len(page.prefixes) <= limit
            found += [(entry.key, entry.upload_id) for entry in page.entries]
            prefixes += page.prefixes
            if not page.truncated:
                return found, prefixes
            key_marker, upload_id_marker = page.next_key, page.next_upload_id

    for limit in range(1, 14):
        assert await whole(limit, b"") == (expected, [])
        assert await whole(limit, b"/") == ([one for one in expected if b"/" not in one[0]], [b"b/"])
    page = await catalog.read(
        lambda reader: upload_listing.list_uploads(
            reader, bucket_id=bucket_id, prefix=b"b", key_marker=b"b/1"
        )
    )
    assert {entry.key for entry in page.entries} == {b"b/2"}
    assert (page.entries[0].owner, page.entries[0].checksum_algorithm) == ("owner", "CRC32")
