"""ListObjectVersions. The catalog makes the page; here it becomes XML."""

from __future__ import annotations

from s3front.errors import NotImplementedS3
from s3front.request import Request
from s3front.response import Response
from s3front.services import FrontServices


async def list_object_versions(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html"""
    raise NotImplementedS3
