"""RenameObject. No byte moves: the blob gets another name in one transaction (P9)."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from catalog import lookup, objects
from catalog.errors import Changed
from catalog.model import Bucket, Condition, Source
from s3front import errors
from s3front.handlers.buckets import require_bucket
from s3front.request import Request, check_key
from s3front.response import Response
from s3front.services import FrontServices
from s3front.wire.conditions import (
    check_write_source,
    read_conditions,
    rename_conditions,
    write_condition,
)

SOURCE_HEADER = "x-amz-rename-source"
RENAME_TRIES_MAX = 5


async def rename_object(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_RenameObject.html

    AWS has it for directory buckets alone, which have no versions. Where there are versions, the source gets a delete
    marker and the target a new version, as a copy and a delete would do.
    """
    for _ in range(RENAME_TRIES_MAX):
        try:
            return await _rename_once(services, request)
        except Changed:
            continue
    raise errors.OperationAborted


async def _rename_once(services: FrontServices, request: Request) -> Response:
    bucket = await require_bucket(services, request)
    key, old_key = request.key, source_key(request)
    assert key is not None
    if key == old_key:
        raise errors.InvalidRequest("An object can't be renamed to its own name.")
    row = await lookup.lookup(services.catalog, bucket.id, old_key)
    if row is None:
        raise errors.NoSuchKey(Key=old_key.decode())
    conditions = rename_conditions(request.headers)
    if conditions is not None:
        check_write_source(conditions, row.etag, row.modified_ms)
    condition = await _target_condition(services, request, bucket)
    await services.catalog.write(
        lambda tx: objects.rename(
            tx,
            source=Source(bucket.id, old_key, row.blob.id, row.sequence),
            bucket_id=bucket.id,
            key=key,
            etag=row.etag,
            content_type=row.content_type,
            attributes=row.attributes,
            condition=condition,
        )
    )
    return Response()


async def _target_condition(services: FrontServices, request: Request, bucket: Bucket) -> Condition | None:
    """What must be true of the object that the rename replaces. ETags decide alone; dates are compared with the object
    as it is now, and the transaction insists that it still is. Raises PreconditionFailed."""
    condition, conditions = write_condition(request.headers), read_conditions(request.headers)
    if condition is not None or conditions is None:
        return condition
    assert request.key is not None
    row = await lookup.lookup(services.catalog, bucket.id, request.key)
    if row is None:
        if conditions.if_modified_since is not None:
            raise errors.PreconditionFailed(Condition="If-Modified-Since")
        return Condition(if_none_match="*")
    check_write_source(conditions, row.etag, row.modified_ms, prefix="")
    return Condition(if_match=row.etag, if_match_modified_ms=row.modified_ms)


def source_key(request: Request) -> bytes:
    """The key to be renamed, percent-encoded in its header. Raises InvalidArgument, InvalidURI, KeyTooLongError."""
    value = request.headers.get(SOURCE_HEADER, "")
    key = unquote_to_bytes(value.encode("latin-1"))
    if not key:
        raise errors.InvalidArgument(
            "The rename source must name an object of this bucket.",
            ArgumentName=SOURCE_HEADER,
            ArgumentValue=value,
        )
    check_key(key)
    return key
