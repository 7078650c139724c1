"""ListBuckets, CreateBucket, HeadBucket, DeleteBucket, GetBucketLocation."""

from __future__ import annotations

import ipaddress

from catalog import buckets, documents
from catalog.bucket_model import LockConfiguration
from catalog.errors import BucketExists
from catalog.model import Bucket, Versioning
from catalog.transaction import Transaction
from s3front import errors
from s3front.body import read_body
from s3front.handlers import bucket_tags
from s3front.handlers.owner import OWNER_ID, owner_xml
from s3front.handlers.paging import decode_token, encode_token, integer_parameter
from s3front.limits import XML_BODY_BYTES_MAX
from s3front.request import Request
from s3front.response import Response, header, xml_response
from s3front.services import FrontServices
from s3front.wire import xml
from s3front.wire.headers import iso_date
from s3front.wire.tagging import bucket_element_tags
from s3front.wire.xml_writer import document, element, optional, text

DEFAULT_REGION = "us-east-1"
BUCKETS_MAX = 10_000
LOCK_HEADER = "x-amz-bucket-object-lock-enabled"
OWNERSHIP_HEADER = "x-amz-object-ownership"
OWNERSHIPS = ("BucketOwnerEnforced", "BucketOwnerPreferred", "ObjectWriter")
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.-")


async def require_bucket(services: FrontServices, request: Request) -> Bucket:
    """The bucket the request names. Raises NoSuchBucket, or AccessDenied when it is not the expected owner's."""
    assert request.bucket is not None
    return check_bucket(request, await buckets.get(services.catalog, request.bucket))


def check_bucket(request: Request, bucket: Bucket | None) -> Bucket:
    """`bucket`, if it is there. Raises NoSuchBucket, or AccessDenied when it is not the expected owner's."""
    if bucket is None:
        raise errors.NoSuchBucket(BucketName=request.bucket)
    if request.headers.get("x-amz-expected-bucket-owner", bucket.owner) != bucket.owner:
        raise errors.AccessDenied
    return bucket


async def list_buckets(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListBuckets.html"""
    prefix = request.query.get("prefix", "")
    limit = integer_parameter(request, "max-buckets", default=BUCKETS_MAX, least=1, most=BUCKETS_MAX)
    after = decode_token(request.query.get("continuation-token", "")).decode()
    found = await services.catalog.read(lambda reader: buckets.list_buckets(reader, after=after))
    wanted = [bucket for bucket in found if bucket.name.startswith(prefix)]
    page, rest = wanted[:limit], wanted[limit:]
    entries = "".join(
        element(
            "Bucket",
            text("Name", b.name),
            text("CreationDate", iso_date(b.created_ms)),
            text("BucketRegion", b.region),
        )
        for b in page
    )
    return xml_response(
        document(
            "ListAllMyBucketsResult",
            owner_xml(),
            element("Buckets", entries),
            optional("ContinuationToken", encode_token(page[-1].name.encode()) if rest else None),
            optional("Prefix", prefix or None),
        )
    )


async def create_bucket(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html

    In us-east-1 creating one's own bucket again succeeds, as on AWS; elsewhere it is BucketAlreadyOwnedByYou.
    """
    name = request.bucket
    assert name is not None
    if not is_valid_bucket_name(name):
        raise errors.InvalidBucketName(BucketName=name)
    locks, ownership = wants_lock(request), _wanted_ownership(request)
    region = services.settings.region
    tags = parse_configuration(await read_body(services, request, XML_BODY_BYTES_MAX), region)

    def create(tx: Transaction) -> None:
        bucket = buckets.create(
            tx,
            name=name,
            owner=OWNER_ID,
            region=region,
            versioning=Versioning.ENABLED if locks else Versioning.NEVER,
            lock=LockConfiguration() if locks else None,
        )
        if ownership is not None:
            rule = element("Rule", text("ObjectOwnership", ownership))
            documents.put(tx, bucket.id, documents.OWNERSHIP, document("OwnershipControls", rule))
        if tags:
            bucket_tags.store(tx, bucket.id, tags)

    try:
        await services.catalog.write(create)
    except BucketExists as exists:
        if exists.owner != OWNER_ID or region != DEFAULT_REGION:
            raise
    return Response(headers=[header("location", f"/{name}")])


def wants_lock(request: Request) -> bool:
    """Whether the new bucket is to have object lock, for good. Raises InvalidArgument."""
    value = request.headers.get(LOCK_HEADER, "false")
    if value.lower() not in ("true", "false"):
        raise errors.InvalidArgument(ArgumentName=LOCK_HEADER, ArgumentValue=value)
    return value.lower() == "true"


def _wanted_ownership(request: Request) -> str | None:
    value = request.headers.get(OWNERSHIP_HEADER)
    if value is not None and value not in OWNERSHIPS:
        raise errors.InvalidArgument(
            f"Invalid {OWNERSHIP_HEADER} header: {value}", ArgumentName=OWNERSHIP_HEADER, ArgumentValue=value
        )
    return value


def parse_configuration(body: bytes, region: str) -> dict[str, str]:
    """The tags of a CreateBucketConfiguration, if there is one. Raises unless it (or its absence) means `region`."""
    if not body:
        return {}
    root = xml.parse(body, root="CreateBucketConfiguration", max_bytes=XML_BODY_BYTES_MAX)
    wanted = root.text("LocationConstraint")
    if wanted and wanted != region:
        raise errors.InvalidLocationConstraint(LocationConstraint=wanted)
    tags = root.child("Tags")
    return {} if tags is None else bucket_element_tags(tags)


async def head_bucket(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadBucket.html"""
    bucket = await require_bucket(services, request)
    return Response(headers=[header("x-amz-bucket-region", bucket.region)])


async def delete_bucket(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteBucket.html"""
    bucket = await require_bucket(services, request)
    await services.catalog.write(lambda tx: buckets.delete(tx, bucket.id), frees=True)
    return Response(204)


async def get_bucket_location(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketLocation.html (us-east-1 is the empty answer)"""
    bucket = await require_bucket(services, request)
    region = "" if bucket.region == DEFAULT_REGION else bucket.region
    return xml_response(document("LocationConstraint", region))


def is_valid_bucket_name(name: str) -> bool:
    """ "Bucket naming rules" of the S3 user guide, for general purpose buckets."""
    if not 3 <= len(name) <= 63 or not _NAME_CHARACTERS.issuperset(name):
        return False
    if not (name[0].isalnum() and name[-1].isalnum()) or ".." in name:
        return False
    if name.startswith(("xn--", "sthree-", "amzn-s3-demo-")):
        return False
    if name.endswith(("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")):
        return False
    return not _is_ip_address(name)


def _is_ip_address(name: str) -> bool:
    try:
        ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True
