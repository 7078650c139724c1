"""GetObjectAttributes."""

from __future__ import annotations

from catalog.model import Checksum, ObjectRow, PartRef
from s3front.encryption.requests import for_describing
from s3front.errors import InvalidArgument
from s3front.handlers.objects_get import find_object
from s3front.handlers.one_version import shown_version, version_headers
from s3front.handlers.paging import integer_header
from s3front.limits import LIST_KEYS_MAX, PART_NUMBER_MAX
from s3front.request import Request
from s3front.response import XML_CONTENT_TYPE, Response
from s3front.services import FrontServices
from s3front.wire.headers import http_date
from s3front.wire.xml_writer import document, element, optional, text

NAMES_HEADER = "x-amz-object-attributes"
NAMES = frozenset(("ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"))


async def get_object_attributes(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectAttributes.html"""
    bucket, row = await find_object(services, request)
    wanted = wanted_attributes(request.headers.get(NAMES_HEADER, ""))
    attributes = row.attributes
    await for_describing(services, request, attributes)
    parts = _parts(request, row) if "ObjectParts" in wanted else ""
    body = document(
        "GetObjectAttributesResponse",
        optional("ETag", row.etag if "ETag" in wanted else None),
        _checksum(attributes.checksum) if "Checksum" in wanted and attributes.checksum is not None else "",
        parts,
        optional("StorageClass", attributes.storage_class if "StorageClass" in wanted else None),
        optional("ObjectSize", row.size if "ObjectSize" in wanted else None),
    )
    headers = [
        XML_CONTENT_TYPE,
        (b"last-modified", http_date(row.modified_ms)),
        *version_headers(shown_version(bucket, row)),
    ]
    return Response(200, headers, (body,))


def wanted_attributes(value: str) -> frozenset[str]:
    """The attributes that ``x-amz-object-attributes`` lists. Raises InvalidArgument for none or unknown ones."""
    wanted = frozenset(name.strip() for name in value.split(",") if name.strip())
    if not wanted or not wanted <= NAMES:
        raise InvalidArgument(
            "Invalid attribute name specified.", ArgumentName=NAMES_HEADER, ArgumentValue=value
        )
    return wanted


def _checksum(checksum: Checksum) -> str:
    return element(
        "Checksum",
        text(f"Checksum{checksum.algorithm}", checksum.value),
        text("ChecksumType", checksum.type),
    )


def _parts(request: Request, row: ObjectRow) -> str:
    """Nothing for an object that was not uploaded in parts. Each part is listed with its checksum, if it has one."""
    manifest = row.blob.manifest
    if manifest is None or "-" not in row.etag:
        return ""
    limit = integer_header(request, "x-amz-max-parts", default=LIST_KEYS_MAX, least=0, most=LIST_KEYS_MAX)
    marker = integer_header(request, "x-amz-part-number-marker", default=0, least=0, most=PART_NUMBER_MAX)
    after = [part for part in manifest if part.number > marker]
    page = after[:limit]
    checksum = row.attributes.checksum
    algorithm = None if checksum is None else checksum.algorithm
    return element(
        "ObjectParts",
        *(_part(part, algorithm) for part in page),
        text("IsTruncated", 0 < limit < len(after)),
        text("MaxParts", limit),
        text("NextPartNumberMarker", page[-1].number if page else marker),
        text("PartNumberMarker", marker),
        text("PartsCount", len(manifest)),
    )


def _part(part: PartRef, algorithm: str | None) -> str:
    checksum = optional(f"Checksum{algorithm}", part.checksum) if algorithm is not None else ""
    return element("Part", checksum, text("PartNumber", part.number), text("Size", part.size))
