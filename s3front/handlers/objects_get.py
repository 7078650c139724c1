"""GetObject and HeadObject."""

from __future__ import annotations

from typing import NamedTuple

from catalog import lookup
from catalog.model import Bucket, Checksum, MarkerRow, ObjectRow, PartRef
from catalog.versions import NULL_VERSION
from cluster.reports.moments import iso_at
from s3front import errors
from s3front.encryption.requests import for_describing, for_reading, response_headers
from s3front.handlers.buckets import check_bucket, require_bucket
from s3front.handlers.lifecycle import expiration_header
from s3front.handlers.object_stream import open_pieces
from s3front.handlers.one_version import named_version
from s3front.limits import PART_NUMBER_MAX
from s3front.request import Request
from s3front.response import Header, Response, header
from s3front.services import FrontServices
from s3front.wire.checksum_headers import checksum_headers
from s3front.wire.conditions import check_read, read_conditions
from s3front.wire.headers import METADATA_PREFIX, http_date, response_overrides
from s3front.wire.ranges import parse_range


class Selection(NamedTuple):
    """Which bytes [start, stop) of the object the client gets, and with which status."""

    start: int
    stop: int
    status: int
    parts_count: int | None = None
    part: PartRef | None = None


async def find_object(services: FrontServices, request: Request) -> tuple[Bucket, ObjectRow]:
    """The bucket, and the version that the request names: the current one without ``versionId``. Raises NoSuchBucket,
    NoSuchKey, NoSuchVersion, MethodNotAllowed (a delete marker is named), AccessDenied."""
    assert request.bucket is not None
    assert request.key is not None
    if "versionId" in request.query:
        bucket = await require_bucket(services, request)
        return bucket, await _named_version(services, request, bucket)
    found, row = await lookup.find(services.catalog, request.bucket, request.key)
    bucket = check_bucket(request, found)
    if row is None:
        raise errors.NoSuchKey(
            Key=request.key.decode(), headers=await _marker_headers(services, request, bucket)
        )
    return bucket, row


def check_part_number(request: Request, row: ObjectRow) -> None:
    """Raise InvalidPart for a part that is not there, before a key is asked for that it would be read with."""
    if "partNumber" in request.query:
        _select(request, row)


async def _named_version(services: FrontServices, request: Request, bucket: Bucket) -> ObjectRow:
    version_id = named_version(request)
    assert version_id is not None
    assert request.key is not None
    found = await lookup.lookup_version(services.catalog, bucket.id, request.key, version_id)
    if found is None:
        raise errors.NoSuchVersion(Key=request.key.decode(), VersionId=version_id)
    if isinstance(found, MarkerRow):
        raise errors.MethodNotAllowed(
            Method=request.method,
            ResourceType="DeleteMarker",
            headers=[
                (b"allow", b"DELETE"),
                (b"last-modified", http_date(found.modified_ms)),
                *_headers_of_marker(found),
            ],
        )
    return found


async def _marker_headers(services: FrontServices, request: Request, bucket: Bucket) -> list[Header]:
    """What a 404 tells of the delete marker that is the cause of it, or that none is."""
    assert request.key is not None
    marker = None
    if bucket.is_versioned:
        marker = await lookup.latest_marker(services.catalog, bucket.id, request.key)
    return [(b"x-amz-delete-marker", b"false")] if marker is None else _headers_of_marker(marker)


def _headers_of_marker(marker: MarkerRow) -> list[Header]:
    return [(b"x-amz-delete-marker", b"true"), header("x-amz-version-id", marker.version_id or NULL_VERSION)]


