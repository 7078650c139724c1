"""Multipart uploads and their parts (S14)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import sqlalchemy as sa
from msgspec import structs

from catalog import blobs, lifecycle, objects, schema, versions
from catalog.attributes import pack_attributes, unpack_attributes
from catalog.buckets import unpack_actions
from catalog.errors import (
    Changed,
    EntityTooSmall,
    InvalidPart,
    InvalidPartOrder,
    NoSuchBucket,
    NoSuchUpload,
)
from catalog.model import (
    Attributes,
    Completion,
    CompletionPlan,
    Condition,
    NewBlob,
    PartRef,
    PartRow,
    PutResult,
    RequestedPart,
    Source,
    UploadRow,
)
from catalog.statement import Reader, Row, Statement, constant, parameter
from catalog.sweeping import begin_sweep
from catalog.transaction import Transaction
from catalog.upload_listing import list_parts

if TYPE_CHECKING:
    from catalog.engine import Catalog

_PARTS_MAX = 10_000

_uploads = schema.uploads
_parts = schema.parts
_completions = schema.completions
_live_bucket = sa.exists().where(schema.buckets.c.id == _uploads.c.bucket_id)

_INSERT = Statement(
    sa.insert(_uploads).returning(_uploads.c.number),
    "bucket_id",
    "key",
    "upload_id",
    "created_ms",
    "revision",
    "owner",
    "storage_class",
    "checksum_algorithm",
    "checksum_type",
    "content_type",
    "attributes",
)
_BUCKET = Statement(
    sa.select(schema.buckets.c.configuration).where(schema.buckets.c.id == parameter("p_id")), "p_id"
)
_COLUMNS = (
    _uploads.c.number,
    _uploads.c.upload_id,
    _uploads.c.bucket_id,
    _uploads.c.key,
    _uploads.c.created_ms,
    _uploads.c.revision,
    _uploads.c.owner,
    _uploads.c.content_type,
    _uploads.c.attributes,
    _uploads.c.checksum_algorithm,
    _uploads.c.checksum_type,
)
_BY_ID = Statement(
    sa.select(*_COLUMNS).where(
        _uploads.c.bucket_id == parameter("p_bucket"),
        _uploads.c.key == parameter("p_key"),
        _uploads.c.upload_id == parameter("p_id"),
    ),
    "p_bucket",
    "p_key",
    "p_id",
)
_REVISION = Statement(
    sa.select(_uploads.c.revision).where(_uploads.c.number == parameter("p_number"), _live_bucket), "p_number"
)
_RAISE_REVISION = Statement(
    sa.update(_uploads)
    .values(revision=_uploads.c.revision + constant("1"))
    .where(_uploads.c.number == parameter("p_number"), _live_bucket),
    "p_number",
)
_DELETE = Statement(sa.delete(_uploads).where(_uploads.c.number == parameter("p_number")), "p_number")

_PART_BLOB = Statement(
    sa.select(_parts.c.blob_id).where(
        _parts.c.upload_number == parameter("p_upload"), _parts.c.number == parameter("p_number")
    ),
    "p_upload",
    "p_number",
)
_INSERT_PART = Statement(
    sa.insert(_parts), "upload_number", "number", "size", "modified_ms", "etag", "checksum", "blob_id"
)
_UPDATE_PART = Statement(
    sa.update(_parts)
    .values(
        size=parameter("n_size"),
        modified_ms=parameter("n_modified"),
        etag=parameter("n_etag"),
        checksum=parameter("n_checksum"),
        blob_id=parameter("n_blob"),
    )
    .where(_parts.c.upload_number == parameter("p_upload"), _parts.c.number == parameter("p_number")),
    "n_size",
    "n_modified",
    "n_etag",
    "n_checksum",
    "n_blob",
    "p_upload",
    "p_number",
)
_SOURCE_PARTS = Statement(
    sa.select(schema.blobs.c.parts).where(schema.blobs.c.id == parameter("p_blob")), "p_blob"
)
_COMPLETION = Statement(
    sa.select(
        _completions.c.etag, _completions.c.version_id, _completions.c.sequence, _completions.c.modified_ms
    ).where(
        _completions.c.bucket_id == parameter("p_bucket"),
        _completions.c.key == parameter("p_key"),
        _completions.c.upload_id == parameter("p_id"),
    ),
    "p_bucket",
    "p_key",
    "p_id",
)
_INSERT_COMPLETION = Statement(
    sa.insert(_completions),
    "bucket_id",
    "key",
    "upload_id",
    "completed_ms",
    "etag",
    "sequence",
    "modified_ms",
    "version_id",
)


def create(
    tx: Transaction,
    *,
    bucket_id: int,
    key: bytes,
    owner: str,
    content_type: str,
    attributes: Attributes,
    checksum_algorithm: str | None = None,
    checksum_type: str | None = None,
) -> UploadRow:
    """Open an upload. Its id rises with time (ListMultipartUploads orders uploads of a key by age) and ends
    in 128 random bits. Raises NoSuchBucket."""
    bucket = tx.row(_BUCKET, (bucket_id,))
    if bucket is None:
        raise NoSuchBucket("the bucket was deleted")
    if bucket[0] is not None:
        lifecycle.noted_upload(tx, bucket_id, key, unpack_actions(bucket[0]))
    upload_id = f"{tx.now_ms:012x}{tx.random(16).hex()}"
    storage_class = None if attributes.storage_class == "STANDARD" else attributes.storage_class
    row = tx.row(
        _INSERT,
        (
            bucket_id,
            key,
            upload_id,
            tx.now_ms,
            0,
            owner,
            storage_class,
            checksum_algorithm,
            checksum_type,
            content_type,
            pack_attributes(attributes),
        ),
    )
    assert row is not None
    return UploadRow(
        number=row[0],
        upload_id=upload_id,
        bucket_id=bucket_id,
        key=key,
        created_ms=tx.now_ms,
        revision=0,
        owner=owner,
        content_type=content_type,
        attributes=attributes,
        checksum_algorithm=checksum_algorithm,
        checksum_type=checksum_type,
    )


async def get(catalog: Catalog, bucket_id: int, key: bytes, upload_id: str) -> UploadRow:
    """The open upload. Raises NoSuchUpload; see `completion` for one that was completed."""
    rows = await catalog.point(_BY_ID, (bucket_id, key, upload_id))
    if not rows:
        raise NoSuchUpload(upload_id)
    row = rows[0]
    return UploadRow(*(*row[:8], unpack_attributes(row[8]), *row[9:]))


async def completion(catalog: Catalog, bucket_id: int, key: bytes, upload_id: str) -> Completion | None:
    """What completing this upload gave, if it was not long ago."""
    rows = await catalog.point(_COMPLETION, (bucket_id, key, upload_id))
    return _completion(rows[0]) if rows else None


def _completion(row: Row) -> Completion:
    return Completion(row[0], PutResult(row[1], row[2], row[3]))


def put_part(
    tx: Transaction,
    *,
    upload: UploadRow,
    number: int,
    blob: NewBlob,
    etag: str,
    checksum: str | None = None,
    size: int | None = None,
) -> PartRow:
    """Commit an uploaded part, replacing one of the same number. `size` is that of the plain part in bytes, if the blob
    is sealed. Hand the blob to `Catalog.write` too. Raises NoSuchUpload, HorizonPassed."""
    _raise_revision(tx, upload)
    blobs.add(tx, blob)
    plain_size = blob.size if size is None else size
    return _write_part(tx, upload, PartRow(number, blob.id, plain_size, etag, checksum, tx.now_ms))


def put_part_reference(
    tx: Transaction, *, upload: UploadRow, number: int, source: Source, etag: str, checksum: str | None = None
) -> PartRow:
    """Make the whole of a plain (not multipart) object a part, moving no bytes. Raises NoSuchUpload, and
    Changed when the source is no longer what the request was prepared from (S14)."""
    _raise_revision(tx, upload)
    size = versions.check_source(tx, source)
    plain = tx.row(_SOURCE_PARTS, (source.blob_id,))
    assert plain == (0,), "a composite blob can't be a part: copy its bytes"
    blobs.add_reference(tx, source.blob_id)
    return _write_part(tx, upload, PartRow(number, source.blob_id, size, etag, checksum, tx.now_ms))


def _raise_revision(tx: Transaction, upload: UploadRow) -> None:
    if tx.execute(_RAISE_REVISION, (upload.number,)) != 1:
        raise NoSuchUpload(upload.upload_id)


def _write_part(tx: Transaction, upload: UploadRow, part: PartRow) -> PartRow:
    replaced = tx.row(_PART_BLOB, (upload.number, part.number))
    values = (part.size, part.modified_ms, part.etag, part.checksum, part.blob_id)
    if replaced is None:
        tx.execute(_INSERT_PART, (upload.number, part.number, *values))
    else:
        tx.execute(_UPDATE_PART, (*values, upload.number, part.number))
        blobs.release(tx, replaced[0])
    return part


def plan_completion(
    reader: Reader, upload: UploadRow, requested: Sequence[RequestedPart], *, part_bytes_min: int
) -> CompletionPlan:
    """Check a completion's list against the uploaded parts and prepare the manifest, outside the transaction.
    Raises NoSuchUpload, InvalidPartOrder, InvalidPart, EntityTooSmall."""
    if any(second.number < first.number for first, second in pairwise(requested)):
        raise InvalidPartOrder("part numbers must rise")
    # A part that was sent again may be listed twice: what was sent last counts, as it does in the upload.
    requested = list({wanted.number: wanted for wanted in requested}.values())
    # The revision is read first: a part committed after it makes `complete` start over.
    revision = reader.row(_REVISION, (upload.number,))
    if revision is None:
        raise NoSuchUpload(upload.upload_id)
    uploaded = {part.number: part for part in list_parts(reader, upload.number, limit=_PARTS_MAX).parts}
    parts = tuple(_match(uploaded, wanted) for wanted in requested)
    for part in parts[:-1]:
        if part.size < part_bytes_min:
            raise EntityTooSmall(part.number, part.etag, part.size, part_bytes_min)
    used = {part.number for part in parts}
    return CompletionPlan(
        upload=structs.replace(upload, revision=revision[0]),
        parts=parts,
        size=sum(part.size for part in parts),
        manifest=blobs.pack_manifest(parts),
        unused=tuple(number for number in uploaded if number not in used),
    )


def _match(uploaded: dict[int, PartRow], wanted: RequestedPart) -> PartRef:
    part = uploaded.get(wanted.number)
    if part is None or part.etag != wanted.etag:
        raise InvalidPart(wanted.number)
    if wanted.checksum is not None and part.checksum is not None and wanted.checksum != part.checksum:
        raise InvalidPart(wanted.number)
    return PartRef(part.number, part.blob_id, part.size, part.etag, part.checksum)


def complete(
    tx: Transaction,
    plan: CompletionPlan,
    *,
    etag: str,
    attributes: Attributes,
    condition: Condition | None = None,
) -> PutResult:
    """Make the planned parts the current version of the key, O(1) in their number. Raises Changed when a part
    was committed since the plan (S14), NoSuchUpload, NoSuchBucket, NoSuchKey, PreconditionFailed, and
    QuotaExceeded: parts of an open upload count towards no quota, the object they become does. An upload
    that was completed to the same ETag answers as then."""
    upload = plan.upload
    revision = tx.row(_REVISION, (upload.number,))
    if revision is None:
        done = tx.row(_COMPLETION, (upload.bucket_id, upload.key, upload.upload_id))
        if done is None or done[0] != etag:
            raise NoSuchUpload(upload.upload_id)
        return _completion(done).result
    if revision[0] != upload.revision:
        raise Changed("a part was uploaded meanwhile")
    current = versions.target(tx, upload.bucket_id, upload.key, condition)
    blob_id = blobs.add_composite(tx, plan.size, len(plan.parts), plan.manifest)
    result = objects.replace(
        tx,
        current,
        bucket_id=upload.bucket_id,
        key=upload.key,
        blob_id=blob_id,
        size=plan.size,
        etag=etag,
        content_type=upload.content_type,
        attributes=attributes,
    )
    tx.execute(_DELETE, (upload.number,))
    tx.execute(
        _INSERT_COMPLETION,
        (
            upload.bucket_id,
            upload.key,
            upload.upload_id,
            tx.now_ms,
            etag,
            result.sequence,
            result.modified_ms,
            result.version_id,
        ),
    )
    begin_sweep(tx, "upload", upload.number, plan.unused)
    return result


def abort(tx: Transaction, upload: UploadRow) -> None:
    """Close an upload and give its parts' space back. Raises NoSuchUpload."""
    if not abort_number(tx, upload.number):
        raise NoSuchUpload(upload.upload_id)


def abort_number(tx: Transaction, number: int) -> bool:
    """The same by the catalog's own name of an upload; False when it is not open."""
    if tx.execute(_DELETE, (number,)) != 1:
        return False
    begin_sweep(tx, "upload", number)
    return True
