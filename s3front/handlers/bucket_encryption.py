"""The default encryption of a bucket."""

from __future__ import annotations

from s3front.errors import NotImplementedS3
from s3front.request import Request
from s3front.response import Response
from s3front.services import FrontServices


async def get_bucket_encryption(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketEncryption.html"""
    raise NotImplementedS3


async def put_bucket_encryption(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketEncryption.html"""
    raise NotImplementedS3


async def delete_bucket_encryption(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteBucketEncryption.html"""
    raise NotImplementedS3
