"""CreateMultipartUpload, UploadPart, AbortMultipartUpload, ListParts, ListMultipartUploads."""

from __future__ import annotations

from msgspec import structs

from catalog import upload_listing, uploads
from catalog.model import PartRow, UploadRow
from s3front import errors
from s3front.blob_store import store_blob
from s3front.body import DEFAULT_ALGORITHM
from s3front.encryption.requests import for_new_object, for_part, response_headers
from s3front.handlers import new_version
from s3front.handlers.buckets import require_bucket
from s3front.handlers.owner import OWNER_ID, owner_xml
from s3front.handlers.paging import integer_parameter, key_encoder
from s3front.limits import LIST_KEYS_MAX, PART_BYTES_MAX, PART_NUMBER_MAX
from s3front.request import Request
from s3front.response import Response, header, xml_response
from s3front.services import FrontServices
from s3front.wire.checksum_headers import checksum_header
from s3front.wire.checksums import (
    ALGORITHMS,
    UploadChecksum,
    check_part_algorithm,
    checksum_type,
    declared_checksum,
    upload_checksum,
)
from s3front.wire.headers import iso_date
from s3front.wire.xml_writer import document, element, optional, text

DEFAULT_UPLOAD_CHECKSUM = UploadChecksum(DEFAULT_ALGORITHM, "FULL_OBJECT")
"""What an upload gets that asks for none, as on AWS; its parts may declare any other besides."""


