"""Writing versions (S12-S14). All of it runs inside `Catalog.write`.

The bucket's row, read in the same transaction, decides what a write does: in a bucket that never had versioning the
current version is replaced; where versioning is enabled it becomes noncurrent under a new one; where it is suspended
the null version is replaced, wherever it lies.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import structs

from catalog import blobs, lifecycle, locks, usage, version_rows, versions
from catalog.attributes import checksum_code, pack_attributes, unpack_attributes
from catalog.buckets import unpack_actions, unpack_lock
from catalog.errors import Changed
from catalog.model import (
    Attributes,
    Condition,
    DeleteResult,
    NewBlob,
    PutResult,
    Source,
    Versioning,
)
from catalog.transaction import Transaction
from catalog.versions import NULL_VERSION, Target, Version

# -- new versions --------------------------------------------------------------------------------------------


def put(
    tx: Transaction,
    *,
    bucket_id: int,
    key: bytes,
    blob: NewBlob,
    etag: str,
    content_type: str,
    attributes: Attributes,
    size: int | None = None,
    condition: Condition | None = None,
) -> PutResult:
    """Make a durable blob the current version of a key. `size` is that of the plain object in bytes, if the blob is
    sealed. Hand the blob to `Catalog.write` too, which then owns it whatever happens (S11). Raises NoSuchBucket,
    NoSuchKey, PreconditionFailed, QuotaExceeded, HorizonPassed."""
    current = versions.target(tx, bucket_id, key, condition)
    blobs.add(tx, blob)
    return replace(
        tx,
        current,
        bucket_id=bucket_id,
        key=key,
        blob_id=blob.id,
        size=blob.size if size is None else size,
        etag=etag,
        content_type=content_type,
        attributes=attributes,
    )


def copy(
    tx: Transaction,
    *,
    source: Source,
    bucket_id: int,
    key: bytes,
    etag: str,
    content_type: str,
    attributes: Attributes,
    condition: Condition | None = None,
) -> PutResult:
    """Make the source's blob the current version of another key, or of its own with new attributes, moving
    no bytes. Raises Changed when the source is no longer what the request was prepared from (S14), and as
    `put` does."""
    size = versions.check_source(tx, source)
    current = versions.target(tx, bucket_id, key, condition)
    # Before the replaced version is released: it may hold the very blob.
    blobs.add_reference(tx, source.blob_id)
    return replace(
        tx,
        current,
        bucket_id=bucket_id,
        key=key,
        blob_id=source.blob_id,
        size=size,
        etag=etag,
        content_type=content_type,
        attributes=attributes,
    )


def rename(
    tx: Transaction,
    *,
    source: Source,
    bucket_id: int,
    key: bytes,
    etag: str,
    content_type: str,
    attributes: Attributes,
    condition: Condition | None = None,
) -> PutResult:
    """Give the source, the current version of another key of the bucket, another key, moving no bytes: as a copy and
    a delete in one transaction. Raises Changed also when the source is a version still, but not the current one: the
    newer one must not vanish under a delete marker. Else raises as `copy` does."""
    assert source.bucket_id == bucket_id, "a rename stays within its bucket"
    assert source.key != key, "a rename needs two keys"
    size = versions.check_source(tx, source)
    if versions.target(tx, bucket_id, source.key, None).sequence != source.sequence:
        raise Changed("the source of the rename was written or deleted meanwhile")
    current = versions.target(tx, bucket_id, key, condition)
    blobs.add_reference(tx, source.blob_id)
    # Before the new version is written: what it frees, a quota must know.
    delete(tx, bucket_id=bucket_id, key=source.key)
    return replace(
        tx,
        current,
        bucket_id=bucket_id,
        key=key,
        blob_id=source.blob_id,
        size=size,
        etag=etag,
        content_type=content_type,
        attributes=attributes,
    )


def replace(
    tx: Transaction,
    current: Target,
    *,
    bucket_id: int,
    key: bytes,
    blob_id: bytes,
    size: int,
    etag: str,
    content_type: str,
    attributes: Attributes,
) -> PutResult:
    """Write the key's new version for a blob that is already referenced for it, and release what it replaces.
    `current` is what `target` returned in this transaction. Raises QuotaExceeded."""
    if current.lock_default is not None and attributes.retention is None:
        retention = locks.default_retention(tx, unpack_lock(current.lock_default))
        attributes = structs.replace(attributes, retention=retention)
    versioned = current.versioning != Versioning.NEVER
    replaced = _replaced(tx, current, bucket_id, key)
    if current.quota_bytes is not None:
        usage.check_quota(tx, bucket_id, current.quota_bytes, size - (replaced.size if replaced else 0))
    sequence = (
        versions.next_sequence(tx, current, bucket_id, key) if versioned else (current.sequence or 0) + 1
    )
    version_id = versions.new_id(tx, sequence) if current.versioning == Versioning.ENABLED else None
    values = (
        sequence,
        size,
        tx.now_ms,
        etag,
        None if attributes.storage_class == "STANDARD" else attributes.storage_class,
        checksum_code(attributes),
        blob_id,
        version_id,
        content_type,
        pack_attributes(attributes),
    )
    if replaced is not None and replaced.is_current:
        version_rows.update_current(tx, bucket_id, key, values, replaced_bytes=replaced.size)
        assert replaced.blob_id is not None
        blobs.release(tx, replaced.blob_id)
    else:
        if replaced is not None:
            _remove_older(tx, bucket_id, key, replaced)
        if current.sequence is not None:
            version_rows.push_current(tx, bucket_id, key, values)
        else:
            if versioned:
                _outdate_marker(tx, bucket_id, key)
            version_rows.insert_current(tx, bucket_id, key, values)
    _note(tx, current, bucket_id, key)
    return PutResult(version_id, sequence, tx.now_ms)


def _replaced(tx: Transaction, current: Target, bucket_id: int, key: bytes) -> Version | None:
    """The version that a new one takes the place of, if it is one without an id: the current one where the bucket
    never had versioning, the null version where versioning is suspended."""
    if current.versioning == Versioning.ENABLED:
        return None
    if current.versioning == Versioning.SUSPENDED:
        found = versions.find(tx, bucket_id, key, NULL_VERSION)
        if found is not None:
            locks.check_removable(tx, unpack_attributes(found.attributes), bypass_governance=False)
        return found
    if current.sequence is None:
        return None
    assert current.etag is not None
    assert current.modified_ms is not None
    assert current.size is not None
    return Version(
        1, current.sequence, current.blob_id, current.etag, current.modified_ms, current.size, None, None
    )


# -- deleting ------------------------------------------------------------------------------------------------


def delete(
    tx: Transaction, *, bucket_id: int, key: bytes, condition: Condition | None = None
) -> DeleteResult:
    """Delete a key: for good where the bucket never had versioning, by a delete marker elsewhere. A missing key is
    not an error unless `if_match` asks for it. Many keys: some fifty a transaction; it refuses before it writes.
    Raises NoSuchBucket, NoSuchKey, PreconditionFailed."""
    current = versions.target(tx, bucket_id, key, condition)
    existed = current.sequence is not None
    if current.versioning == Versioning.NEVER:
        if existed:
            assert current.blob_id is not None
            assert current.size is not None
            version_rows.delete_current(tx, bucket_id, key, deleted_bytes=current.size)
            blobs.release(tx, current.blob_id)
            _forget(tx, current, bucket_id, key)
        return DeleteResult(existed)
    replaced = _replaced(tx, current, bucket_id, key)
    sequence = versions.next_sequence(tx, current, bucket_id, key)
    if replaced is not None:
        _remove(tx, bucket_id, key, replaced)
    if existed and not (replaced is not None and replaced.is_current):
        version_rows.retire_current(tx, bucket_id, key)
    else:
        _outdate_marker(tx, bucket_id, key)
    version_id = versions.new_id(tx, sequence) if current.versioning == Versioning.ENABLED else None
    version_rows.insert_marker(tx, bucket_id, key, sequence, version_id)
    _note(tx, current, bucket_id, key)
    return DeleteResult(existed, version_id or NULL_VERSION, delete_marker=True)


def delete_version(
    tx: Transaction,
    *,
    bucket_id: int,
    key: bytes,
    version_id: str,
    bypass_governance: bool = False,
    condition: Condition | None = None,
) -> DeleteResult:
    """Remove one version, or delete marker, for good. A missing one is not an error unless `if_match` asks for it.
    The condition is that version's. Raises NoSuchBucket, NoSuchKey, PreconditionFailed, ObjectLocked."""
    current = versions.target(tx, bucket_id, key, None)
    found = versions.find(tx, bucket_id, key, version_id)
    if found is None:
        if condition is not None:
            versions.check_missing(condition)
        return DeleteResult(existed=False, version_id=version_id)
    if condition is not None:
        versions.check_condition(condition, found.etag, found.modified_ms, found.size)
    locks.check_removable(tx, unpack_attributes(found.attributes), bypass_governance=bypass_governance)
    _remove(tx, bucket_id, key, found)
    is_left = True
    if found.is_current or current.sequence is None:
        is_left = _promote_newest(tx, bucket_id, key)
    if is_left:
        _note(tx, current, bucket_id, key)
    else:
        _forget(tx, current, bucket_id, key)
    return DeleteResult(existed=True, version_id=version_id, delete_marker=found.blob_id is None)


