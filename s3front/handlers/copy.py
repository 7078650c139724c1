"""CopyObject and UploadPartCopy. Whole objects are copied by reference: no byte moves (P9)."""

from __future__ import annotations

from contextlib import aclosing
from typing import NamedTuple

from msgspec import structs

from catalog import objects, uploads
from catalog.errors import Changed
from catalog.model import (
    Attributes,
    Bucket,
    Checksum,
    Condition,
    ObjectRow,
    PartRow,
    PutResult,
    UploadRow,
)
from s3front import errors
from s3front.blob_store import StoredBlob, store_pieces
from s3front.body import DEFAULT_ALGORITHM, Digests
from s3front.encryption.copying import CopyPlan, plan_copy
from s3front.encryption.data_keys import Sealing
from s3front.encryption.requests import for_part, for_source, response_headers
from s3front.handlers import new_version
from s3front.handlers.buckets import require_bucket
from s3front.handlers.copy_source import CopySource, find_source
from s3front.handlers.multipart import part_number, require_upload, upload_checksum_of
from s3front.handlers.object_stream import object_pieces
from s3front.handlers.one_version import version_headers
from s3front.limits import PART_BYTES_MAX
from s3front.request import Request
from s3front.response import Response, xml_response
from s3front.services import FrontServices
from s3front.wire.checksums import ALGORITHMS, requested_algorithm, value_of
from s3front.wire.conditions import write_condition
from s3front.wire.headers import iso_date
from s3front.wire.ranges import parse_copy_source_range
from s3front.wire.storage_class import storage_class
from s3front.wire.xml_writer import document, text

COPY_BYTES_MAX = 5 << 30
COPY_TRIES_MAX = 5
REDIRECT_HEADER = "x-amz-website-redirect-location"


class Target(NamedTuple):
    """What a copy is to be, still without its checksum."""

    bucket_id: int
    key: bytes
    content_type: str
    attributes: Attributes
    condition: Condition | None


