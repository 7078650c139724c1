"""Object lock: configuration of buckets, retention and legal hold of versions."""

from __future__ import annotations

from s3front.errors import NotImplementedS3
from s3front.request import Request
from s3front.response import Response
from s3front.services import FrontServices


async def get_object_lock_configuration(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectLockConfiguration.html"""
    raise NotImplementedS3


async def put_object_lock_configuration(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectLockConfiguration.html"""
    raise NotImplementedS3


async def get_object_retention(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectRetention.html"""
    raise NotImplementedS3


async def put_object_retention(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectRetention.html"""
    raise NotImplementedS3


async def get_object_legal_hold(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectLegalHold.html"""
    raise NotImplementedS3


async def put_object_legal_hold(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectLegalHold.html"""
    raise NotImplementedS3
