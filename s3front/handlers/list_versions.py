"""ListObjectVersions. The catalog makes the page; here it becomes XML."""

from __future__ import annotations

from collections.abc import Callable

from catalog import version_listing
from catalog.errors import NoSuchVersion
from catalog.model import VersionEntry, VersionPage
from s3front.errors import InvalidArgument
from s3front.handlers.buckets import require_bucket
from s3front.handlers.owner import owner_xml
from s3front.handlers.paging import integer_parameter, key_encoder
from s3front.limits import LIST_KEYS_MAX
from s3front.request import Request
from s3front.response import Response, xml_response
from s3front.services import FrontServices
from s3front.wire.headers import iso_date
from s3front.wire.xml_writer import document, element, escape, optional, text


async def list_object_versions(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html"""
    bucket = await require_bucket(services, request)
    query = request.query
    encode = key_encoder(request)
    limit = integer_parameter(request, "max-keys", default=LIST_KEYS_MAX, least=0, most=LIST_KEYS_MAX)
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    key_marker, version_marker = query.get("key-marker", ""), query.get("version-id-marker", "")
    if version_marker and not key_marker:
        raise InvalidArgument(
            "A version-id marker cannot be specified without a key marker.",
            ArgumentName="version-id-marker",
            ArgumentValue=version_marker,
        )
    try:
        page = await services.catalog.read(
            lambda reader: version_listing.list_versions(
                reader,
                bucket_id=bucket.id,
                prefix=prefix.encode(),
                delimiter=delimiter.encode(),
                key_marker=key_marker.encode(),
                version_marker=version_marker,
                limit=limit,
            )
        )
    except NoSuchVersion:
        raise InvalidArgument(
            "Invalid version id specified", ArgumentName="version-id-marker", ArgumentValue=version_marker
        ) from None
    return xml_response(
        document(
            "ListVersionsResult",
            text("Name", bucket.name),
            text("Prefix", encode(prefix.encode())),
            text("KeyMarker", encode(key_marker.encode())),
            text("VersionIdMarker", version_marker),
            *_next_markers(page, encode),
            text("MaxKeys", limit),
            optional("Delimiter", encode(delimiter.encode()) if delimiter else None),
            optional("EncodingType", query.get("encoding-type")),
            text("IsTruncated", page.truncated),
            _versions(page.entries, encode),
            *(element("CommonPrefixes", text("Prefix", encode(common))) for common in page.prefixes),
        )
    )


def _next_markers(page: VersionPage, encode: Callable[[bytes], str]) -> tuple[str, ...]:
    if not page.truncated:
        return ()
    return (
        text("NextKeyMarker", encode(page.next_key)),
        optional("NextVersionIdMarker", page.next_version or None),
    )


def _versions(entries: list[VersionEntry], encode: Callable[[bytes], str]) -> str:
    """One string for a whole page: at 1,000 versions a call per element would cost more than the catalog's scan."""
    owner = owner_xml()
    return "".join(
        [_marker(e, encode, owner) if e.delete_marker else _version(e, encode, owner) for e in entries]
    )


def _shared(entry: VersionEntry, encode: Callable[[bytes], str]) -> str:
    return (
        f"<Key>{escape(encode(entry.key))}</Key><VersionId>{entry.version_id}</VersionId>"
        f"<IsLatest>{'true' if entry.is_latest else 'false'}</IsLatest>"
        f"<LastModified>{iso_date(entry.modified_ms)}</LastModified>"
    )


def _marker(entry: VersionEntry, encode: Callable[[bytes], str], owner: str) -> str:
    return f"<DeleteMarker>{_shared(entry, encode)}{owner}</DeleteMarker>"


def _version(entry: VersionEntry, encode: Callable[[bytes], str], owner: str) -> str:
    checksum = (
        f"<ChecksumAlgorithm>{entry.checksum_algorithm}</ChecksumAlgorithm>"
        f"<ChecksumType>{entry.checksum_type}</ChecksumType>"
        if entry.checksum_algorithm
        else ""
    )
    return (
        f"<Version>{_shared(entry, encode)}<ETag>&quot;{entry.etag}&quot;</ETag>{checksum}<Size>{entry.size}</Size>"
        f"{owner}<StorageClass>{entry.storage_class}</StorageClass></Version>"
    )
