"""Access control lists: all there is belongs to the one account of the store, and its owner may do everything.

What says just that is accepted. What would give somebody else a right is refused, never stored and ignored.
"""

from __future__ import annotations

import re

from s3front import errors
from s3front.body import read_body
from s3front.handlers.buckets import require_bucket
from s3front.handlers.one_version import stored_version
from s3front.handlers.owner import OWNER_ID, OWNER_NAME, owner_xml
from s3front.limits import XML_BODY_BYTES_MAX
from s3front.request import Request
from s3front.response import Response, xml_response
from s3front.services import FrontServices
from s3front.wire import xml
from s3front.wire.document_shapes import ACCESS_CONTROL
from s3front.wire.shapes import NAMESPACES, canonical
from s3front.wire.xml_writer import document, element, text

PRIVATE = ("private", "bucket-owner-full-control", "bucket-owner-read")
"""Canned lists that give rights to the owner of object and bucket only, who are the same."""
SHARED = ("public-read", "public-read-write", "authenticated-read", "aws-exec-read", "log-delivery-write")
_GRANTEE = re.compile(r'\s*(id|uri|emailAddress)\s*=\s*"?([^",]*)"?\s*', re.IGNORECASE)


async def get_bucket_acl(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketAcl.html"""
    await require_bucket(services, request)
    return xml_response(_OWNERS_LIST)


async def get_object_acl(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectAcl.html"""
    bucket = await require_bucket(services, request)
    await stored_version(services, request, bucket)
    return xml_response(_OWNERS_LIST)


async def put_bucket_acl(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketAcl.html"""
    await require_bucket(services, request)
    await _check_private(services, request)
    return Response()


async def put_object_acl(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectAcl.html"""
    bucket = await require_bucket(services, request)
    await stored_version(services, request, bucket)
    await _check_private(services, request)
    return Response()


async def _check_private(services: FrontServices, request: Request) -> None:
    """Raise unless the request means what is so anyway. AccessControlListNotSupported: it gives others a right."""
    body = await read_body(services, request, XML_BODY_BYTES_MAX)
    canned = request.headers.get("x-amz-acl")
    grants = {name: value for name, value in request.headers.items() if name.startswith("x-amz-grant-")}
    if canned is not None and grants:
        raise errors.InvalidRequest("Specifying both Canned ACLs and Header Grants is not allowed")
    if body and (canned is not None or grants):
        raise errors.UnexpectedContent
    if canned is not None:
        _check_canned(canned)
    elif grants:
        _check_grants(grants)
    elif body:
        _check_list(xml.parse(body, root="AccessControlPolicy", max_bytes=XML_BODY_BYTES_MAX))
    else:
        raise errors.MissingSecurityHeader(MissingHeaderName="x-amz-acl")


def _check_canned(canned: str) -> None:
    if canned in SHARED:
        raise errors.AccessControlListNotSupported
    if canned not in PRIVATE:
        raise errors.InvalidArgument(ArgumentName="x-amz-acl", ArgumentValue=canned)


def _check_grants(grants: dict[str, str]) -> None:
    for name, value in grants.items():
        for grantee in value.split(","):
            match = _GRANTEE.fullmatch(grantee)
            if match is None:
                raise errors.InvalidArgument(ArgumentName=name, ArgumentValue=value)
            if (match[1].lower(), match[2]) != ("id", OWNER_ID):
                raise errors.AccessControlListNotSupported
    if "x-amz-grant-full-control" not in grants:
        raise errors.AccessControlListNotSupported


def _check_list(root: xml.Element) -> None:
    canonical(root, ACCESS_CONTROL)
    owner, listed = root.child("Owner"), root.child("AccessControlList")
    if owner is None or listed is None:
        raise errors.MalformedXML
    if owner.text("ID") != OWNER_ID:
        raise errors.AccessDenied
    permissions = set()
    for grant in listed:
        grantee = grant.child("Grantee")
        if grantee is None or grantee.text("ID") != OWNER_ID:
            raise errors.AccessControlListNotSupported
        permissions.add(grant.required_text("Permission"))
    if "FULL_CONTROL" not in permissions:
        raise errors.AccessControlListNotSupported


_OWNERS_LIST = document(
    "AccessControlPolicy",
    owner_xml(),
    element(
        "AccessControlList",
        element(
            "Grant",
            f'<Grantee xmlns:xsi="{NAMESPACES["xsi"]}" xsi:type="CanonicalUser">',
            text("ID", OWNER_ID),
            text("DisplayName", OWNER_NAME),
            "</Grantee>",
            text("Permission", "FULL_CONTROL"),
        ),
    ),
)
