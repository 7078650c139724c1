"""Versions of one key: enabled, suspended, null versions, delete markers, and what becomes current (S13, S14)."""

from collections.abc import Awaitable, Callable

import pytest

from catalog import buckets, lifecycle, lookup, objects, usage, version_listing, work
from catalog.bucket_model import BucketActions, DefaultEncryption, LockConfiguration
from catalog.engine import Catalog
from catalog.errors import (
    Changed,
    IsDeleteMarker,
    NoSuchKey,
    NoSuchVersion,
    ObjectLocked,
    PreconditionFailed,
    QuotaExceeded,
    VersioningLocked,
)
from catalog.model import (
    Attributes,
    Condition,
    DeleteResult,
    MarkerRow,
    ObjectRow,
    Retention,
    Source,
    Versioning,
)
from tests.catalog.making import NO_ATTRIBUTES, Clock, copy, new_blob, put, source_of

KEY = b"key"


async def _set(catalog: Catalog, bucket_id: int, versioning: Versioning) -> None:
    await catalog.write(lambda tx: buckets.set_versioning(tx, bucket_id, versioning))


async def _put(catalog: Catalog, bucket_id: int, key: bytes = KEY, size: int = 10) -> str | None:
    return (await put(catalog, bucket_id, key, new_blob(size=size))).version_id


async def _delete(catalog: Catalog, bucket_id: int, key: bytes = KEY) -> DeleteResult:
    return await catalog.write(lambda tx: objects.delete(tx, bucket_id=bucket_id, key=key))


async def _remove(
    catalog: Catalog,
    bucket_id: int,
    version_id: str | None,
    *,
    condition: Condition | None = None,
    bypass: bool = False,
) -> DeleteResult:
    assert version_id is not None
    return await catalog.write(
        lambda tx: objects.delete_version(
            tx,
            bucket_id=bucket_id,
            key=KEY,
            version_id=version_id,
            condition=condition,
            bypass_governance=bypass,
        )
    )


async def _shown(catalog: Catalog, bucket_id: int) -> list[tuple[str, bool, bool]]:
    """Version id, whether it is the latest, whether it is a delete marker; and the books agree with the rows."""
    page = await catalog.read(lambda reader: version_listing.list_versions(reader, bucket_id=bucket_id))
    assert (await catalog.read(lambda reader: usage.recount(reader, bucket_id))).agrees
    return [(entry.version_id, entry.is_latest, entry.delete_marker) for entry in page.entries]


async def _current(catalog: Catalog, bucket_id: int) -> str | None:
    row = await lookup.lookup(catalog, bucket_id, KEY)
    return None if row is None else row.version_id or "null"


async def _garbage(catalog: Catalog) -> set[bytes]:
    items = await catalog.read(
        lambda reader: work.due_garbage(reader, catalog.placements, now_ms=1 << 60, limit=1000)
    )
    return {item.blob_id for item in items}


async def test_versions_stack_and_the_newest_left_becomes_current(catalog: Catalog, bucket_id: int) -> None:
    """Red when a deleted current version was not followed by the next one, and when it was followed through a
    delete marker."""
    null = await _put(catalog, bucket_id)
    assert null is None
    await _set(catalog, bucket_id, Versioning.ENABLED)
    first, second = await _put(catalog, bucket_id), await _put(catalog, bucket_id)
    assert await _shown(catalog, bucket_id) == [
        (second, True, False),
        (first, False, False),
        ("null", False, False),
    ]
    marker = await _delete(catalog, bucket_id)
    assert (marker.existed, marker.delete_marker) == (True, True)
    assert await _current(catalog, bucket_id) is None
    found = await lookup.latest_marker(catalog, bucket_id, KEY)
    assert found is not None
    assert found.version_id == marker.version_id
    assert isinstance(
        await lookup.lookup_version(catalog, bucket_id, KEY, marker.version_id or ""), MarkerRow
    )
    await _remove(catalog, bucket_id, second)
    assert await _current(catalog, bucket_id) is None, "the marker is still on top"
    removed = await _remove(catalog, bucket_id, marker.version_id)
    assert (removed.existed, removed.delete_marker) == (True, True)
    assert await _current(catalog, bucket_id) == first
    await _remove(catalog, bucket_id, first)
    assert await _current(catalog, bucket_id) == "null"
    await _remove(catalog, bucket_id, "null")
    assert await _shown(catalog, bucket_id) == []
    assert (await _remove(catalog, bucket_id, first)).existed is False


