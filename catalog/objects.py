"""Objects: the current version of each key (S13, S14). Writes run inside `Catalog.write`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from catalog import blobs, buckets, schema, usage, version_rows
from catalog.errors import Changed, NoSuchBucket, NoSuchKey, PreconditionFailed
from catalog.model import (
    Attributes,
    BlobRow,
    Bucket,
    Condition,
    DeleteResult,
    NewBlob,
    ObjectRow,
    PutResult,
    Source,
)
from catalog.statement import Row, Statement, parameter
from catalog.transaction import Transaction

if TYPE_CHECKING:
    from catalog.engine import Catalog

_CHECKSUM_TYPES = ("FULL_OBJECT", "COMPOSITE")
CHECKSUM_KINDS: tuple[tuple[str, str], ...] = (
    ("CRC32", "FULL_OBJECT"),
    ("CRC32", "COMPOSITE"),
    ("CRC32C", "FULL_OBJECT"),
    ("CRC32C", "COMPOSITE"),
    ("CRC64NVME", "FULL_OBJECT"),
    ("CRC64NVME", "COMPOSITE"),
    ("SHA1", "FULL_OBJECT"),
    ("SHA1", "COMPOSITE"),
    ("SHA256", "FULL_OBJECT"),
    ("SHA256", "COMPOSITE"),
    *(
        (name, kind)
        for name in ("SHA512", "MD5", "XXHASH64", "XXHASH3", "XXHASH128")
        for kind in _CHECKSUM_TYPES
    ),
)
"""Algorithm and type by `checksum_code`. Stored numbers: append only."""

_CODE_BY_KIND = {kind: code for code, kind in enumerate(CHECKSUM_KINDS)}
_DEFAULTS = Attributes()
_NOTHING = msgspec.msgpack.encode(_DEFAULTS)
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Attributes)

_objects = schema.objects
_buckets = schema.buckets

_LOOKUP = Statement(
    sa.select(
        *blobs.ROW_COLUMNS,
        _objects.c.sequence,
        _objects.c.size,
        _objects.c.modified_ms,
        _objects.c.etag,
        _objects.c.version_id,
        _objects.c.content_type,
        _objects.c.attributes,
        sa.select(schema.meta.c.config_generation).scalar_subquery(),
    )
    .join_from(_objects, schema.blobs, schema.blobs.c.id == _objects.c.blob_id)
    .where(_objects.c.bucket_id == parameter("p_bucket"), _objects.c.key == parameter("p_key")),
    "p_bucket",
    "p_key",
)
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


def pack_attributes(attributes: Attributes) -> bytes | None:
    """Attributes as stored: None when there is nothing but defaults."""
    packed = _encoder.encode(attributes)
    return None if packed == _NOTHING else packed


def unpack_attributes(packed: bytes | None) -> Attributes:
    """The inverse of `pack_attributes`."""
    return _DEFAULTS if packed is None else _decoder.decode(packed)


def checksum_code(attributes: Attributes) -> int | None:
    """The number of the checksum's kind, None without one. Raises KeyError for an unknown kind."""
    checksum = attributes.checksum
    return None if checksum is None else _CODE_BY_KIND[checksum.algorithm, checksum.type]


async def find(catalog: Catalog, name: str, key: bytes) -> tuple[Bucket | None, ObjectRow | None]:
    """Bucket and current version at once, each None when it is missing; both as of the same moment (P4).

    A cached bucket is proved by the config generation that the statement reads beside the object (S16), which saves
    the proof of its own that `buckets.get` costs.
    """
    known = catalog.known_configuration
    bucket = known.buckets.get(name)
    if bucket is not None:
        rows = await catalog.point(_LOOKUP, (bucket.id, key))
        if rows and rows[0][17] == known.meta.config_generation:
            blob = await _blob(catalog, rows[0])
            if blob is not None:
                return bucket, _object(key, rows[0], blob)
    bucket = await buckets.get(catalog, name)
    return bucket, None if bucket is None else await lookup(catalog, bucket.id, key)


async def lookup(catalog: Catalog, bucket_id: int, key: bytes) -> ObjectRow | None:
    """The current version, or None. One statement on the loop's own connection; a multipart object and a
    blob of several runs take one more."""
    while True:
        found = await catalog.point(_LOOKUP, (bucket_id, key))
        if not found:
            return None
        blob = await _blob(catalog, found[0])
        if blob is not None:
            return _object(key, found[0], blob)
        # The object was replaced and collected between two statements: look again.


def _object(key: bytes, row: Row, blob: BlobRow) -> ObjectRow:
    return ObjectRow(
        key, row[14], row[10], row[11], row[13], row[12], row[15], unpack_attributes(row[16]), blob
    )


async def blob(catalog: Catalog, blob_id: bytes) -> BlobRow | None:
    """A blob as it lies now, e.g. for a reader that missed a block (S21); None when it is gone."""
    found = await catalog.point(blobs.BY_ID, (blob_id,))
    return await _blob(catalog, found[0]) if found else None


async def blobs_by_id(catalog: Catalog, blob_ids: Iterable[bytes]) -> dict[bytes, BlobRow]:
    """Those of the blobs that exist, without manifests. Up to some tens, e.g. parts of a manifest, are one
    statement on the loop; more are read in a thread."""
    wanted = list(blob_ids)
    if len(wanted) > blobs.IDS_PER_BATCH:
        return await catalog.read(lambda reader: blobs.by_ids(reader, catalog.placements, wanted))
    found: dict[bytes, BlobRow] = {}
    for batch in blobs.batches(wanted):
        for row in await catalog.point(blobs.BY_IDS, batch):
            blob = await _laid_out(catalog, row)
            if blob is not None:
                found[blob.id] = blob
    return found


async def _blob(catalog: Catalog, row: Row) -> BlobRow | None:
    if row[9] == 0:
        return await _laid_out(catalog, row)
    manifest = await catalog.manifest(row[0])
    return None if manifest is None else blobs.row_of(row, (), manifest)


async def _laid_out(catalog: Catalog, row: Row) -> BlobRow | None:
    """The row's blob with its layout. With several runs all of it is read again as of one moment, lest a move
    between two statements give the first run of one layout and the rest of another; None if it is gone."""
    if row[8]:
        blob_id, numbers = row[0], catalog.placements
        again = await catalog.read(lambda reader: blobs.by_ids(reader, numbers, [blob_id]))
        return again.get(blob_id)
    nodes = catalog.placements.nodes_by_number.get(row[7])
    if nodes is None:
        nodes = await catalog.placement(row[7])
    return blobs.row_of(row, nodes)


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
