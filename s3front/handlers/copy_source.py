"""``x-amz-copy-source``: which object a copy is made from, and on what conditions."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, unquote_to_bytes

from catalog import buckets, lookup
from catalog.model import Bucket, MarkerRow, ObjectRow, Source
from s3front import errors
from s3front.handlers.one_version import shown_version
from s3front.request import Request, check_key
from s3front.response import Header, header
from s3front.services import FrontServices
from s3front.wire.conditions import COPY_SOURCE_PREFIX, check_write_source, copy_conditions


@dataclass(frozen=True, slots=True)
class CopySource:
    """The version a copy reads, as it was when it was looked up. `named` is the version id that the request names."""

    bucket: Bucket
    named: str | None
    source: Source
    row: ObjectRow

    @property
    def headers(self) -> list[Header]:
        """``x-amz-copy-source-version-id``, where there are versions."""
        shown = shown_version(self.bucket, self.row)
        return [] if shown is None else [header("x-amz-copy-source-version-id", shown)]


def parse_copy_source(value: str) -> tuple[str, bytes, str | None]:
    """Bucket, key and version id of ``[/]bucket/key[?versionId=id]``, percent-encoded.

    Raises InvalidArgument, InvalidURI, KeyTooLongError. The source's bucket is looked up like any other
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
    return unquote_to_bytes(raw_bucket).decode("utf-8", "replace"), key, unquote(version) or None


async def find_source(services: FrontServices, request: Request) -> CopySource:
    """Look the source up and check the ``x-amz-copy-source-if-…`` headers.

    Raises NoSuchBucket, NoSuchKey, NoSuchVersion, InvalidRequest (the version is a delete marker), PreconditionFailed,
    and what `parse_copy_source` raises.
    """
    name, key, version_id = parse_copy_source(request.headers["x-amz-copy-source"])
    bucket = await buckets.get(services.catalog, name)
    if bucket is None:
        raise errors.NoSuchBucket(BucketName=name)
    if request.headers.get("x-amz-source-expected-bucket-owner", bucket.owner) != bucket.owner:
        raise errors.AccessDenied
    row = await _version(services, bucket, key, version_id)
    conditions = copy_conditions(request.headers)
    if conditions is not None:
        check_write_source(conditions, row.etag, row.modified_ms, prefix=COPY_SOURCE_PREFIX)
    return CopySource(bucket, version_id, Source(bucket.id, key, row.blob.id, row.sequence), row)


async def _version(services: FrontServices, bucket: Bucket, key: bytes, version_id: str | None) -> ObjectRow:
    if version_id is None:
        row = await lookup.lookup(services.catalog, bucket.id, key)
        if row is None:
            raise errors.NoSuchKey(Key=key.decode())
        return row
    found = await lookup.lookup_version(services.catalog, bucket.id, key, version_id)
    if found is None:
        raise errors.NoSuchVersion(Key=key.decode(), VersionId=version_id)
    if isinstance(found, MarkerRow):
        raise errors.InvalidRequest(
            "The source of a copy request may not specifically refer to a delete marker."
        )
    return found