async def test_markers_stack_too(catalog: Catalog, bucket_id: int) -> None:
    """Only the newest is the latest; when it goes, the one below is again. Red when it was not."""
    await _set(catalog, bucket_id, Versioning.ENABLED)
    low, high = await _delete(catalog, bucket_id), await _delete(catalog, bucket_id)
    assert (low.existed, high.existed) == (False, False)
    assert await _shown(catalog, bucket_id) == [
        (high.version_id, True, True),
        (low.version_id, False, True),
    ]
    await _remove(catalog, bucket_id, high.version_id)
    assert await _shown(catalog, bucket_id) == [(low.version_id, True, True)]
    version = await _put(catalog, bucket_id)
    assert await _shown(catalog, bucket_id) == [(version, True, False), (low.version_id, False, True)]


async def test_suspended_versioning_replaces_the_null_version_wherever_it_lies(
    catalog: Catalog, bucket_id: int
) -> None:
    """As the current one, below a newer one, and as a delete marker; its blob is garbage then and no other is. Red
    when the null version below a newer one stayed."""
    await _set(catalog, bucket_id, Versioning.ENABLED)
    kept = await _put(catalog, bucket_id)
    await _set(catalog, bucket_id, Versioning.SUSPENDED)
    blobs = [new_blob(), new_blob()]
    for blob in blobs:
        assert (await put(catalog, bucket_id, KEY, blob)).version_id is None
    assert await _garbage(catalog) == {blobs[0].id}
    assert await _shown(catalog, bucket_id) == [("null", True, False), (kept, False, False)]
    await _set(catalog, bucket_id, Versioning.ENABLED)
    newer = await _put(catalog, bucket_id)
    await _set(catalog, bucket_id, Versioning.SUSPENDED)
    marker = await _delete(catalog, bucket_id)
    assert (marker.version_id, marker.delete_marker) == ("null", True)
    assert await _garbage(catalog) == {blob.id for blob in blobs}
    assert await _shown(catalog, bucket_id) == [
        ("null", True, True),
        (newer, False, False),
        (kept, False, False),
    ]
    await _put(catalog, bucket_id)
    assert await _shown(catalog, bucket_id) == [
        ("null", True, False),
        (newer, False, False),
        (kept, False, False),
    ]


async def test_a_version_is_read_by_its_id(catalog: Catalog, bucket_id: int) -> None:
    """Current or older, by whatever id; a foreign one is nobody's."""
    old = new_blob(size=7)
    await put(catalog, bucket_id, KEY, old)
    await _set(catalog, bucket_id, Versioning.ENABLED)
    version = await _put(catalog, bucket_id)
    for version_id, size in (("null", 7), (version or "", 10)):
        row = await lookup.lookup_version(catalog, bucket_id, KEY, version_id)
        assert isinstance(row, ObjectRow)
        assert (row.size, row.version_id or "null") == (size, version_id)
    assert await lookup.lookup_version(catalog, bucket_id, KEY, "f" * 32) is None
    assert await lookup.lookup_version(catalog, bucket_id, b"other", "null") is None


