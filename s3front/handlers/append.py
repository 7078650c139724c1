"""PutObject with ``x-amz-write-offset-bytes``: the body goes behind the bytes that are there, which do not move.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/directory-buckets-objects-append.html. AWS has it for directory
buckets; here it is for all. In a bucket with versions each append makes one.
"""

from __future__ import annotations

import asyncio
from typing import Final

from msgspec import structs

from catalog import appending, lookup, usage
from catalog.errors import Changed
from catalog.model import Attributes, Bucket, Checksum, ObjectRow, PutResult
from s3front import errors
from s3front.blob_store import StoredBlob, store_blob
from s3front.body import Body
from s3front.encryption.customer_keys import PREFIX as CUSTOMER_PREFIX
from s3front.encryption.data_keys import SSE_C, Sealing
from s3front.encryption.requests import for_new_object, for_part, response_headers
from s3front.encryption.wanted import KEY_ID_HEADER, SSE_HEADER
from s3front.handlers import new_version
from s3front.handlers.lifecycle import new_expiration_header
from s3front.handlers.multipart import DEFAULT_UPLOAD_CHECKSUM
from s3front.handlers.multipart_complete import checksum_of_parts, etag_of_parts
from s3front.handlers.one_version import version_headers
from s3front.limits import OBJECT_BYTES_MAX, PART_BYTES_MAX
from s3front.request import Request
from s3front.response import Response, header
from s3front.services import FrontServices
from s3front.wire.checksum_headers import checksum_headers
from s3front.wire.checksums import (
    ALGORITHMS,
    Algorithm,
    UploadChecksum,
    check_part_algorithm,
    declared_checksum,
    full_object,
)
from s3front.wire.conditions import write_condition

OFFSET_HEADER: Final = "x-amz-write-offset-bytes"


def write_offset(value: str) -> int:
    """The header's value. Raises InvalidArgument for what is no number of bytes."""
    if not (value.isascii() and value.isdigit()) or len(value) > 19:
        raise errors.InvalidArgument(
            "The write offset must be a number of bytes", ArgumentName=OFFSET_HEADER, ArgumentValue=value
        )
    return int(value)


async def append_object(services: FrontServices, request: Request, bucket: Bucket) -> Response:
    """Append the request's body, or create the object with it, at offset 0, where there is none.

    Metadata, tags and type are those of the first piece. Raises InvalidWriteOffset unless the offset is the size, also
    when another client has appended meanwhile; TooManyParts, EntityTooLarge, InvalidRequest, EncryptionTypeMismatch.
    """
    offset = write_offset(request.headers[OFFSET_HEADER])
    size = Body(request, PART_BYTES_MAX).size
    if size == 0:
        raise errors.InvalidRequest("Request body cannot be empty when 'write offset' is specified.")
    row = await _current(services, request, bucket)
    if offset != (0 if row is None else row.size):
        raise errors.InvalidWriteOffset
    await usage.check_before_body(services.catalog, bucket, request.key or b"", offset + size)
    try:
        if row is None:
            return await _create(services, request, bucket)
        return await _append(services, request, bucket, row)
    except Changed:
        row = await _current(services, request, bucket)
        if offset != (0 if row is None else row.size):
            raise errors.InvalidWriteOffset from None
        raise errors.ConditionalRequestConflict from None


async def _current(services: FrontServices, request: Request, bucket: Bucket) -> ObjectRow | None:
    assert request.key is not None
    return await lookup.lookup(services.catalog, bucket.id, request.key)


async def _create(services: FrontServices, request: Request, bucket: Bucket) -> Response:
    key = request.key
    assert key is not None
    condition = write_condition(request.headers)
    described = new_version.described(services, request, bucket)
    sealing = await for_new_object(services, request, bucket)
    stored = await store_blob(
        services,
        request,
        bytes_max=PART_BYTES_MAX,
        sealing=sealing,
        storage_class=described.attributes.storage_class,
    )
    attributes = structs.replace(
        described.attributes,
        checksum=stored.checksum,
        encryption=None if sealing is None else sealing.encryption,
    )
    result = await services.catalog.write(
        lambda tx: appending.create(
            tx,
            bucket_id=bucket.id,
            key=key,
            blob=stored.blob,
            size=stored.size,
            etag=stored.etag,
            content_type=described.content_type,
            attributes=attributes,
            condition=condition,
        ),
        blob=stored.blob,
    )
    return _answer(request, bucket, result, size=stored.size, etag=stored.etag, attributes=attributes)