def _remove(tx: Transaction, bucket_id: int, key: bytes, version: Version) -> None:
    if version.is_current:
        assert version.blob_id is not None
        version_rows.delete_current(tx, bucket_id, key, deleted_bytes=version.size)
        blobs.release(tx, version.blob_id)
    else:
        _remove_older(tx, bucket_id, key, version)


def _remove_older(tx: Transaction, bucket_id: int, key: bytes, version: Version) -> None:
    version_rows.delete_older(tx, bucket_id, key, version.sequence, deleted_bytes=version.size)
    if version.blob_id is not None:
        blobs.release(tx, version.blob_id)


def _promote_newest(tx: Transaction, bucket_id: int, key: bytes) -> bool:
    """Make the newest of the versions left the current one, if it is no delete marker. False when none is left."""
    row = tx.row(versions.NEWEST_OLDER, (bucket_id, key))
    if row is None:
        return False
    newest = Version(*row)
    if newest.blob_id is None:
        version_rows.set_newest(tx, bucket_id, key, newest.sequence)
    else:
        version_rows.promote(tx, bucket_id, key, newest.sequence)
    return True


def _outdate_marker(tx: Transaction, bucket_id: int, key: bytes) -> None:
    """The delete marker on top of the key, if there is one, gets something above it."""
    row = tx.row(versions.NEWEST_OLDER, (bucket_id, key))
    if row is not None:
        version_rows.outdate(tx, bucket_id, key, row[1])