async def test_a_listing_goes_on_behind_versions_that_are_gone(catalog: Catalog, bucket_id: int) -> None:
    """A client that empties a bucket deletes each page before it asks for the next; the null version too has a place
    that outlives it. Red when the marker of a null version was the word alone."""
    await _put(catalog, bucket_id)
    await _set(catalog, bucket_id, Versioning.ENABLED)
    for _ in range(3):
        await _put(catalog, bucket_id)
    await _set(catalog, bucket_id, Versioning.SUSPENDED)
    await _put(catalog, bucket_id)
    await _set(catalog, bucket_id, Versioning.ENABLED)
    await _put(catalog, bucket_id)
    seen, key, marker = 0, b"", ""
    while True:
        page = await catalog.read(
            lambda reader, key=key, marker=marker: version_listing.list_versions(  # type: ignore[misc]
                reader, bucket_id=bucket_id, key_marker=key, version_marker=marker, limit=2
            )
        )
        for entry in page.entries:
            await _remove(catalog, bucket_id, entry.version_id)
            seen += 1
        if not page.truncated:
            break
        key, marker = page.next_key, page.next_version
    assert seen == 5
    assert await _shown(catalog, bucket_id) == []
    with pytest.raises(NoSuchVersion):
        await catalog.read(
            lambda reader: version_listing.list_versions(
                reader, bucket_id=bucket_id, key_marker=KEY, version_marker="no such"
            )
        )


async def test_conditions_are_the_current_versions_or_that_of_the_version_named(
    catalog: Catalog, bucket_id: int
) -> None:
    """A delete marker is no object for If-Match, and none for If-None-Match. Red when a marker's row was compared."""
    await _set(catalog, bucket_id, Versioning.ENABLED)
    first = await _put(catalog, bucket_id)
    await put(catalog, bucket_id, KEY, new_blob(), etag="other")
    with pytest.raises(PreconditionFailed):
        await _remove(catalog, bucket_id, first, condition=Condition(if_match="other"))
    await _delete(catalog, bucket_id)
    with pytest.raises(NoSuchKey):
        await put(catalog, bucket_id, KEY, new_blob(), condition=Condition(if_match="other"))
    await put(catalog, bucket_id, KEY, new_blob(), condition=Condition(if_none_match="*"))
    with pytest.raises(PreconditionFailed):
        await put(catalog, bucket_id, KEY, new_blob(), condition=Condition(if_none_match="*"))


async def test_s14_a_copy_of_an_older_version_starts_over_when_that_is_gone(
    catalog: Catalog, bucket_id: int
) -> None:
    """And stands when only newer versions came. Red when only the current version was looked at."""
    await _set(catalog, bucket_id, Versioning.ENABLED)
    version = await _put(catalog, bucket_id)
    source = await source_of(catalog, bucket_id, KEY)
    await _put(catalog, bucket_id)
    await copy(catalog, source, bucket_id, b"copy")
    await _remove(catalog, bucket_id, version)
    with pytest.raises(Changed):
        await copy(catalog, source, bucket_id, b"copy")


async def test_a_rename_moves_no_bytes_and_leaves_nothing_behind(catalog: Catalog, bucket_id: int) -> None:
    """One transaction: the blob keeps one reference. A source that was replaced meanwhile is not renamed (S14)."""

    async def rename(source: Source) -> None:
        await catalog.write(
            lambda tx: objects.rename(
                tx,
                source=source,
                bucket_id=bucket_id,
                key=b"new",
                etag="e",
                content_type="t",
                attributes=NO_ATTRIBUTES,
            )
        )

    blob = new_blob()
    await put(catalog, bucket_id, KEY, blob)
    source = await source_of(catalog, bucket_id, KEY)
    await rename(source)
    assert await lookup.lookup(catalog, bucket_id, KEY) is None
    row = await lookup.lookup(catalog, bucket_id, b"new")
    assert row is not None
    assert row.blob.id == blob.id
    assert await _garbage(catalog) == set()
    with pytest.raises(Changed):
        await rename(source)


async def _rename(catalog: Catalog, bucket_id: int, source: Source, key: bytes) -> None:
    await catalog.write(
        lambda tx: objects.rename(
            tx,
            source=source,
            bucket_id=bucket_id,
            key=key,
            etag="e",
            content_type="t",
            attributes=NO_ATTRIBUTES,
        )
    )


