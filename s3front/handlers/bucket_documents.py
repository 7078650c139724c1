"""Configurations that tools put and read back, and that nothing here acts on: kept as they were sent.

Each kind is a value below; its operations are rows of the table of operations, made by ``getter``, ``putter`` and
``remover``, for kinds of which a bucket has several by ``getter_by_id`` and its likes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from catalog import documents
from catalog.documents import TooManyDocuments
from catalog.model import Bucket
from s3front import errors
from s3front.body import read_body
from s3front.errors import S3Error
from s3front.handlers.buckets import require_bucket
from s3front.handlers.paging import decode_token, encode_token
from s3front.request import Request
from s3front.response import Response, xml_response
from s3front.services import FrontServices
from s3front.wire import document_rules as rules
from s3front.wire import document_shapes as shapes
from s3front.wire import xml
from s3front.wire.shapes import Shape, canonical
from s3front.wire.xml_writer import DECLARATION, document, optional, text

Handler = Callable[[FrontServices, Request], Awaitable[Response]]

DOCUMENT_BYTES_MAX: Final = 1 << 20
"""1,000 rules of replication fit, the longest configuration there is."""
DOCUMENT_BY_ID_BYTES_MAX: Final = 64 << 10
DOCUMENTS_BY_ID_MAX: Final = 1000
"""AWS's limit for each kind, bucket by bucket."""
PAGE_DOCUMENTS: Final = 100
ID_CHARACTERS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Kind:
    """A configuration that a bucket has at most one of, or one for each id.

    `name`: the subresource. `absent`: what a GET answers where there is none, an error or what is inside of the root.
    """

    name: str
    root: str
    shape: Shape
    absent: type[S3Error] | str
    check: Callable[[xml.Element, Bucket], None] = rules.anything


ABAC = Kind("abac", "AbacStatus", shapes.ABAC, text("Status", "Disabled"))
ACCELERATE = Kind("accelerate", "AccelerateConfiguration", shapes.ACCELERATE, "", rules.accelerate)
ANALYTICS = Kind("analytics", "AnalyticsConfiguration", shapes.ANALYTICS, errors.NoSuchConfiguration)
CORS = Kind("cors", "CORSConfiguration", shapes.CORS, errors.NoSuchCORSConfiguration, rules.cors)
INTELLIGENT_TIERING = Kind(
    "intelligent-tiering",
    "IntelligentTieringConfiguration",
    shapes.INTELLIGENT_TIERING,
    errors.NoSuchConfiguration,
)
INVENTORY = Kind("inventory", "InventoryConfiguration", shapes.INVENTORY, errors.NoSuchConfiguration)
LOGGING = Kind("logging", "BucketLoggingStatus", shapes.LOGGING, "")
METRICS = Kind("metrics", "MetricsConfiguration", shapes.METRICS, errors.NoSuchConfiguration)
NOTIFICATION = Kind("notification", "NotificationConfiguration", shapes.NOTIFICATION, "")
OWNERSHIP = Kind(
    documents.OWNERSHIP,
    "OwnershipControls",
    shapes.OWNERSHIP,
    errors.OwnershipControlsNotFoundError,
    rules.ownership,
)
PUBLIC_ACCESS = Kind(
    "publicAccessBlock",
    "PublicAccessBlockConfiguration",
    shapes.PUBLIC_ACCESS,
    errors.NoSuchPublicAccessBlockConfiguration,
)
REPLICATION = Kind(
    "replication",
    "ReplicationConfiguration",
    shapes.REPLICATION,
    errors.ReplicationConfigurationNotFoundError,
    rules.replication,
)
REQUEST_PAYMENT = Kind(
    "requestPayment", "RequestPaymentConfiguration", shapes.REQUEST_PAYMENT, text("Payer", "BucketOwner")
)
WEBSITE = Kind(
    "website", "WebsiteConfiguration", shapes.WEBSITE, errors.NoSuchWebsiteConfiguration, rules.website
)

KINDS: Final = (
    *(ABAC, ACCELERATE, CORS, LOGGING, NOTIFICATION, OWNERSHIP, PUBLIC_ACCESS, REPLICATION, REQUEST_PAYMENT),
    *(WEBSITE, ANALYTICS, INTELLIGENT_TIERING, INVENTORY, METRICS),
)


def getter(kind: Kind) -> Handler:
    """Answers with the configuration, or with what `kind` says of none."""

    async def get(services: FrontServices, request: Request) -> Response:
        bucket = await require_bucket(services, request)
        return await _answer(services, kind, bucket, "")

    return get


