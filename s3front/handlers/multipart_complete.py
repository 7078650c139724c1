"""CompleteMultipartUpload: the parts become one object, whatever their size, in one transaction (P9)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from functools import partial
from urllib.parse import quote

from msgspec import structs

from catalog import lookup, uploads
from catalog.errors import Changed, NoSuchUpload
from catalog.model import (
    Attributes,
    Bucket,
    Checksum,
    Completion,
    CompletionPlan,
    ObjectRow,
    PartRef,
    RequestedPart,
)
from catalog.versions import NULL_VERSION
from s3front import errors
from s3front.body import read_body
from s3front.encryption.requests import for_part, response_headers
from s3front.handlers.buckets import require_bucket
from s3front.handlers.lifecycle import new_expiration_header
from s3front.handlers.multipart import upload_checksum_of
from s3front.handlers.one_version import version_headers
from s3front.limits import OBJECT_BYTES_MAX, PART_BYTES_MIN, PART_NUMBER_MAX, XML_BODY_BYTES_MAX
from s3front.request import Request
from s3front.response import Response, header, xml_response
from s3front.services import FrontServices
from s3front.wire import checksums, xml
from s3front.wire.checksums import Algorithm, UploadChecksum
from s3front.wire.conditions import unquote_etag, write_condition
from s3front.wire.xml_writer import document, text

COMPLETE_TRIES_MAX = 5


def requested_parts(body: bytes, algorithm: Algorithm | None) -> list[RequestedPart]:
    """The parts a CompleteMultipartUpload document lists. Raises MalformedXML, InvalidRequest, InvalidArgument."""
    if not body:
        raise errors.MalformedXML
    root = xml.parse(body, root="CompleteMultipartUpload", max_bytes=XML_BODY_BYTES_MAX)
    listed = root.children("Part")
    if not 1 <= len(listed) <= PART_NUMBER_MAX:
        raise errors.MalformedXML
    return [_requested_part(part, algorithm) for part in listed]


def _requested_part(part: xml.Element, algorithm: Algorithm | None) -> RequestedPart:
    number = part.required_int("PartNumber")
    if not 1 <= number <= PART_NUMBER_MAX:
        raise errors.InvalidArgument(
            f"PartNumber must be an integer between 1 and {PART_NUMBER_MAX}", ArgumentName="partNumber"
        )
    checksum = part.text(algorithm.element) if algorithm is not None else None
    return RequestedPart(number, unquote_etag(part.required_text("ETag")), checksum)


def etag_of_parts(etags: list[str]) -> str:
    """MD5 of the parts' MD5s and their count, as S3 makes it. `etags` in hex; raises InvalidPart for what is none."""
    try:
        digests = b"".join(map(bytes.fromhex, etags))
    except ValueError:
        raise errors.InvalidPart from None
    digest = hashlib.md5(digests, usedforsecurity=False)
    return f"{digest.hexdigest()}-{len(etags)}"


