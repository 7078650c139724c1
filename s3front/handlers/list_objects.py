"""ListObjects and ListObjectsV2. The catalog makes the page; here it becomes XML."""

from __future__ import annotations

from collections.abc import Callable

from catalog import listing
from catalog.model import ListEntry, Page
from s3front.handlers.buckets import require_bucket
from s3front.handlers.owner import owner_xml
from s3front.handlers.paging import decode_token, encode_token, integer_parameter, key_encoder
from s3front.limits import LIST_KEYS_MAX
from s3front.request import Request
from s3front.response import Response, xml_response
from s3front.services import FrontServices
from s3front.wire.headers import iso_date
from s3front.wire.xml_writer import document, element, escape, optional, text


async def list_objects_v1(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjects.html"""
    query = request.query
    encode = key_encoder(request)
    limit = integer_parameter(request, "max-keys", default=LIST_KEYS_MAX, least=0, most=LIST_KEYS_MAX)
    marker = query.get("marker", "").encode()
    page = await _page(services, request, after=marker, limit=limit)
    next_marker = encode(page.last) if page.truncated and query.get("delimiter") else None
    return xml_response(
        document(
            "ListBucketResult",
            text("Name", request.bucket or ""),
            text("Prefix", _prefix_v1(query.get("prefix", ""), encode)),
            text("Marker", encode(marker)),
            optional("NextMarker", next_marker),
            text("MaxKeys", limit),
            *_shared_elements(request, encode, page),
            _contents(page.entries, encode, owner_xml()),
            _common_prefixes(page.prefixes, encode),
        )
    )


def _prefix_v1(prefix: str, encode: Callable[[bytes], str]) -> str:
    """As it came, if XML can hold it: botocore decodes all the rest of an encoded page of this version of the
    operation, but not its prefix."""
    holds = all(char >= " " or char in "\t\n\r" for char in prefix)
    return prefix if holds else encode(prefix.encode())


async def list_objects_v2(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html"""
    query = request.query
    encode = key_encoder(request)
    limit = integer_parameter(request, "max-keys", default=LIST_KEYS_MAX, least=0, most=LIST_KEYS_MAX)
    token = query.get("continuation-token")
    start_after = query.get("start-after", "").encode()
    after = decode_token(token) if token else start_after
    page = await _page(services, request, after=after, limit=limit)
    owner = owner_xml() if query.get("fetch-owner") == "true" else ""
    return xml_response(
        document(
            "ListBucketResult",
            text("Name", request.bucket or ""),
            text("Prefix", encode(query.get("prefix", "").encode())),
            optional("StartAfter", encode(start_after) if start_after else None),
            optional("ContinuationToken", token),
            optional("NextContinuationToken", encode_token(page.last) if page.truncated else None),
            text("KeyCount", len(page.entries) + len(page.prefixes)),
            text("MaxKeys", limit),
            *_shared_elements(request, encode, page),
            _contents(page.entries, encode, owner),
            _common_prefixes(page.prefixes, encode),
        )
    )


async def _page(services: FrontServices, request: Request, *, after: bytes, limit: int) -> Page:
    bucket = await require_bucket(services, request)
    prefix = request.query.get("prefix", "").encode()
    delimiter = request.query.get("delimiter", "").encode()
    return await services.catalog.read(
        lambda reader: listing.list_objects(
            reader, bucket_id=bucket.id, prefix=prefix, delimiter=delimiter, after=after, limit=limit
        )
    )


def _shared_elements(request: Request, encode: Callable[[bytes], str], page: Page) -> tuple[str, ...]:
    delimiter = request.query.get("delimiter")
    return (
        optional("Delimiter", encode(delimiter.encode()) if delimiter else None),
        optional("EncodingType", request.query.get("encoding-type")),
        text("IsTruncated", page.truncated),
    )


def _contents(entries: list[ListEntry], encode: Callable[[bytes], str], owner: str) -> str:
    """One string for a whole page: at 1,000 keys a call per element would cost more than the catalog's scan."""
    return "".join(
        [
            f"<Contents><Key>{escape(encode(e.key))}</Key><LastModified>{iso_date(e.modified_ms)}</LastModified>"
            f"<ETag>&quot;{e.etag}&quot;</ETag><Size>{e.size}</Size>{_checksum(e)}{owner}"
            f"<StorageClass>{e.storage_class}</StorageClass></Contents>"
            for e in entries
        ]
    )


def _checksum(entry: ListEntry) -> str:
    if entry.checksum_algorithm is None:
        return ""
    return (
        f"<ChecksumAlgorithm>{entry.checksum_algorithm}</ChecksumAlgorithm>"
        f"<ChecksumType>{entry.checksum_type}</ChecksumType>"
    )


def _common_prefixes(prefixes: list[bytes], encode: Callable[[bytes], str]) -> str:
    return "".join([element("CommonPrefixes", text("Prefix", encode(prefix))) for prefix in prefixes])
