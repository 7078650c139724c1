"""GetBucketVersioning and PutBucketVersioning."""

from __future__ import annotations

from catalog import buckets
from catalog.model import Versioning
from s3front import errors
from s3front.body import read_body
from s3front.handlers.buckets import require_bucket
from s3front.limits import XML_BODY_BYTES_MAX
from s3front.request import Request
from s3front.response import Response, xml_response
from s3front.services import FrontServices
from s3front.wire import xml
from s3front.wire.xml_writer import document, text

_STATUS = {Versioning.ENABLED: "Enabled", Versioning.SUSPENDED: "Suspended"}
_VERSIONING = {status: versioning for versioning, status in _STATUS.items()}


async def get_bucket_versioning(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketVersioning.html

    Empty for a bucket that never had versioning.
    """
    bucket = await require_bucket(services, request)
    status = _STATUS.get(bucket.versioning)
    return xml_response(document("VersioningConfiguration", text("Status", status) if status else ""))


async def put_bucket_versioning(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketVersioning.html

    MFA delete needs a device that only AWS knows: it can stay disabled, and not be enabled.
    """
    bucket = await require_bucket(services, request)
    body = await read_body(services, request, XML_BODY_BYTES_MAX)
    if not body:
        raise errors.MissingRequestBodyError
    root = xml.parse(body, root="VersioningConfiguration", max_bytes=XML_BODY_BYTES_MAX)
    root.allow_only("Status", "MfaDelete")
    if root.text("MfaDelete") not in (None, "Disabled"):
        raise errors.NotImplementedS3(Header="MfaDelete")
    status = root.text("Status")
    if status is None:
        raise errors.IllegalVersioningConfigurationException
    versioning = _VERSIONING.get(status)
    if versioning is None:
        raise errors.MalformedXML
    await services.catalog.write(lambda tx: buckets.set_versioning(tx, bucket.id, versioning))
    return Response()