async def complete_multipart_upload(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html

    Completing again what was completed not long ago gives the same answer: a client whose connection broke may retry.
    """
    bucket = await require_bucket(services, request)
    declared = checksums.declared_checksum(request.headers, of_parts=True)
    body = await read_body(services, request, XML_BODY_BYTES_MAX, of_object=True)
    for _ in range(COMPLETE_TRIES_MAX):
        try:
            return await _complete_once(services, request, bucket, declared, body)
        except Changed:
            continue
        except NoSuchUpload:
            # At any moment of this one another may have completed the upload.
            return await _answer_again(services, request, bucket, body)
    raise errors.OperationAborted


async def _complete_once(
    services: FrontServices,
    request: Request,
    bucket: Bucket,
    declared: checksums.Declared | None,
    body: bytes,
) -> Response:
    """Raises Changed (S14) and NoSuchUpload, both of the catalog."""
    assert request.key is not None
    upload = await uploads.get(services.catalog, bucket.id, request.key, request.query["uploadId"])
    await for_part(services, request, upload.attributes)
    # Reading 10,000 parts takes a tenth of a second: not on the event loop.
    algorithm = upload_checksum_of(upload).algorithm
    requested = await asyncio.to_thread(requested_parts, body, algorithm)
    plan = await services.catalog.read(
        partial(uploads.plan_completion, upload=upload, requested=requested, part_bytes_min=PART_BYTES_MIN)
    )
    check_size(request, plan)
    checksum = checksum_of_parts(upload_checksum_of(upload), plan.parts)
    check_declared(request, declared, checksum)
    etag = etag_of_parts([part.etag for part in plan.parts])
    attributes = structs.replace(upload.attributes, checksum=checksum)
    condition = write_condition(request.headers)
    result = await services.catalog.write(
        partial(uploads.complete, plan=plan, etag=etag, attributes=attributes, condition=condition)
    )
    response = _completed(request, bucket, etag, attributes, result.version_id)
    expiration = new_expiration_header(
        bucket, request.key, size=plan.size, modified_ms=result.modified_ms, attributes=attributes
    )
    if expiration is not None:
        response.headers.append(header("x-amz-expiration", expiration))
    return response


async def _answer_again(services: FrontServices, request: Request, bucket: Bucket, body: bytes) -> Response:
    """The answer for an upload that was completed with these very parts. Raises NoSuchUpload."""
    assert request.key is not None
    requested = await asyncio.to_thread(requested_parts, body, None)
    upload_id = request.query["uploadId"]
    done = await uploads.completion(services.catalog, bucket.id, request.key, upload_id)
    etag_by_number = {part.number: part.etag for part in requested}  # as in `plan_completion`
    if done is None or done.etag != etag_of_parts(list(etag_by_number.values())):
        raise errors.NoSuchUpload(UploadId=upload_id)
    attributes = await _attributes_of(services, bucket, request.key, done)
    await for_part(services, request, attributes)
    return _completed(request, bucket, done.etag, attributes, done.result.version_id)


async def _attributes_of(services: FrontServices, bucket: Bucket, key: bytes, done: Completion) -> Attributes:
    """Those of the version which the completion made, as long as it is there."""
    version_id = done.result.version_id or NULL_VERSION
    row = await lookup.lookup_version(services.catalog, bucket.id, key, version_id)
    if isinstance(row, ObjectRow) and (row.sequence, row.etag) == (done.result.sequence, done.etag):
        return row.attributes
    return Attributes()


def checksum_of_parts(wanted: UploadChecksum, parts: Sequence[PartRef]) -> Checksum:
    """The object's checksum from those of its parts: their composite, or the whole's where CRCs allow it."""
    algorithm, kind = wanted
    values = [(part.checksum or "", part.size) for part in parts]
    assert all(value for value, _ in values), "every part is stored with its checksum"
    if kind == "FULL_OBJECT":
        return Checksum(algorithm.name, "FULL_OBJECT", checksums.full_object(algorithm, values))
    return Checksum(
        algorithm.name, "COMPOSITE", checksums.composite(algorithm, [value for value, _ in values])
    )


def check_declared(request: Request, declared: checksums.Declared | None, computed: Checksum) -> None:
    """Raise BadDigest unless the checksum that the client sent, if any, is the object's, and of the type it says."""
    if request.headers.get("x-amz-checksum-type", computed.type).strip().upper() != computed.type:
        raise errors.BadDigest("The x-amz-checksum-type you specified did not match that of the upload.")
    if declared is None or declared.value is None:
        return
    expected = declared.value.partition("-")[0] if computed.type == "COMPOSITE" else declared.value
    actual = computed.value.partition("-")[0] if computed.type == "COMPOSITE" else computed.value
    if declared.algorithm.name != computed.algorithm or expected != actual:
        raise checksums.mismatch(declared.algorithm)


def check_size(request: Request, plan: CompletionPlan) -> None:
    """Raise InvalidRequest unless ``x-amz-mp-object-size``, if sent, is the size; EntityTooLarge above 5 TiB."""
    if plan.size > OBJECT_BYTES_MAX:
        raise errors.EntityTooLarge(ProposedSize=plan.size, MaxSizeAllowed=OBJECT_BYTES_MAX)
    announced = request.headers.get("x-amz-mp-object-size")
    if announced is not None and announced != str(plan.size):
        raise errors.InvalidRequest(
            f"The provided 'x-amz-mp-object-size' header value {announced} does not match what was computed: "
            f"{plan.size}"
        )


def _completed(
    request: Request, bucket: Bucket, etag: str, attributes: Attributes, version_id: str | None
) -> Response:
    key, checksum = request.key, attributes.checksum
    assert key is not None
    shown = ("", "") if checksum is None else (
        text(f"Checksum{checksum.algorithm}", checksum.value), text("ChecksumType", checksum.type)
    )  # fmt: skip
    response = xml_response(
        document(
            "CompleteMultipartUploadResult",
            text("Location", f"http://{request.headers.get('host', '')}/{bucket.name}/{quote(key)}"),
            text("Bucket", bucket.name),
            text("Key", key.decode()),
            text("ETag", f'"{etag}"'),
            *shown,
        )
    )
    response.headers += [*version_headers(version_id), *response_headers(attributes.encryption, request)]
    return response
