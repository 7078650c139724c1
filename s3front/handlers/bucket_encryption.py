"""The default encryption of a bucket."""

from __future__ import annotations

from msgspec import structs

from catalog import buckets
from catalog.bucket_model import DefaultEncryption
from s3front import errors
from s3front.body import read_body
from s3front.handlers.buckets import require_bucket
from s3front.limits import XML_BODY_BYTES_MAX
from s3front.request import Request
from s3front.response import Response, xml_response
from s3front.services import FrontServices
from s3front.wire.encryption_xml import default_encryption_xml, parse_default_encryption


async def get_bucket_encryption(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketEncryption.html

    Where nothing was put, new objects are not encrypted; AWS encrypts them with SSE-S3 and says so.
    """
    bucket = await require_bucket(services, request)
    default = bucket.actions.encryption
    if default is None:
        raise errors.ServerSideEncryptionConfigurationNotFoundError(BucketName=bucket.name)
    return xml_response(default_encryption_xml(default))


async def put_bucket_encryption(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketEncryption.html

    Whether the key exists is seen when an object is put, as on AWS.
    """
    bucket = await require_bucket(services, request)
    body = await read_body(services, request, XML_BODY_BYTES_MAX)
    if not body:
        raise errors.MissingRequestBodyError
    await _change(services, bucket.id, parse_default_encryption(body))
    return Response()


async def delete_bucket_encryption(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteBucketEncryption.html"""
    bucket = await require_bucket(services, request)
    await _change(services, bucket.id, None)
    return Response(204)


async def _change(services: FrontServices, bucket_id: int, default: DefaultEncryption | None) -> None:
    await services.catalog.write(
        lambda tx: buckets.change_actions(
            tx, bucket_id, lambda actions: structs.replace(actions, encryption=default)
        )
    )