async def test_a_rename_takes_the_current_version_only(catalog: Catalog, bucket_id: int) -> None:
    """Where versions stay, the source is still there when a newer one was put. Red when it was renamed all the same,
    and the newer version hidden under the delete marker (S14)."""
    await _set(catalog, bucket_id, Versioning.ENABLED)
    await _put(catalog, bucket_id)
    source = await source_of(catalog, bucket_id, KEY)
    newer = await _put(catalog, bucket_id)
    with pytest.raises(Changed):
        await _rename(catalog, bucket_id, source, b"new")
    row = await lookup.lookup(catalog, bucket_id, KEY)
    assert row is not None
    assert row.version_id == newer
    assert await lookup.lookup(catalog, bucket_id, b"new") is None


async def test_a_rename_needs_no_room_for_what_it_moves(catalog: Catalog, bucket_id: int) -> None:
    """Red when the quota had to hold the object twice; with versions it does, for both stay."""
    await catalog.write(lambda tx: buckets.set_quota(tx, bucket_id, 15))
    await _put(catalog, bucket_id)
    await _rename(catalog, bucket_id, await source_of(catalog, bucket_id, KEY), b"new")
    assert await lookup.lookup(catalog, bucket_id, b"new") is not None
    assert await _garbage(catalog) == set()
    await _set(catalog, bucket_id, Versioning.ENABLED)
    with pytest.raises(QuotaExceeded):
        await _rename(catalog, bucket_id, await source_of(catalog, bucket_id, b"new"), KEY)


@pytest.mark.parametrize("replacing", [_put, _delete], ids=["put", "delete"])
async def test_what_is_noncurrent_stays_so_since_it_was(
    catalog: Catalog, bucket_id: int, clock: Clock, replacing: Callable[[Catalog, int], Awaitable[object]]
) -> None:
    """Replacing the null version above an older one does not make that one younger, so that a rule's days run out.
    Red when each delete of a key in a suspended bucket began them anew."""
    await _set(catalog, bucket_id, Versioning.ENABLED)
    await _put(catalog, bucket_id)
    await _set(catalog, bucket_id, Versioning.SUSPENDED)
    since_ms = clock.now_ms
    await _delete(catalog, bucket_id)
    clock.now_ms += 1000
    await replacing(catalog, bucket_id)
    await _delete(catalog, bucket_id)
    (oldest,) = await catalog.read(
        lambda reader: lifecycle.oldest_older(reader, bucket_id, KEY, after=-1, limit=1)
    )
    assert oldest.noncurrent_ms == since_ms


async def test_a_quota_counts_all_versions(catalog: Catalog, bucket_id: int) -> None:
    """An overwrite adds its bytes where the old version stays, and replaces them where the null version is replaced.
    Red when the current version was taken for replaced, and when the early check let a suspended bucket replace none.
    """
    await catalog.write(lambda tx: buckets.set_quota(tx, bucket_id, 25))
    await _set(catalog, bucket_id, Versioning.ENABLED)
    await _put(catalog, bucket_id)
    await _put(catalog, bucket_id)
    with pytest.raises(QuotaExceeded):
        await _put(catalog, bucket_id)
    bucket = await buckets.get(catalog, "bucket")
    assert bucket is not None
    with pytest.raises(QuotaExceeded):
        await usage.check_before_body(catalog, bucket, KEY, 10)
    await _set(catalog, bucket_id, Versioning.SUSPENDED)
    await _put(catalog, bucket_id, size=5)
    bucket = await buckets.get(catalog, "bucket")
    assert bucket is not None
    await usage.check_before_body(catalog, bucket, KEY, 5)
    await _put(catalog, bucket_id, size=5)
    with pytest.raises(QuotaExceeded):
        await _put(catalog, bucket_id, size=6)


