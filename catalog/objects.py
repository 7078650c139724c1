"""Objects: the current version of each key (S13, S14). Writes run inside `Catalog.write`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from catalog import blobs, schema, usage, version_rows
from catalog.attributes import checksum_code, pack_attributes
from catalog.errors import Changed, NoSuchBucket, NoSuchKey, PreconditionFailed
from catalog.model import (
    Attributes,
    Condition,
    DeleteResult,
    NewBlob,
    PutResult,
    Source,
)
from catalog.statement import Row, Statement, parameter
from catalog.transaction import Transaction

if TYPE_CHECKING:
    pass

_objects = schema.objects
_buckets = schema.buckets

_SOURCE = Statement(
    sa.select(_objects.c.blob_id, _objects.c.sequence, _objects.c.size).where(
        _objects.c.bucket_id == parameter("p_bucket"), _objects.c.key == parameter("p_key")
    ),
    "p_bucket",
    "p_key",
)
# Bucket and current version at once: what every write to a key must know (S12).
_TARGET = Statement(
    sa.select(
        _buckets.c.versioning,
        _objects.c.sequence,
        _objects.c.blob_id,
        _objects.c.etag,
        _objects.c.modified_ms,
        _objects.c.size,
        _buckets.c.quota_bytes,
    )
    .select_from(
        _buckets.outerjoin(
            _objects,
            sa.and_(_objects.c.bucket_id == _buckets.c.id, _objects.c.key == parameter("p_key")),
        )
    )
    .where(_buckets.c.id == parameter("p_bucket")),
    "p_key",
    "p_bucket",
)


def put(
    tx: Transaction,
    *,
    bucket_id: int,
    key: bytes,
    blob: NewBlob,
    etag: str,
    content_type: str,
    attributes: Attributes,
    condition: Condition | None = None,
) -> PutResult:
    """Make a durable blob the current version of a key. Hand the blob to `Catalog.write` too, which then
    owns it whatever happens (S11). Raises NoSuchBucket, NoSuchKey, PreconditionFailed, QuotaExceeded,
    HorizonPassed."""
    current = target(tx, bucket_id, key, condition)
    blobs.add(tx, blob)
    return replace(
        tx,
        current,
        bucket_id=bucket_id,
        key=key,
        blob_id=blob.id,
        size=blob.size,
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
    size = check_source(tx, source)
    current = target(tx, bucket_id, key, condition)
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


def delete(
    tx: Transaction, *, bucket_id: int, key: bytes, condition: Condition | None = None
) -> DeleteResult:
    """Delete the current version. A missing key is not an error unless `if_match` asks for it. Many keys:
    some fifty a transaction. Raises NoSuchBucket, NoSuchKey, PreconditionFailed."""
    current = target(tx, bucket_id, key, condition)
    if current[1] is None:
        return DeleteResult(existed=False)
    version_rows.delete_current(tx, bucket_id, key, deleted_bytes=current[5])
    blobs.release(tx, current[2])
    return DeleteResult(existed=True)


def check_source(tx: Transaction, source: Source) -> int:
    """The source's size in bytes, if it still is what a copy was prepared from; else Changed (S14)."""
    row = tx.row(_SOURCE, (source.bucket_id, source.key))
    if row is None or row[0] != source.blob_id or row[1] != source.sequence:
        raise Changed("the source of the copy was replaced or deleted")
    size: int = row[2]
    return size


def target(tx: Transaction, bucket_id: int, key: bytes, condition: Condition | None) -> Row:
    """Versioning of the bucket, the key's current (sequence, blob id, etag, modified_ms, size), all None without
    one, and the bucket's quota in bytes; the condition is checked. Raises NoSuchBucket, NoSuchKey,
    PreconditionFailed."""
    row = tx.row(_TARGET, (key, bucket_id))
    if row is None:
        raise NoSuchBucket("the bucket was deleted")
    assert row[0] == 0, "versioned buckets are written by another path"
    if condition is not None:
        _check(condition, row)
    return row


def _check(condition: Condition, current: Row) -> None:
    _, sequence, _, etag, modified_ms, size, _ = current
    if (
        sequence is not None
        and condition.if_none_match is not None
        and condition.if_none_match in ("*", etag)
    ):
        raise PreconditionFailed("If-None-Match")
    if condition.if_match is not None:
        if sequence is None:
            raise NoSuchKey("If-Match on a key that does not exist")
        if condition.if_match not in ("*", etag):
            raise PreconditionFailed("If-Match")
    if sequence is None:
        return
    if (
        condition.if_match_modified_ms is not None
        and condition.if_match_modified_ms // 1000 != modified_ms // 1000
    ):
        raise PreconditionFailed("x-amz-if-match-last-modified-time")
    if condition.if_match_size is not None and condition.if_match_size != size:
        raise PreconditionFailed("x-amz-if-match-size")


def replace(
    tx: Transaction,
    current: Row,
    *,
    bucket_id: int,
    key: bytes,
    blob_id: bytes,
    size: int,
    etag: str,
    content_type: str,
    attributes: Attributes,
) -> PutResult:
    """Write the key's row for a blob that is already referenced for it, and release what it replaces.
    `current` is what `target` returned in this transaction. Raises QuotaExceeded."""
    quota_bytes = current[6]
    if quota_bytes is not None:
        usage.check_quota(tx, bucket_id, quota_bytes, size - (current[5] or 0))
    sequence = 1 if current[1] is None else current[1] + 1
    values = (
        sequence,
        size,
        tx.now_ms,
        etag,
        None if attributes.storage_class == "STANDARD" else attributes.storage_class,
        checksum_code(attributes),
        blob_id,
        None,
        content_type,
        pack_attributes(attributes),
    )
    if current[1] is None:
        version_rows.insert_current(tx, bucket_id, key, values)
    else:
        version_rows.update_current(tx, bucket_id, key, values, replaced_bytes=current[5])
        blobs.release(tx, current[2])
    return PutResult(None, sequence, tx.now_ms)
