"""The lifecycle configuration of a bucket, and what answers say of an object's end."""

from __future__ import annotations

from urllib.parse import quote

from msgspec import structs

from catalog import buckets, lifecycle_walk
from catalog.bucket_model import BucketActions, LifecycleRule
from catalog.lifecycle_rules import (
    ALL_CLASSES_128K,
    DAY_MS,
    TRANSITION_MINIMUM_SIZES,
    KeyRules,
    Seen,
)
from catalog.model import Attributes, Bucket, ObjectRow
from catalog.transaction import Transaction
from cluster.reports.moments import FAR_MS
from s3front import errors
from s3front.body import read_body
from s3front.handlers.buckets import require_bucket
from s3front.limits import XML_BODY_BYTES_MAX
from s3front.request import Request
from s3front.response import Response, header, xml_response
from s3front.services import FrontServices
from s3front.wire.headers import http_date
from s3front.wire.lifecycle_xml import lifecycle_xml, parse_lifecycle

MINIMUM_SIZE_HEADER = "x-amz-transition-default-minimum-object-size"
_ID_BYTES = 24


class NoSuchLifecycleConfiguration(errors.S3Error):
    status = 404
    message = "The lifecycle configuration does not exist"


async def get_bucket_lifecycle_configuration(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketLifecycleConfiguration.html"""
    bucket = await require_bucket(services, request)
    if not bucket.actions.lifecycle:
        raise NoSuchLifecycleConfiguration(BucketName=bucket.name)
    response = xml_response(lifecycle_xml(bucket.actions.lifecycle))
    response.headers.append(_minimum_size(bucket.actions.transition_minimum_size))
    return response


async def put_bucket_lifecycle_configuration(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketLifecycleConfiguration.html

    What lies in the bucket already comes under the rules too: the steward walks over it.
    """
    bucket = await require_bucket(services, request)
    body = await read_body(services, request, XML_BODY_BYTES_MAX)
    if not body:
        raise errors.MissingRequestBodyError
    minimum_size = request.headers.get(MINIMUM_SIZE_HEADER, ALL_CLASSES_128K)
    if minimum_size not in TRANSITION_MINIMUM_SIZES:
        raise errors.InvalidArgument(
            "The value must be one of " + ", ".join(TRANSITION_MINIMUM_SIZES),
            ArgumentName=MINIMUM_SIZE_HEADER,
            ArgumentValue=minimum_size,
        )
    rules = parse_lifecycle(body)

    def put(tx: Transaction) -> None:
        named = tuple(
            rule if rule.id else structs.replace(rule, id=tx.random(_ID_BYTES).hex()) for rule in rules
        )
        _change(tx, bucket.id, named, minimum_size)
        lifecycle_walk.begin(tx, bucket.id)

    await services.catalog.write(put)
    return Response(headers=[_minimum_size(minimum_size)])


async def delete_bucket_lifecycle(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteBucketLifecycle.html"""
    bucket = await require_bucket(services, request)
    await services.catalog.write(lambda tx: _change(tx, bucket.id, (), ""))
    return Response(204)


def _change(tx: Transaction, bucket_id: int, rules: tuple[LifecycleRule, ...], minimum_size: str) -> None:
    def changed(actions: BucketActions) -> BucketActions:
        return structs.replace(actions, lifecycle=rules, transition_minimum_size=minimum_size)

    buckets.change_actions(tx, bucket_id, changed)


def _minimum_size(value: str) -> tuple[bytes, bytes]:
    return header(MINIMUM_SIZE_HEADER, value or ALL_CLASSES_128K)


def expiration_header(bucket: Bucket, row: ObjectRow) -> str | None:
    """``x-amz-expiration`` of a current version; None where no rule expires it."""
    return new_expiration_header(
        bucket, row.key, size=row.size, modified_ms=row.modified_ms, attributes=row.attributes
    )


def new_expiration_header(
    bucket: Bucket, key: bytes, *, size: int, modified_ms: int, attributes: Attributes
) -> str | None:
    """The same of one that has just been written. Days are days here, also where rules are tried with shorter ones."""
    if not bucket.actions.lifecycle:
        return None
    rules = KeyRules.of(bucket.actions, key, DAY_MS)
    seen = Seen(modified_ms=modified_ms, size=size, tags=attributes.tags)
    removal = None if rules is None else rules.removal(seen)
    if removal is None or removal.at_ms >= FAR_MS:
        return None
    at = http_date(removal.at_ms).decode()
    return f'expiry-date="{at}", rule-id="{quote(removal.rule_id, safe="")}"'