async def test_attributes_change_in_place(catalog: Catalog, bucket_id: int) -> None:
    """Of the current version, or of an older one by its id; not of a marker. Red when an older one was left alone."""

    async def tag(version_id: str | None, value: str) -> str | None:
        return await catalog.write(
            lambda tx: objects.change_attributes(
                tx,
                bucket_id=bucket_id,
                key=KEY,
                version_id=version_id,
                change=lambda attributes: Attributes(tags={"a": value}),
            )
        )

    async def tag_of(version_id: str) -> str | None:
        row = await lookup.lookup_version(catalog, bucket_id, KEY, version_id)
        assert isinstance(row, ObjectRow)
        return row.attributes.tags.get("a")

    with pytest.raises(NoSuchKey):
        await tag(None, "x")
    await _put(catalog, bucket_id)
    assert await tag(None, "0") is None
    await _set(catalog, bucket_id, Versioning.ENABLED)
    version = await _put(catalog, bucket_id)
    assert version is not None
    assert await tag("null", "1") == "null"
    assert await tag(None, "2") == version
    assert [await tag_of("null"), await tag_of(version)] == ["1", "2"]
    marker = await _delete(catalog, bucket_id)
    for version_id in (None, marker.version_id):
        with pytest.raises(IsDeleteMarker):
            await tag(version_id, "3")
    with pytest.raises(NoSuchVersion):
        await tag("f" * 32, "3")


async def test_a_transition_gives_a_version_another_blob_or_nothing(catalog: Catalog, bucket_id: int) -> None:
    """Sequence, id and the rest stay; the old blob is garbage. A version that is another by then keeps its own."""
    old, other = new_blob(), new_blob()
    await put(catalog, bucket_id, KEY, old, attributes=Attributes(tags={"a": "b"}))
    source = await source_of(catalog, bucket_id, KEY)

    async def transition() -> bool:
        return await catalog.write(
            lambda tx: objects.replace_blob(
                tx,
                bucket_id=bucket_id,
                key=KEY,
                sequence=source.sequence,
                old_blob_id=source.blob_id,
                blob=other,
                storage_class="REDUCED_REDUNDANCY",
            )
        )

    assert await transition()
    row = await lookup.lookup(catalog, bucket_id, KEY)
    assert row is not None
    assert (row.blob.id, row.sequence, row.attributes) == (
        other.id,
        source.sequence,
        Attributes(tags={"a": "b"}, storage_class="REDUCED_REDUNDANCY"),
    )
    assert await _garbage(catalog) == {old.id}
    assert not await transition()


async def test_a_locked_version_stays(catalog: Catalog, bucket_id: int, clock: Clock) -> None:
    """Default retention is the transaction's own reading of the bucket; versioning can't be suspended under a lock, and
    a marker is no removal. Red when the guard was left out, and when the default was not applied."""
    with pytest.raises(VersioningLocked):
        await catalog.write(lambda tx: buckets.set_lock(tx, bucket_id, LockConfiguration()))
    await _set(catalog, bucket_id, Versioning.ENABLED)
    await catalog.write(lambda tx: buckets.set_lock(tx, bucket_id, LockConfiguration("GOVERNANCE", days=1)))
    with pytest.raises(VersioningLocked):
        await _set(catalog, bucket_id, Versioning.SUSPENDED)
    version = await _put(catalog, bucket_id)
    row = await lookup.lookup(catalog, bucket_id, KEY)
    assert row is not None
    clock_ms = (await catalog.meta()).clock_ms
    assert row.attributes.retention == Retention("GOVERNANCE", max(clock_ms, clock.now_ms) + 86_400_000)
    with pytest.raises(ObjectLocked):
        await _remove(catalog, bucket_id, version)
    assert (await _delete(catalog, bucket_id)).delete_marker
    assert (await _remove(catalog, bucket_id, version, bypass=True)).existed


async def test_what_a_bucket_is_told_is_known_at_once(catalog: Catalog, bucket_id: int) -> None:
    """Versioning, lock and configuration, in the row and in the cached bucket (S16)."""
    encryption = DefaultEncryption("AES256")
    await _set(catalog, bucket_id, Versioning.ENABLED)
    await catalog.write(lambda tx: buckets.set_lock(tx, bucket_id, LockConfiguration()))
    await catalog.write(
        lambda tx: buckets.change_actions(tx, bucket_id, lambda actions: BucketActions(encryption))
    )
    bucket = await buckets.get(catalog, "bucket")
    assert bucket is not None
    assert bucket.is_versioned
    assert (bucket.versioning, bucket.lock) == (Versioning.ENABLED, LockConfiguration())
    assert bucket.actions == BucketActions(encryption)
