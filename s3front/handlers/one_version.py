"""The version that a request names by its key, with or without ``versionId``, for what is kept beside its bytes."""

from __future__ import annotations

from catalog import lookup
from catalog.errors import IsDeleteMarker, NoSuchKey, NoSuchVersion
from catalog.model import Bucket, MarkerRow, ObjectRow
from catalog.versions import NULL_VERSION
from s3front.errors import InvalidArgument
from s3front.request import Request
from s3front.response import Header, header
from s3front.services import FrontServices


def named_version(request: Request) -> str | None:
    """The ``versionId`` parameter; None without one. Raises InvalidArgument for an empty one."""
    version_id = request.query.get("versionId")
    if version_id == "":
        raise InvalidArgument(
            "Version id cannot be the empty string", ArgumentName="versionId", ArgumentValue=""
        )
    return version_id


async def stored_version(services: FrontServices, request: Request, bucket: Bucket) -> ObjectRow:
    """The version as stored, the current one unless another is named. Raises NoSuchKey, NoSuchVersion, IsDeleteMarker
    (of the catalog, as writes to a version do), InvalidArgument."""
    key = request.key
    assert key is not None
    version_id = named_version(request)
    found: ObjectRow | MarkerRow | None
    if version_id is None:
        found = await lookup.lookup(services.catalog, bucket.id, key)
        found = found or await lookup.latest_marker(services.catalog, bucket.id, key)
        if found is None:
            raise NoSuchKey("there is no such object")
    else:
        found = await lookup.lookup_version(services.catalog, bucket.id, key, version_id)
        if found is None:
            raise NoSuchVersion(version_id)
    if isinstance(found, MarkerRow):
        raise IsDeleteMarker(found.version_id or NULL_VERSION)
    return found


def version_headers(version_id: str | None) -> list[Header]:
    """``x-amz-version-id``, unless `version_id`, as answers show it, is None."""
    return [] if version_id is None else [header("x-amz-version-id", version_id)]


def shown_version(bucket: Bucket, row: ObjectRow) -> str | None:
    """The row's version id as answers show it; None where the bucket never had versioning."""
    return (row.version_id or NULL_VERSION) if bucket.is_versioned else None
