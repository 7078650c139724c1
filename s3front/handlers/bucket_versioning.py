"""GetBucketVersioning and PutBucketVersioning."""

from __future__ import annotations

from s3front.errors import NotImplementedS3
from s3front.request import Request
from s3front.response import Response
from s3front.services import FrontServices


async def get_bucket_versioning(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketVersioning.html"""
    raise NotImplementedS3


async def put_bucket_versioning(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketVersioning.html"""
    raise NotImplementedS3