def putter(kind: Kind) -> Handler:
    """Replaces the configuration."""

    async def put(services: FrontServices, request: Request) -> Response:
        bucket = await require_bucket(services, request)
        _, stored = await _read(services, request, kind, bucket, DOCUMENT_BYTES_MAX)
        await services.catalog.write(lambda tx: documents.put(tx, bucket.id, kind.name, stored))
        return Response()

    return put


def remover(kind: Kind) -> Handler:
    """Removes the configuration, if there is one."""

    async def remove(services: FrontServices, request: Request) -> Response:
        bucket = await require_bucket(services, request)
        await services.catalog.write(lambda tx: documents.delete(tx, bucket.id, kind.name), frees=True)
        return Response(204)

    return remove


def getter_by_id(kind: Kind) -> Handler:
    """Answers with the configuration of the id."""

    async def get(services: FrontServices, request: Request) -> Response:
        bucket = await require_bucket(services, request)
        return await _answer(services, kind, bucket, _id(request))

    return get


def putter_by_id(kind: Kind) -> Handler:
    """Makes or replaces the configuration of the id, which stands in it once more."""

    async def put(services: FrontServices, request: Request) -> Response:
        bucket = await require_bucket(services, request)
        name = _id(request)
        root, stored = await _read(services, request, kind, bucket, DOCUMENT_BY_ID_BYTES_MAX)
        if root.required_text("Id") != name:
            raise errors.InvalidArgument(
                "The id in the configuration is not that of the request.",
                ArgumentName="id",
                ArgumentValue=name,
            )
        try:
            await services.catalog.write(
                lambda tx: documents.put(
                    tx, bucket.id, kind.name, stored, name=name, most=DOCUMENTS_BY_ID_MAX
                )
            )
        except TooManyDocuments:
            raise errors.TooManyConfigurations from None
        return Response()

    return put


def remover_by_id(kind: Kind) -> Handler:
    """Removes the configuration of the id. Raises NoSuchConfiguration."""

    async def remove(services: FrontServices, request: Request) -> Response:
        bucket = await require_bucket(services, request)
        name = _id(request)
        existed = await services.catalog.write(
            lambda tx: documents.delete(tx, bucket.id, kind.name, name), frees=True
        )
        if not existed:
            raise errors.NoSuchConfiguration
        return Response(204)

    return remove


def lister(kind: Kind) -> Handler:
    """Answers with the configurations of all ids, page by page."""

    async def list_all(services: FrontServices, request: Request) -> Response:
        bucket = await require_bucket(services, request)
        token = request.query.get("continuation-token")
        after = decode_token(token).decode() if token else ""
        found = await services.catalog.read(
            lambda reader: documents.list_documents(
                reader, bucket.id, kind.name, after=after, limit=PAGE_DOCUMENTS + 1
            )
        )
        shown, more = found[:PAGE_DOCUMENTS], len(found) > PAGE_DOCUMENTS
        return xml_response(
            document(
                f"List{kind.root}sResult",
                *(stored.decode().removeprefix(DECLARATION) for _, stored in shown),
                text("IsTruncated", more),
                optional("ContinuationToken", token),
                optional("NextContinuationToken", encode_token(shown[-1][0].encode()) if more else None),
            )
        )

    return list_all


async def _answer(services: FrontServices, kind: Kind, bucket: Bucket, name: str) -> Response:
    stored = await services.catalog.read(lambda reader: documents.get(reader, bucket.id, kind.name, name))
    if stored is not None:
        return xml_response(stored)
    if isinstance(kind.absent, str):
        return xml_response(document(kind.root, kind.absent))
    raise kind.absent(BucketName=bucket.name)


async def _read(
    services: FrontServices, request: Request, kind: Kind, bucket: Bucket, bytes_max: int
) -> tuple[xml.Element, bytes]:
    """The root of the body, checked, and the document to keep."""
    root = xml.parse(await read_body(services, request, bytes_max), root=kind.root, max_bytes=bytes_max)
    inside = canonical(root, kind.shape)
    kind.check(root, bucket)
    return root, document(kind.root, inside)


def _id(request: Request) -> str:
    name = request.query.get("id", "")
    if not name or len(name) > ID_CHARACTERS_MAX or "\0" in name:
        raise errors.InvalidArgument(
            "The specified configuration id is invalid.", ArgumentName="id", ArgumentValue=name
        )
    return name
