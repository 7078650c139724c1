"""Tags of objects and buckets."""

from __future__ import annotations

from s3front.errors import NotImplementedS3
from s3front.request import Request
from s3front.response import Response
from s3front.services import FrontServices


async def get_object_tagging(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectTagging.html"""
    raise NotImplementedS3


async def put_object_tagging(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectTagging.html"""
    raise NotImplementedS3


async def delete_object_tagging(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjectTagging.html"""
    raise NotImplementedS3


async def get_bucket_tagging(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketTagging.html"""
    raise NotImplementedS3


async def put_bucket_tagging(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketTagging.html"""
    raise NotImplementedS3


async def delete_bucket_tagging(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteBucketTagging.html"""
    raise NotImplementedS3