async def create_multipart_upload(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateMultipartUpload.html"""
    bucket = await require_bucket(services, request)
    key = request.key
    assert key is not None
    described = new_version.described(services, request, bucket)
    wanted = upload_checksum(request.headers)
    sealing = await for_new_object(services, request, bucket)
    encryption = None if sealing is None else sealing.encryption
    attributes = structs.replace(described.attributes, encryption=encryption)
    upload = await services.catalog.write(
        lambda tx: uploads.create(
            tx,
            bucket_id=bucket.id,
            key=key,
            owner=OWNER_ID,
            content_type=described.content_type,
            attributes=attributes,
            checksum_algorithm=wanted.algorithm.name if wanted else None,
            checksum_type=wanted.type if wanted else None,
        )
    )
    response = xml_response(
        document(
            "InitiateMultipartUploadResult",
            text("Bucket", bucket.name),
            text("Key", key.decode()),
            text("UploadId", upload.upload_id),
        )
    )
    response.headers += response_headers(encryption, request)
    if wanted is not None:
        response.headers.append(header("x-amz-checksum-algorithm", wanted.algorithm.name))
        response.headers.append(header("x-amz-checksum-type", wanted.type))
    return response


async def require_upload(services: FrontServices, request: Request) -> UploadRow:
    """The open upload the request names. Raises NoSuchUpload, NoSuchBucket."""
    bucket = await require_bucket(services, request)
    assert request.key is not None
    return await uploads.get(services.catalog, bucket.id, request.key, request.query["uploadId"])


def upload_checksum_of(upload: UploadRow) -> UploadChecksum:
    """The checksum that is kept of each part and made of them for the object."""
    if upload.checksum_algorithm is None:
        return DEFAULT_UPLOAD_CHECKSUM
    algorithm = ALGORITHMS[upload.checksum_algorithm]
    return UploadChecksum(algorithm, checksum_type(algorithm, upload.checksum_type))


def part_number(request: Request) -> int:
    """The ``partNumber`` parameter. Raises InvalidArgument outside 1 … 10,000."""
    value = request.query.get("partNumber", "")
    if not (value.isascii() and value.isdigit()) or len(value) > 5 or not 1 <= int(value) <= PART_NUMBER_MAX:
        raise errors.InvalidArgument(
            f"Part number must be an integer between 1 and {PART_NUMBER_MAX}, inclusive",
            ArgumentName="partNumber",
            ArgumentValue=value,
        )
    return int(value)


async def upload_part(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPart.html"""
    number = part_number(request)
    upload = await require_upload(services, request)
    algorithm = upload_checksum_of(upload).algorithm
    if upload.checksum_algorithm is not None:
        check_part_algorithm(upload_checksum_of(upload), declared_checksum(request.headers))
    sealing = await for_part(services, request, upload.attributes)
    stored = await store_blob(
        services,
        request,
        bytes_max=PART_BYTES_MAX,
        algorithm=algorithm,
        sealing=sealing,
        storage_class=upload.attributes.storage_class,
    )
    await services.catalog.write(
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
    return Response(
        headers=[
            header("etag", f'"{stored.etag}"'),
            *response_headers(upload.attributes.encryption, request),
            checksum_header(stored.echo),
        ]
    )


async def abort_multipart_upload(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html"""
    upload = await require_upload(services, request)
    await services.catalog.write(lambda tx: uploads.abort(tx, upload), frees=True)
    return Response(204)


async def list_parts(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListParts.html"""
    upload = await require_upload(services, request)
    limit = integer_parameter(request, "max-parts", default=LIST_KEYS_MAX, least=0, most=LIST_KEYS_MAX)
    marker = integer_parameter(request, "part-number-marker", default=0, least=0, most=PART_NUMBER_MAX)
    page = await services.catalog.read(
        lambda reader: upload_listing.list_parts(reader, upload.number, after=marker, limit=limit)
    )
    return xml_response(
        document(
            "ListPartsResult",
            text("Bucket", request.bucket or ""),
            text("Key", upload.key.decode()),
            text("UploadId", upload.upload_id),
            owner_xml("Initiator"),
            owner_xml(),
            text("StorageClass", upload.attributes.storage_class),
            text("PartNumberMarker", marker),
            text("NextPartNumberMarker", page.parts[-1].number if page.parts else marker),
            text("MaxParts", limit),
            text("IsTruncated", page.truncated),
            optional("ChecksumAlgorithm", upload.checksum_algorithm),
            optional("ChecksumType", upload.checksum_type),
            *(_part_xml(part, upload.checksum_algorithm) for part in page.parts),
        )
    )


def _part_xml(part: PartRow, algorithm: str | None) -> str:
    return element(
        "Part",
        text("PartNumber", part.number),
        text("LastModified", iso_date(part.modified_ms)),
        text("ETag", f'"{part.etag}"'),
        text("Size", part.size),
        optional(f"Checksum{algorithm}", part.checksum) if algorithm is not None else "",
    )


async def list_multipart_uploads(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html"""
    bucket = await require_bucket(services, request)
    query = request.query
    encode = key_encoder(request)
    limit = integer_parameter(request, "max-uploads", default=LIST_KEYS_MAX, least=1, most=LIST_KEYS_MAX)
    prefix, delimiter = query.get("prefix", "").encode(), query.get("delimiter", "").encode()
    key_marker, upload_marker = query.get("key-marker", "").encode(), query.get("upload-id-marker", "")
    page = await services.catalog.read(
        lambda reader: upload_listing.list_uploads(
            reader,
            bucket_id=bucket.id,
            prefix=prefix,
            delimiter=delimiter,
            key_marker=key_marker,
            upload_id_marker=upload_marker if key_marker else "",
            limit=limit,
        )
    )
    entries = [
        element(
            "Upload",
            text("Key", encode(entry.key)),
            text("UploadId", entry.upload_id),
            owner_xml("Initiator"),
            owner_xml(),
            text("StorageClass", entry.storage_class),
            text("Initiated", iso_date(entry.created_ms)),
            optional("ChecksumAlgorithm", entry.checksum_algorithm),
            optional("ChecksumType", entry.checksum_type),
        )
        for entry in page.entries
    ]
    return xml_response(
        document(
            "ListMultipartUploadsResult",
            text("Bucket", bucket.name),
            text("KeyMarker", encode(key_marker)),
            text("UploadIdMarker", upload_marker),
            optional("NextKeyMarker", encode(page.next_key) if page.truncated else None),
            optional("NextUploadIdMarker", page.next_upload_id if page.truncated else None),
            optional("Delimiter", encode(delimiter) if delimiter else None),
            text("Prefix", encode(prefix)),
            optional("EncodingType", query.get("encoding-type")),
            text("MaxUploads", limit),
            text("IsTruncated", page.truncated),
            *entries,
            *(element("CommonPrefixes", text("Prefix", encode(found))) for found in page.prefixes),
        )
    )
