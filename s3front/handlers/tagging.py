"""Tags of objects and buckets."""

from __future__ import annotations

from msgspec import structs

from catalog import objects
from catalog.transaction import Transaction
from s3front.body import read_body
from s3front.errors import NoSuchTagSet
from s3front.handlers import bucket_tags
from s3front.handlers.buckets import require_bucket
from s3front.handlers.one_version import named_version, shown_version, stored_version, version_headers
from s3front.limits import XML_BODY_BYTES_MAX
from s3front.request import Request
from s3front.response import Response, xml_response
from s3front.services import FrontServices
from s3front.wire.tagging import document_bucket_tags, document_object_tags, tag_set_xml
from s3front.wire.xml_writer import document


async def get_object_tagging(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectTagging.html"""
    bucket = await require_bucket(services, request)
    row = await stored_version(services, request, bucket)
    response = xml_response(document("Tagging", tag_set_xml(row.attributes.tags)))
    response.headers += version_headers(shown_version(bucket, row))
    return response


async def put_object_tagging(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectTagging.html"""
    body = await read_body(services, request, XML_BODY_BYTES_MAX)
    tags = document_object_tags(body, max_bytes=XML_BODY_BYTES_MAX)
    return Response(headers=version_headers(await _set_tags(services, request, tags)))


async def delete_object_tagging(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjectTagging.html"""
    return Response(204, version_headers(await _set_tags(services, request, {})))


async def _set_tags(services: FrontServices, request: Request, tags: dict[str, str]) -> str | None:
    """The version id to show."""
    bucket = await require_bucket(services, request)
    key = request.key
    assert key is not None
    version_id = named_version(request)
    return await services.catalog.write(
        lambda tx: objects.change_attributes(
            tx,
            bucket_id=bucket.id,
            key=key,
            version_id=version_id,
            change=lambda attributes: structs.replace(attributes, tags=tags),
        )
    )


async def get_bucket_tagging(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketTagging.html"""
    bucket = await require_bucket(services, request)
    tags = await services.catalog.read(lambda reader: bucket_tags.stored(reader, bucket.id))
    if tags is None:
        raise NoSuchTagSet(BucketName=bucket.name)
    return xml_response(document("Tagging", tag_set_xml(tags)))


async def put_bucket_tagging(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketTagging.html (an empty set is none, as on AWS)"""
    bucket = await require_bucket(services, request)
    body = await read_body(services, request, XML_BODY_BYTES_MAX)
    tags = document_bucket_tags(body, max_bytes=XML_BODY_BYTES_MAX)

    def change(tx: Transaction) -> None:
        if tags:
            bucket_tags.store(tx, bucket.id, tags)
        else:
            bucket_tags.drop(tx, bucket.id)

    await services.catalog.write(change)
    return Response(204)


async def delete_bucket_tagging(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteBucketTagging.html"""
    bucket = await require_bucket(services, request)
    await services.catalog.write(lambda tx: bucket_tags.drop(tx, bucket.id), frees=True)
    return Response(204)