# -- changing what is there ----------------------------------------------------------------------------------


def change_attributes(
    tx: Transaction,
    *,
    bucket_id: int,
    key: bytes,
    version_id: str | None,
    change: Callable[[Attributes], Attributes],
) -> str | None:
    """Rewrite the attributes of one version, the current one without an id, in place: tags, retention, legal hold.
    The version id to show (None: the bucket never had versioning). `change` may raise. Raises NoSuchBucket, NoSuchKey,
    NoSuchVersion, IsDeleteMarker."""
    current = versions.target(tx, bucket_id, key, None)
    found = versions.required(tx, bucket_id, key, version_id)
    attributes = change(unpack_attributes(found.attributes))
    assert found.blob_id is not None
    version_rows.change(
        tx,
        bucket_id,
        key,
        found.sequence,
        storage_class=_stored_class(attributes.storage_class),
        blob_id=found.blob_id,
        attributes=pack_attributes(attributes),
    )
    _note(tx, current, bucket_id, key, None if found.is_current else found.sequence)
    return None if current.versioning == Versioning.NEVER else found.version_id or NULL_VERSION


def replace_blob(
    tx: Transaction,
    *,
    bucket_id: int,
    key: bytes,
    sequence: int,
    old_blob_id: bytes,
    blob: NewBlob,
    storage_class: str,
) -> bool:
    """Let a version have the same bytes in another blob, of another storage class; hand the blob to `Catalog.write`.
    False, and the blob is not taken, when the version is not what it was."""
    one = (bucket_id, key, sequence)
    row = tx.row(versions.BY_SEQUENCE, (*one, *one))
    if row is None or row[2] != old_blob_id:
        return False
    blobs.add(tx, blob)
    attributes = structs.replace(unpack_attributes(row[7]), storage_class=storage_class)
    version_rows.change(
        tx,
        *one,
        storage_class=_stored_class(storage_class),
        blob_id=blob.id,
        attributes=pack_attributes(attributes),
    )
    blobs.release(tx, old_blob_id)
    return True


def _stored_class(storage_class: str) -> str | None:
    return None if storage_class == "STANDARD" else storage_class


def _note(tx: Transaction, current: Target, bucket_id: int, key: bytes, changed: int | None = None) -> None:
    """Where rules concern the key, see to it that they are looked at in time. `changed`: the sequence of an older
    version whose attributes are others now."""
    if current.configuration is not None:
        lifecycle.noted(tx, bucket_id, key, unpack_actions(current.configuration), changed)


def _forget(tx: Transaction, current: Target, bucket_id: int, key: bytes) -> None:
    """Of the key no version is left."""
    if current.configuration is not None and unpack_actions(current.configuration).lifecycle:
        lifecycle.emptied(tx, bucket_id, key)