async def copy_object(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html

    The source may change between its lookup and the transaction that refers to its bytes; then all starts over (S14).
    """
    for _ in range(COPY_TRIES_MAX):
        try:
            return await _copy_once(services, request)
        except Changed:
            continue
    raise errors.OperationAborted


async def _copy_once(services: FrontServices, request: Request) -> Response:
    bucket = await require_bucket(services, request)
    key = request.key
    assert key is not None
    found = await find_source(services, request)
    row = found.row
    if row.size > COPY_BYTES_MAX:
        raise errors.InvalidRequest(
            f"The specified copy source is larger than the maximum allowable size for a copy source: {COPY_BYTES_MAX}"
        )
    content_type, attributes = described_copy(services, request, bucket, found)
    plan = await plan_copy(services, request, row, bucket)
    attributes = structs.replace(attributes, encryption=plan.encryption)
    target = Target(bucket.id, key, content_type, attributes, write_condition(request.headers))
    copied = _copy_by_reference if plan.by_reference else _copy_bytes
    etag, checksum, result = await copied(services, request, found, plan, target)
    response = xml_response(
        _result_document("CopyObjectResult", etag, result.modified_ms, checksum, with_type=True)
    )
    response.headers += [
        *version_headers(result.version_id),
        *found.headers,
        *response_headers(plan.encryption, request),
    ]
    return response


async def _copy_by_reference(
    services: FrontServices, request: Request, found: CopySource, plan: CopyPlan, target: Target
) -> tuple[str, Checksum | None, PutResult]:
    """ETag, checksum and outcome. Raises Changed (S14)."""
    checksum = await _checksum_of_copy(services, request, found.row, plan.source_key)
    result = await services.catalog.write(
        lambda tx: objects.copy(
            tx,
            source=found.source,
            bucket_id=target.bucket_id,
            key=target.key,
            etag=plan.etag,
            content_type=target.content_type,
            attributes=structs.replace(target.attributes, checksum=checksum),
            condition=target.condition,
        )
    )
    return plan.etag, checksum, result


async def _copy_bytes(
    services: FrontServices, request: Request, found: CopySource, plan: CopyPlan, target: Target
) -> tuple[str, Checksum | None, PutResult]:
    """The same where the bytes have to be encrypted, or decrypted."""
    row = found.row
    known = row.attributes.checksum
    algorithm = requested_algorithm(request.headers) or (
        DEFAULT_ALGORITHM if known is None else ALGORITHMS[known.algorithm]
    )
    digests = Digests(algorithm)
    stored = await _move_bytes(
        services,
        row,
        (0, row.size),
        digests,
        source_key=plan.source_key,
        sealing=plan.sealing,
        storage_class=target.attributes.storage_class,
    )
    result = await services.catalog.write(
        lambda tx: objects.put(
            tx,
            bucket_id=target.bucket_id,
            key=target.key,
            blob=stored.blob,
            size=stored.size,
            etag=stored.etag,
            content_type=target.content_type,
            attributes=structs.replace(target.attributes, checksum=stored.checksum),
            condition=target.condition,
        ),
        blob=stored.blob,
    )
    return stored.etag, stored.checksum, result


def _result_document(
    root: str, etag: str, modified_ms: int, checksum: Checksum | None, *, with_type: bool
) -> bytes:
    shown = []
    if checksum is not None:
        shown.append(text(f"Checksum{checksum.algorithm}", checksum.value))
        if with_type:
            shown.append(text("ChecksumType", checksum.type))
    return document(root, text("LastModified", iso_date(modified_ms)), text("ETag", f'"{etag}"'), *shown)


def described_copy(
    services: FrontServices, request: Request, bucket: Bucket, found: CopySource
) -> tuple[str, Attributes]:
    """Content type and attributes of the copy, still without checksum and encryption: metadata and tags are the
    source's or the request's, as the directives say; storage class, redirect and lock always the request's.

    Raises InvalidArgument; InvalidRequest when a copy onto itself changes nothing.
    """
    metadata = _directive(request, "x-amz-metadata-directive")
    tags = _directive(request, "x-amz-tagging-directive")
    described = new_version.described(services, request, bucket)
    row = found.row
    if _is_itself(request, bucket, found) and not _changes(request, row, metadata):
        raise errors.InvalidRequest(
            "This copy request is illegal because it is trying to copy an object to itself without changing the "
            "object's metadata, storage class, website redirect location or encryption attributes."
        )
    content_type, attributes = described.content_type, described.attributes
    if metadata == "COPY":
        headers = {name: value for name, value in row.attributes.headers.items() if name != REDIRECT_HEADER}
        if REDIRECT_HEADER in attributes.headers:
            headers[REDIRECT_HEADER] = attributes.headers[REDIRECT_HEADER]
        content_type = row.content_type
        attributes = structs.replace(attributes, headers=headers, metadata=row.attributes.metadata)
    if tags == "COPY":
        attributes = structs.replace(attributes, tags=row.attributes.tags)
    return content_type, attributes


def _directive(request: Request, name: str) -> str:
    """COPY or REPLACE. Raises InvalidArgument for anything else."""
    directive = request.headers.get(name, "COPY").upper()
    if directive not in ("COPY", "REPLACE"):
        raise errors.InvalidArgument(
            f"Unknown {name.removeprefix('x-amz-').replace('-', ' ')}.",
            ArgumentName=name,
            ArgumentValue=directive,
        )
    return directive


def _is_itself(request: Request, bucket: Bucket, found: CopySource) -> bool:
    """Whether source and target are one; a version named by its id is not its key."""
    return found.named is None and found.bucket.id == bucket.id and found.row.key == request.key


def _changes(request: Request, row: ObjectRow, metadata_directive: str) -> bool:
    """Whether a copy onto itself changes something that such a copy is made for."""
    headers = request.headers
    return (
        metadata_directive == "REPLACE"
        or storage_class(headers) != row.attributes.storage_class
        or headers.get(REDIRECT_HEADER) is not None
        or any(name.startswith("x-amz-server-side-encryption") for name in headers)
    )


async def _checksum_of_copy(
    services: FrontServices, request: Request, row: ObjectRow, data_key: bytes | None
) -> Checksum | None:
    """The source's checksum; only when another algorithm is asked for are its bytes read."""
    wanted = requested_algorithm(request.headers)
    stored = row.attributes.checksum
    if wanted is None or (stored is not None and stored.algorithm == wanted.name):
        return stored
    hasher = wanted.new()
    async with aclosing(object_pieces(services, row.blob, 0, row.size, data_key)) as pieces:
        async for piece in pieces:
            hasher.update(piece)
    return Checksum(wanted.name, "FULL_OBJECT", value_of(hasher))


async def upload_part_copy(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html"""
    number = part_number(request)
    for _ in range(COPY_TRIES_MAX):
        upload = await require_upload(services, request)
        found = await find_source(services, request)
        start, stop = _copied_range(request, found.row)
        try:
            part, checksum = await _copy_part(services, request, upload, number, found, span=(start, stop))
        except Changed:
            continue
        response = xml_response(
            _result_document("CopyPartResult", part.etag, part.modified_ms, checksum, with_type=False)
        )
        response.headers += [*found.headers, *response_headers(upload.attributes.encryption, request)]
        return response
    raise errors.OperationAborted


def _copied_range(request: Request, row: ObjectRow) -> tuple[int, int]:
    value = request.headers.get("x-amz-copy-source-range")
    start, stop = parse_copy_source_range(value, row.size) or (0, row.size)
    if stop - start > PART_BYTES_MAX:
        raise errors.EntityTooLarge(ProposedSize=stop - start, MaxSizeAllowed=PART_BYTES_MAX)
    return start, stop


async def _copy_part(
    services: FrontServices,
    request: Request,
    upload: UploadRow,
    number: int,
    found: CopySource,
    *,
    span: tuple[int, int],
) -> tuple[PartRow, Checksum]:
    """By reference where the part is to be a whole object of one blob, neither of them encrypted (data keys are those
    of uploads and objects), else by moving its bytes. Raises Changed (S14)."""
    sealing = await for_part(services, request, upload.attributes)
    source_key = await for_source(services, request, found.row.attributes)
    algorithm = upload_checksum_of(upload).algorithm
    row = found.row
    start, stop = span
    in_the_clear = sealing is None and source_key is None
    known = row.attributes.checksum
    whole = in_the_clear and row.blob.manifest is None and stop - start == row.size
    if whole and known is not None and known.algorithm == algorithm.name and "-" not in row.etag:
        part = await services.catalog.write(
            lambda tx: uploads.put_part_reference(
                tx, upload=upload, number=number, source=found.source, etag=row.etag, checksum=known.value
            )
        )
        return part, known
    stored = await _move_bytes(
        services,
        row,
        span,
        Digests(algorithm),
        source_key=source_key,
        sealing=sealing,
        storage_class=upload.attributes.storage_class,
    )
    part = await services.catalog.write(
        lambda tx: uploads.put_part(
            tx,
            upload=upload,
            number=number,
            blob=stored.blob,
            size=stored.size,
            etag=stored.etag,
            checksum=stored.checksum.value,
        ),
        blob=stored.blob,
    )
    return part, stored.checksum


async def _move_bytes(
    services: FrontServices,
    row: ObjectRow,
    span: tuple[int, int],
    digests: Digests,
    *,
    source_key: bytes | None,
    sealing: Sealing | None,
    storage_class: str,
) -> StoredBlob:
    """A new blob with bytes [start, stop) of an object, decrypted and encrypted on the way as the keys say."""
    start, stop = span
    source = object_pieces(services, row.blob, start, stop, source_key)
    async with services.copy_slots, aclosing(source) as pieces:
        return await store_pieces(
            services, pieces, stop - start, digests, sealing=sealing, storage_class=storage_class
        )
