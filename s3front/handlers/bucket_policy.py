"""Policies of buckets, of which there are none yet: every access is decided by the role of its key."""

from __future__ import annotations

from s3front.errors import NoSuchBucketPolicy
from s3front.handlers.buckets import require_bucket
from s3front.request import Request
from s3front.response import Response, xml_response
from s3front.services import FrontServices
from s3front.wire.xml_writer import document, text


async def get_bucket_policy(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketPolicy.html"""
    bucket = await require_bucket(services, request)
    raise NoSuchBucketPolicy(BucketName=bucket.name)


async def delete_bucket_policy(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteBucketPolicy.html"""
    await require_bucket(services, request)
    return Response(204)


async def get_bucket_policy_status(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketPolicyStatus.html"""
    await require_bucket(services, request)
    return xml_response(document("PolicyStatus", text("IsPublic", False)))
