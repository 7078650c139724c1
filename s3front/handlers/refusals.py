"""Operations of S3 that are not done here. The table of operations says why; the client gets AWS's error."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from s3front import errors
from s3front.errors import S3Error
from s3front.handlers.buckets import require_bucket
from s3front.handlers.one_version import stored_version
from s3front.request import Request
from s3front.response import Response
from s3front.services import FrontServices

Handler = Callable[[FrontServices, Request], Awaitable[Response]]


def refuser(error: type[S3Error], message: str) -> Handler:
    """Raises the error, whatever the request says and whatever it names."""

    async def refuse(services: FrontServices, request: Request) -> Response:
        raise error(message)

    return refuse


async def restore_object(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_RestoreObject.html: of an object that is not archived."""
    bucket = await require_bucket(services, request)
    await stored_version(services, request, bucket)
    raise errors.InvalidObjectState("Restore is not allowed for the object's current storage class")