async def get_object(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html"""
    bucket, row = await find_object(services, request)
    check_part_number(request, row)
    data_key = await for_reading(services, request, row.attributes)
    selection, headers = _prepare(services, request, bucket, row)
    start, stop = selection.start, selection.stop
    if start == stop:
        return Response(selection.status, headers)
    first, rest = await open_pieces(services, row.blob, start, stop, data_key)
    return Response(selection.status, headers, first, rest, stop - start)


async def head_object(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html"""
    bucket, row = await find_object(services, request)
    check_part_number(request, row)
    await for_describing(services, request, row.attributes)
    selection, headers = _prepare(services, request, bucket, row)
    return Response(selection.status, headers, content_length=selection.stop - selection.start)


def _prepare(
    services: FrontServices, request: Request, bucket: Bucket, row: ObjectRow
) -> tuple[Selection, list[Header]]:
    """Conditions, range and headers of GET and HEAD. Raises NotModified, PreconditionFailed, InvalidRange …"""
    headers = _object_headers(row)
    if row.attributes.encryption is not None:
        headers += response_headers(row.attributes.encryption, request)
    if bucket.is_versioned:
        headers.append(header("x-amz-version-id", row.version_id or NULL_VERSION))
    if bucket.actions.lifecycle and "versionId" not in request.query:
        expiration = expiration_header(bucket, row)
        if expiration is not None:
            headers.append(header("x-amz-expiration", expiration))
    conditions = read_conditions(request.headers)
    if conditions is not None:
        check_read(conditions, row.etag, row.modified_ms, tuple(headers[:2]))
    selection = _select(request, row)
    if selection.status == 206 and selection.start < selection.stop:
        span = f"bytes {selection.start}-{selection.stop - 1}/{row.size}"
        headers.append((b"content-range", span.encode()))
    if selection.parts_count is not None:
        headers.append((b"x-amz-mp-parts-count", str(selection.parts_count).encode()))
    if request.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED":
        checksum = _checksum_of(row, selection)
        if checksum is not None:
            headers += checksum_headers(checksum)
    overrides = response_overrides(request.query) if b"response-" in request.raw_query else None
    if overrides:
        headers = [pair for pair in headers if pair[0] not in overrides]
        headers += overrides.items()
    return selection, headers


def _checksum_of(row: ObjectRow, selection: Selection) -> Checksum | None:
    """The checksum of the selected bytes, if it is known: that of the whole, or of one part of it."""
    checksum = row.attributes.checksum
    if checksum is not None and selection.part is not None:
        value = selection.part.checksum
        return None if value is None else Checksum(checksum.algorithm, checksum.type, value)
    return checksum if selection.stop - selection.start == row.size else None


def _object_headers(row: ObjectRow) -> list[Header]:
    headers: list[Header] = [
        (b"etag", b'"%s"' % row.etag.encode()),
        (b"last-modified", http_date(row.modified_ms)),
        (b"content-type", row.content_type.encode("latin-1")),
        (b"accept-ranges", b"bytes"),
    ]
    attributes = row.attributes
    for name, value in attributes.headers.items():
        headers.append((name.encode("latin-1"), value.encode("latin-1")))
    for name, value in attributes.metadata.items():
        headers.append((METADATA_PREFIX + name.encode("latin-1"), value.encode("latin-1")))
    if attributes.storage_class != "STANDARD":
        headers.append((b"x-amz-storage-class", attributes.storage_class.encode()))
    if attributes.tags:
        headers.append((b"x-amz-tagging-count", b"%d" % len(attributes.tags)))
    if attributes.retention is not None:
        headers.append((b"x-amz-object-lock-mode", attributes.retention.mode.encode()))
        until = iso_at(attributes.retention.until_ms)
        headers.append((b"x-amz-object-lock-retain-until-date", until.encode()))
    if attributes.legal_hold is not None:
        headers.append((b"x-amz-object-lock-legal-hold", b"ON" if attributes.legal_hold else b"OFF"))
    return headers


def _select(request: Request, row: ObjectRow) -> Selection:
    """What ``Range`` or ``partNumber`` selects. Raises InvalidRange, InvalidPart, InvalidRequest."""
    wanted = request.headers.get("range")
    number = request.query.get("partNumber")
    if number is not None:
        if wanted is not None:
            raise errors.InvalidRequest("Cannot specify both Range header and partNumber query parameter")
        return _select_part(number, row)
    span = parse_range(wanted, row.size)
    if span is None:
        return Selection(0, row.size, 200)
    return Selection(*span, 206)


def _select_part(value: str, row: ObjectRow) -> Selection:
    if not (value.isascii() and value.isdigit()) or len(value) > 5 or not 1 <= int(value) <= PART_NUMBER_MAX:
        raise errors.InvalidArgument(
            f"Part number must be an integer between 1 and {PART_NUMBER_MAX}, inclusive",
            ArgumentName="partNumber",
            ArgumentValue=value,
        )
    wanted = int(value)
    if row.blob.manifest is None:
        if wanted != 1:
            raise errors.InvalidPart(PartNumberRequested=wanted, ActualPartCount=1)
        return Selection(0, row.size, 206 if row.size else 200)
    offset = 0
    for part in row.blob.manifest:
        if part.number == wanted:
            return Selection(offset, offset + part.size, 206, len(row.blob.manifest), part)
        offset += part.size
    raise errors.InvalidPart(PartNumberRequested=wanted, ActualPartCount=len(row.blob.manifest))
