"""Versions of a key, and from a blob back to what uses it."""

import asyncio
import itertools

import pytest
import sqlalchemy as sa

from catalog import blobs, buckets, objects, schema, uploads, usedby
from catalog.engine import Catalog
from catalog.model import Attributes, RequestedPart, UploadRow
from catalog.statement import Statement
from catalog.usedby import BlobUse, Search, VersionRow
from tests.catalog.making import copy, new_blob, put, source_of

_OLDER_NAMES = (
    "bucket_id key sequence size modified_ms etag blob_id version_id content_type delete_marker".split()
)
_INSERT_OLDER = Statement(sa.insert(schema.versions), *_OLDER_NAMES)


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each walk over more than two rows takes several steps."""
    monkeypatch.setattr(usedby, "SLICE_ROWS", 2)


async def search(catalog: Catalog, *wanted: bytes, uses_max: int = 1000) -> Search:
    found = Search(wanted, uses_max=uses_max)
    async with asyncio.timeout(20):
        while await catalog.read(found.step):
            pass
    assert found.done
    return found


async def names(catalog: Catalog, *wanted: bytes) -> set[tuple[str, bytes, int, str | None]]:
    uses = (await search(catalog, *wanted)).uses
    return {(use.bucket, use.key, use.part, use.version_id) for use in uses}


async def multipart(
    catalog: Catalog, bucket_id: int, key: bytes, numbers: range, *, complete: bool = True
) -> tuple[UploadRow, list[bytes]]:
    """A multipart object; the ids of its parts' blobs."""
    row = await catalog.write(
        lambda tx: uploads.create(
            tx, bucket_id=bucket_id, key=key, owner="o", content_type="", attributes=Attributes()
        )
    )
    made = [(number, new_blob()) for number in numbers]
    for number, blob in made:
        await catalog.write(
            lambda tx, number=number, blob=blob: uploads.put_part(  # type: ignore[misc]
                tx, upload=row, number=number, blob=blob, etag="e"
            )
        )
    if complete:
        wanted = [RequestedPart(number, "e") for number in numbers]
        row = await uploads.get(catalog, bucket_id, key, row.upload_id)
        plan = await catalog.read(
            lambda reader: uploads.plan_completion(reader, row, wanted, part_bytes_min=1)
        )
        await catalog.write(
            lambda tx: uploads.complete(tx, plan=plan, etag="whole-3", attributes=Attributes())
        )
    return row, [blob.id for _, blob in made]


async def add_older(
    catalog: Catalog, bucket_id: int, place: usedby.Place, *named: str | bytes | None
) -> None:
    """A version that is not the current one, by its id and its blob; without a blob it is a delete marker."""
    (key, sequence), (version_id, blob_id) = place, named
    values = (
        bucket_id,
        key,
        sequence,
        7,
        1000 + sequence,
        "old",
        blob_id,
        version_id,
        "",
        int(blob_id is None),
    )
    await catalog.write(lambda tx: tx.execute(_INSERT_OLDER, values))


async def test_every_kind_of_use_is_found(catalog: Catalog, bucket_id: int) -> None:
    """Red when the walk over objects ended with its first slice, and when parts of manifests were not followed to the
    objects that have them."""
    other = (await catalog.write(lambda tx: buckets.create(tx, name="other", owner="o", region="r"))).id
    blob, alone = new_blob(), new_blob()
    for number in range(5):
        await put(catalog, bucket_id, b"filler-%d" % number)
    await put(catalog, bucket_id, b"x", blob)
    await copy(catalog, await source_of(catalog, bucket_id, b"x"), other, b"dir/y")
    await put(catalog, other, b"z", alone)
    _, parts = await multipart(catalog, other, b"m", range(1, 4))
    upload, waiting = await multipart(catalog, bucket_id, b"u", range(5, 8), complete=False)
    assert await names(catalog, blob.id) == {("bucket", b"x", 0, None), ("other", b"dir/y", 0, None)}
    assert await names(catalog, alone.id) == {("other", b"z", 0, None)}
    assert await names(catalog, parts[1]) == {("other", b"m", 2, None)}
    assert (await search(catalog, waiting[2])).uses == [
        BlobUse(waiting[2], "bucket", b"u", None, False, 7, upload.upload_id)
    ]
    assert len((await search(catalog, blob.id, parts[0], waiting[0])).uses) == 4


