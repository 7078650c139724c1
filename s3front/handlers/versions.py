"""What requests may say of versions while buckets have none: only ``null`` names an object."""

from __future__ import annotations

from s3front.errors import InvalidArgument, NoSuchVersion
from s3front.request import Request


def check_version_id(request: Request) -> None:
    """Raise InvalidArgument or NoSuchVersion when the request names a version that can't exist."""
    version = request.query.get("versionId")
    if version is None or version == "null":
        return
    if not version:
        raise InvalidArgument(
            "Version id cannot be the empty string", ArgumentName="versionId", ArgumentValue=""
        )
    raise NoSuchVersion(Key=(request.key or b"").decode(), VersionId=version)
