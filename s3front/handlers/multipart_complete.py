"""CompleteMultipartUpload: the parts become one object, whatever their size, in one transaction (P9)."""

from __future__ import annotations

import hashlib

from catalog import uploads
from catalog.errors import Changed
from catalog.model import Attributes, Checksum, CompletionPlan, RequestedPart
from s3front import errors
from s3front.body import read_body
from s3front.handlers.buckets import require_bucket
from s3front.handlers.objects_put import write_precondition
from s3front.limits import PART_NUMBER_MAX, XML_BODY_BYTES_MAX
from s3front.request import Request
from s3front.response import Response, xml_response
from s3front.services import FrontServices
from s3front.wire import checksums, xml
from s3front.wire.conditions import unquote_etag
from s3front.wire.xml_writer import document, text

COMPLETE_TRIES_MAX = 5


def requested_parts(body: bytes) -> list[RequestedPart]:
    """The parts a CompleteMultipartUpload document lists. Raises MalformedXML, InvalidPart, MaxMessageLengthExceeded."""
    if not body:
        raise errors.InvalidRequest("You must specify at least one part")
    root = xml.parse(body, root="CompleteMultipartUpload", max_bytes=XML_BODY_BYTES_MAX)
    listed = root.children("Part")
    if not 1 <= len(listed) <= PART_NUMBER_MAX:
        raise errors.MalformedXML
    return [_requested_part(part) for part in listed]


def _requested_part(part: xml.Element) -> RequestedPart:
    number = part.required_int("PartNumber")
    if not 1 <= number <= PART_NUMBER_MAX:
        raise errors.InvalidArgument(
            f"PartNumber must be an integer between 1 and {PART_NUMBER_MAX}", ArgumentName="partNumber"
        )
    values = [child.content for child in part if child.name.startswith("Checksum") and child.name != "ChecksumType"]
    return RequestedPart(number, unquote_etag(part.required_text("ETag")), values[0] if values else None)


def etag_of_parts(etags: list[str]) -> str:
    """MD5 of the parts' MD5s and their count, as S3 makes it. `etags` in hex."""
    digest = hashlib.md5(b"".join(map(bytes.fromhex, etags)), usedforsecurity=False)
    return f"{digest.hexdigest()}-{len(etags)}"