async def test_older_versions_are_found_and_listed(catalog: Catalog, bucket_id: int) -> None:
    """Red when older versions were listed in the order of their writing."""
    old, new = new_blob(), new_blob()
    await put(catalog, bucket_id, b"k", old)
    # The row of the newer version takes the place of the older one, which keeps its reference.
    await catalog.write(lambda tx: blobs.add_reference(tx, old.id))
    await put(catalog, bucket_id, b"k", new)
    await add_older(catalog, bucket_id, (b"k", 1), "v1", old.id)
    await add_older(catalog, bucket_id, (b"j", 1), None, None)
    assert await names(catalog, old.id) == {("bucket", b"k", 0, "v1")}

    def listed(key: bytes, limit: int = 10) -> "asyncio.Future[list[VersionRow]]":
        return asyncio.ensure_future(
            catalog.read(lambda reader: usedby.versions_of(reader, bucket_id, key, limit=limit))
        )

    assert [(row.version_id, row.current, row.blob_id) for row in await listed(b"k")] == [
        (None, True, new.id),
        ("v1", False, old.id),
    ]
    assert [row.current for row in await listed(b"k", limit=1)] == [True]
    assert [(row.delete_marker, row.blob_id) for row in await listed(b"j")] == [(True, None)]
    assert await listed(b"nothing") == []

    async def one(version_id: str, key: bytes = b"k") -> VersionRow | None:
        return await catalog.read(lambda reader: usedby.version_of(reader, bucket_id, key, version_id))

    first, null, marker = await one("v1"), await one("null"), await one("null", b"j")
    assert first is not None
    assert (first.blob_id, first.size, first.modified_ms) == (old.id, 7, 1001)
    assert null is not None
    assert (null.blob_id, null.current) == (new.id, True)
    assert marker is not None
    assert marker.delete_marker
    assert await one("v2") is None


async def test_a_search_ends_once_every_reference_is_found(catalog: Catalog, bucket_id: int) -> None:
    """Red when it read to the end all the same."""
    blob = new_blob()
    await put(catalog, bucket_id, b"0", blob)
    for number in range(9):
        await put(catalog, bucket_id, b"1-%d" % number)
    found = await search(catalog, blob.id)
    assert (len(found.uses), found.rows) == (1, 2)
    assert (await search(catalog, new_blob().id)).rows == 0  # nothing refers to it
    assert (await search(catalog)).uses == []


async def test_what_is_found_is_bounded(catalog: Catalog, bucket_id: int) -> None:
    blob = new_blob()
    await put(catalog, bucket_id, b"0", blob)
    for number in range(1, 5):
        await copy(catalog, await source_of(catalog, bucket_id, b"0"), bucket_id, b"%d" % number)
    found = await search(catalog, blob.id, uses_max=3)
    assert (len(found.uses), found.more_uses) == (3, True)


async def test_garbage_is_told_from_what_is_used(catalog: Catalog, bucket_id: int) -> None:
    blob = new_blob()
    await put(catalog, bucket_id, b"k", blob)

    async def state() -> tuple[int, bool]:
        return await catalog.read(
            lambda reader: (usedby.references(reader, blob.id), usedby.is_garbage(reader, blob.id))
        )

    assert await state() == (1, False)
    await catalog.write(lambda tx: objects.delete(tx, bucket_id=bucket_id, key=b"k"))
    assert await state() == (0, True)
    assert await names(catalog, blob.id) == set()


async def test_a_walk_over_a_bucket_meets_each_version_once(catalog: Catalog, bucket_id: int) -> None:
    """And nothing of the bucket behind it. Red when a page of older versions went on after the key alone."""
    behind = (await catalog.write(lambda tx: buckets.create(tx, name="zzz", owner="o", region="r"))).id
    wanted = []
    for number in range(5):
        made = new_blob(size=10)
        wanted.append(made.id)
        await put(catalog, bucket_id, b"%d" % number, made)
    await put(catalog, behind, b"a", new_blob(size=1000))
    for sequence in range(1, 6):
        wanted.append(new_blob().id)
        await add_older(catalog, bucket_id, (b"k", sequence), f"v{sequence}", wanted[-1])
    await add_older(catalog, bucket_id, (b"k", 6), "marker", None)
    await add_older(catalog, behind, (b"a", 1), "other", new_blob().id)
    for limit in (1, 2, 3, 5, 100):
        seen: list[bytes] = []
        for older in (False, True):
            after: usedby.Place | None = None
            for _ in itertools.count():
                page, after = await catalog.read(
                    lambda reader, after=after, older=older, limit=limit: usedby.blobs_of_bucket(  # type: ignore[misc]
                        reader, bucket_id, after, older=older, limit=limit
                    )
                )
                seen += page
                if after is None:
                    break
        assert seen == wanted
    assert await catalog.read(lambda reader: usedby.stored(reader, bucket_id)) == (11, 5 * 10 + 6 * 7)
    blobs_total, bytes_total = await catalog.read(usedby.stored)
    assert (blobs_total, bytes_total) == (6, 1050)
