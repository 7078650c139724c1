"""PutObject."""

from __future__ import annotations

from msgspec import structs

from catalog import lookup, objects, usage, versions
from catalog.model import Bucket, Condition
from s3front.blob_store import store_blob
from s3front.body import Body
from s3front.encryption.requests import for_new_object, response_headers
from s3front.handlers import new_version
from s3front.handlers.append import OFFSET_HEADER, append_object
from s3front.handlers.buckets import require_bucket
from s3front.handlers.lifecycle import new_expiration_header
from s3front.handlers.one_version import version_headers
from s3front.limits import OBJECT_BYTES_MAX_SINGLE_PUT
from s3front.request import Request
from s3front.response import Response, header
from s3front.services import FrontServices
from s3front.wire.checksum_headers import checksum_headers
from s3front.wire.conditions import write_condition


async def put_object(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html"""
    bucket = await require_bucket(services, request)
    if OFFSET_HEADER in request.headers:
        return await append_object(services, request, bucket)
    key = request.key
    assert key is not None
    described = new_version.described(services, request, bucket)
    condition = write_condition(request.headers)
    if condition is not None:
        await check_early(services, bucket, key, condition)
    if bucket.quota_bytes is not None:
        # What can't be kept need not be sent: a client that waits for "100 Continue" saves the upload.
        size = Body(request, OBJECT_BYTES_MAX_SINGLE_PUT).size
        await usage.check_before_body(services.catalog, bucket, key, size)
    sealing = await for_new_object(services, request, bucket)
    encryption = None if sealing is None else sealing.encryption
    stored = await store_blob(
        services,
        request,
        bytes_max=OBJECT_BYTES_MAX_SINGLE_PUT,
        sealing=sealing,
        storage_class=described.attributes.storage_class,
    )
    attributes = structs.replace(described.attributes, checksum=stored.checksum, encryption=encryption)
    result = await services.catalog.write(
        lambda tx: objects.put(
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
    expiration = new_expiration_header(
        bucket, key, size=stored.size, modified_ms=result.modified_ms, attributes=attributes
    )
    return Response(
        headers=[
            header("etag", f'"{stored.etag}"'),
            *version_headers(result.version_id),
            *([header("x-amz-expiration", expiration)] if expiration else []),
            *response_headers(encryption, request),
            *checksum_headers(stored.echo),
        ]
    )


async def check_early(services: FrontServices, bucket: Bucket, key: bytes, condition: Condition) -> None:
    """Refuse a write whose condition does not hold now before its bytes are stored for nothing. The transaction
    decides. Raises NoSuchKey, PreconditionFailed."""
    row = await lookup.lookup(services.catalog, bucket.id, key)
    if row is None:
        versions.check_missing(condition)
    else:
        versions.check_condition(condition, row.etag, row.modified_ms, row.size)