async def _append(services: FrontServices, request: Request, bucket: Bucket, row: ObjectRow) -> Response:
    condition = write_condition(request.headers)
    algorithm = check_append(request, row)
    lock = new_version.new_lock(services, request, bucket)
    sealing = await _sealing_of(services, request, row.attributes)
    stored = await store_blob(
        services,
        request,
        bytes_max=PART_BYTES_MAX,
        algorithm=algorithm,
        sealing=sealing,
        storage_class=row.attributes.storage_class,
    )
    try:
        # Up to 10,000 parts are packed and hashed: not on the event loop.
        plan, etag, checksum = await asyncio.to_thread(_planned, row, stored)
    except BaseException:
        services.catalog.abandon(stored.blob)  # never handed over (S11)
        raise

    def changed(attributes: Attributes) -> Attributes:
        return structs.replace(
            attributes, checksum=checksum, retention=lock.retention, legal_hold=lock.legal_hold
        )

    result = await services.catalog.write(
        lambda tx: appending.append(
            tx,
            plan,
            bucket_id=bucket.id,
            blob=stored.blob,
            etag=etag,
            change=changed,
            condition=condition,
        ),
        blob=stored.blob,
    )
    return _answer(request, bucket, result, size=plan.size, etag=etag, attributes=changed(row.attributes))


def check_append(request: Request, row: ObjectRow) -> Algorithm | None:
    """The algorithm of the checksum to keep of the piece, that of the object; None: the default. Raises TooManyParts,
    EntityTooLarge, InvalidRequest."""
    if len(appending.parts_of(row)) >= appending.PARTS_MAX:
        raise errors.TooManyParts
    size = row.size + Body(request, PART_BYTES_MAX).size
    if size > OBJECT_BYTES_MAX:
        raise errors.EntityTooLarge(ProposedSize=size, MaxSizeAllowed=OBJECT_BYTES_MAX)
    if any(name.startswith("x-amz-meta-") for name in request.headers):
        raise errors.InvalidRequest(
            "Cannot specify both a write offset value and user-defined object metadata for existing objects."
        )
    kept = _kind(row)
    if kept is None:
        return None
    # The default is what an object has that asked for none: SDKs send one of their own with each request.
    asked_for = None if kept.algorithm is DEFAULT_UPLOAD_CHECKSUM.algorithm else kept
    check_part_algorithm(asked_for, declared_checksum(request.headers))
    return kept.algorithm


def _kind(row: ObjectRow) -> UploadChecksum | None:
    checksum = row.attributes.checksum
    if checksum is None:
        return None
    return UploadChecksum(
        ALGORITHMS[checksum.algorithm], "COMPOSITE" if checksum.type == "COMPOSITE" else "FULL_OBJECT"
    )


async def _sealing_of(services: FrontServices, request: Request, attributes: Attributes) -> Sealing | None:
    """The object's own data key: a request need not name its encryption, but for SSE-C, and may name no other."""
    headers, encryption = request.headers, attributes.encryption
    stored = None if encryption is None else encryption.algorithm
    has_key = any(name.startswith(CUSTOMER_PREFIX) for name in headers)
    if has_key != (stored == SSE_C) or headers.get(SSE_HEADER, stored) != stored:
        raise errors.EncryptionTypeMismatch
    if encryption is not None and headers.get(KEY_ID_HEADER, encryption.key_id) != encryption.key_id:
        raise errors.EncryptionTypeMismatch
    return await for_part(services, request, attributes)


def _planned(row: ObjectRow, stored: StoredBlob) -> tuple[appending.AppendPlan, str, Checksum | None]:
    """The plan, and ETag and checksum of the object that it makes."""
    plan = appending.plan(
        row, stored.blob, size=stored.size, etag=stored.etag, checksum=stored.checksum.value
    )
    return plan, etag_of_parts([part.etag for part in plan.parts]), _checksum(row, stored, plan)


def _checksum(row: ObjectRow, stored: StoredBlob, plan: appending.AppendPlan) -> Checksum | None:
    """That of the whole where CRCs allow it, else that of the parts' checksums. None when one has none."""
    kind, old = _kind(row), row.attributes.checksum
    if kind is None or old is None:
        return None
    if kind.type == "FULL_OBJECT" and kind.algorithm.combine is not None:
        whole = full_object(kind.algorithm, [(old.value, row.size), (stored.checksum.value, stored.size)])
        return Checksum(kind.algorithm.name, "FULL_OBJECT", whole)
    if any(part.checksum is None for part in plan.parts):
        return None
    return checksum_of_parts(UploadChecksum(kind.algorithm, "COMPOSITE"), plan.parts)


def _answer(
    request: Request, bucket: Bucket, result: PutResult, *, size: int, etag: str, attributes: Attributes
) -> Response:
    assert request.key is not None
    checksum = attributes.checksum
    expiration = new_expiration_header(
        bucket, request.key, size=size, modified_ms=result.modified_ms, attributes=attributes
    )
    return Response(
        headers=[
            header("etag", f'"{etag}"'),
            header("x-amz-object-size", str(size)),
            *version_headers(result.version_id),
            *([header("x-amz-expiration", expiration)] if expiration else []),
            *response_headers(attributes.encryption, request),
            *(() if checksum is None else checksum_headers(checksum)),
        ]
    )
