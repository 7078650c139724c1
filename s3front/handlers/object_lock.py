"""Object lock: configuration of buckets, retention and legal hold of versions."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import structs

from catalog import buckets, locks, objects
from catalog.model import Attributes, Bucket, Retention
from catalog.transaction import Transaction
from s3front import errors
from s3front.body import read_body
from s3front.handlers.buckets import require_bucket
from s3front.handlers.new_version import LOCK_IS_MISSING, UNTIL_IS_PAST
from s3front.handlers.one_version import named_version, stored_version
from s3front.limits import XML_BODY_BYTES_MAX
from s3front.request import Request
from s3front.response import Response, xml_response
from s3front.services import FrontServices
from s3front.wire import lock_xml

BYPASS_HEADER = "x-amz-bypass-governance-retention"


async def get_object_lock_configuration(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectLockConfiguration.html"""
    bucket = await require_bucket(services, request)
    if bucket.lock is None:
        raise errors.ObjectLockConfigurationNotFoundError(BucketName=bucket.name)
    return xml_response(lock_xml.configuration_xml(bucket.lock))


async def put_object_lock_configuration(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectLockConfiguration.html

    Versions that are there already keep what they have; the default is for those to come.
    """
    bucket = await require_bucket(services, request)
    lock = lock_xml.parse_configuration(await read_body(services, request, XML_BODY_BYTES_MAX))
    await services.catalog.write(lambda tx: buckets.set_lock(tx, bucket.id, lock))
    return Response()


async def get_object_retention(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectRetention.html"""
    bucket = await _lockable(services, request)
    row = await stored_version(services, request, bucket)
    retention = row.attributes.retention
    if retention is None:
        raise errors.NoSuchObjectLockConfiguration
    return xml_response(lock_xml.retention_xml(retention))


async def put_object_retention(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectRetention.html"""
    bucket = await _lockable(services, request)
    retention = lock_xml.parse_retention(await read_body(services, request, XML_BODY_BYTES_MAX))
    bypass = bypasses_governance(request)

    def change(tx: Transaction, attributes: Attributes) -> Attributes:
        _check_ahead(tx, retention)
        locks.check_change(tx, attributes.retention, retention, bypass_governance=bypass)
        return structs.replace(attributes, retention=retention)

    return await _changed(services, request, bucket, change)


def _check_ahead(tx: Transaction, retention: Retention | None) -> None:
    if retention is not None and retention.until_ms <= locks.latest_clock_ms(tx):
        raise errors.InvalidArgument(UNTIL_IS_PAST, ArgumentName="RetainUntilDate")


def bypasses_governance(request: Request) -> bool:
    """Whether the request may remove or shorten retention of mode GOVERNANCE."""
    return request.headers.get(BYPASS_HEADER, "").lower() == "true"


async def get_object_legal_hold(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectLegalHold.html"""
    bucket = await _lockable(services, request)
    row = await stored_version(services, request, bucket)
    if row.attributes.legal_hold is None:
        raise errors.NoSuchObjectLockConfiguration
    return xml_response(lock_xml.legal_hold_xml(on=row.attributes.legal_hold))


async def put_object_legal_hold(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectLegalHold.html"""
    bucket = await _lockable(services, request)
    on = lock_xml.parse_legal_hold(await read_body(services, request, XML_BODY_BYTES_MAX))
    return await _changed(
        services, request, bucket, lambda _, attributes: structs.replace(attributes, legal_hold=on)
    )


async def _lockable(services: FrontServices, request: Request) -> Bucket:
    """The bucket, if its versions can be locked. Raises InvalidRequest."""
    bucket = await require_bucket(services, request)
    if bucket.lock is None:
        raise errors.InvalidRequest(LOCK_IS_MISSING)
    return bucket


async def _changed(
    services: FrontServices,
    request: Request,
    bucket: Bucket,
    change: Callable[[Transaction, Attributes], Attributes],
) -> Response:
    key = request.key
    assert key is not None
    version_id = named_version(request)
    await services.catalog.write(
        lambda tx: objects.change_attributes(
            tx,
            bucket_id=bucket.id,
            key=key,
            version_id=version_id,
            change=lambda attributes: change(tx, attributes),
        )
    )
    return Response()
