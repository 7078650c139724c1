"""``x-amz-copy-source``: which object a copy is made from, and on what conditions."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from catalog import buckets, lookup
from catalog.model import ObjectRow, Source
from s3front import errors
from s3front.request import Request, check_key
from s3front.services import FrontServices
from s3front.wire.conditions import check_copy_source, copy_conditions


@dataclass(frozen=True, slots=True)
class CopySource:
    """The object a copy reads, as it was when it was looked up."""

    bucket: str
    source: Source
    row: ObjectRow


def parse_copy_source(value: str) -> tuple[str, bytes]:
    """Bucket and key of ``[/]bucket/key[?versionId=null]``, percent-encoded.

    Raises InvalidArgument, InvalidURI, KeyTooLongError, NoSuchVersion. The source's bucket is looked up like any other
    and its key may not climb out of it (FIELD: ``..`` in copy sources).
    """
    path, _, version = value.partition("?versionId=")
    raw_bucket, _, raw_key = path.removeprefix("/").encode("latin-1").partition(b"/")
    if not raw_bucket or not raw_key:
        raise errors.InvalidArgument(
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
            ArgumentName="x-amz-copy-source",
            ArgumentValue=value,
        )
    key = unquote_to_bytes(raw_key)
    check_key(key)
    if version not in ("", "null"):
        raise errors.NoSuchVersion(Key=key.decode(), VersionId=version)
    return unquote_to_bytes(raw_bucket).decode("utf-8", "replace"), key


async def find_source(services: FrontServices, request: Request) -> CopySource:
    """Look the source up and check the ``x-amz-copy-source-if-…`` headers.

    Raises NoSuchBucket, NoSuchKey, PreconditionFailed, and what `parse_copy_source` raises.
    """
    name, key = parse_copy_source(request.headers["x-amz-copy-source"])
    bucket = await buckets.get(services.catalog, name)
    if bucket is None:
        raise errors.NoSuchBucket(BucketName=name)
    if request.headers.get("x-amz-source-expected-bucket-owner", bucket.owner) != bucket.owner:
        raise errors.AccessDenied
    row = await lookup.lookup(services.catalog, bucket.id, key)
    if row is None:
        raise errors.NoSuchKey(Key=key.decode())
    conditions = copy_conditions(request.headers)
    if conditions is not None:
        check_copy_source(conditions, row.etag, row.modified_ms)
    return CopySource(name, Source(bucket.id, key, row.blob.id, row.sequence), row)
