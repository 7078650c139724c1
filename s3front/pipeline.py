"""Every S3 request walks through here once: parse, route, authenticate, authorise, handle, render.

Nothing else in the project checks a signature or decides whether an operation is allowed (STYLE 5).
"""

from __future__ import annotations

import base64
import itertools
import logging
import os

from catalog import buckets
from catalog.errors import CatalogError
from cluster.errors import ClusterError
from s3front import errors
from s3front.auth import roles
from s3front.auth.aws_chunked import decoded_length
from s3front.auth.keys import Caller
from s3front.body import ClientGone
from s3front.errors import S3Error
from s3front.limits import DRAIN_BYTES_MAX
from s3front.metrics.layout import CLIENT_LEFT
from s3front.metrics.requests import Tally
from s3front.operation import Operation
from s3front.operations import find_operation
from s3front.request import Receive, Request, Scope, Send
from s3front.request_id import current_request_id
from s3front.request_log import log_request
from s3front.response import XML_CONTENT_TYPE, Response, Rest
from s3front.services import FrontServices
from s3front.translate import to_s3_error

log = logging.getLogger("trivet.s3front")

SERVER_HEADER = (b"server", b"Trivet")


class Pipeline:
    """The ASGI application for everything that is S3."""

    def __init__(self, services: FrontServices) -> None:
        self._services = services
        self._settings = services.settings
        self._id_prefix = os.urandom(4).hex().upper()
        self._id_counter = itertools.count(1)
        self._host_id = base64.b64encode(os.urandom(24))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises nothing: faults are logged with the request id that the client sees."""
        request_id = f"{self._id_prefix}{next(self._id_counter):08X}"
        current_request_id.set(request_id)
        metrics, tracer = self._services.requests, self._services.tracer
        tally = metrics.begin()
        span = tracer.begin(scope["headers"]) if tracer is not None else None
        try:
            await self._answer(scope, receive, send, request_id, tally)
        finally:
            metrics.end(tally)
            if span is not None:
                span.end(tally.operation, tally.status, {"trivet.request_id": request_id})
            if self._settings.log_requests:
                log_request(scope, tally)

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, request_id: str, tally: Tally
    ) -> None:
        request: Request | None = None
        operation: Operation | None = None
        try:
            request = Request(scope, receive, request_id, self._settings.domains)
            operation = find_operation(request)
            tally.operation = operation.name
            caller = await self._authenticate(request)
            request.identity = caller.identity
            authorise(caller, operation)
            response = await operation.handler(self._services, request)
        except S3Error as error:
            response = self._error_response(error, request, scope, request_id)
        except (CatalogError, ClusterError) as fault:
            assert request is not None
            assert operation is not None, "who reaches the catalog or the cluster has its operation"
            told = translated(fault, request, operation)
            response = self._error_response(told, request, scope, request_id)
        except ClientGone:
            tally.status = CLIENT_LEFT
            return
        except Exception:
            log.exception("unexpected failure")
            response = self._error_response(errors.InternalError(), request, scope, request_id)
        if request is not None and request.body_consumed:
            tally.bytes_in = payload_bytes(request)
        try:
            if await self._send(response, scope["method"], request_id, send, tally):
                tally.status = response.status
        except ConnectionError:
            tally.status = CLIENT_LEFT
            log.debug("the client left before the end of its answer")
        finally:
            if response.rest is not None:
                await response.rest.aclose()

    async def _authenticate(self, request: Request) -> Caller:
        """The caller, proved by SigV4, with a key that is good now. Raises AccessDenied for anonymous requests, AWS's
        code for each flaw, CatalogErrors."""
        caller = await self._services.keys.authenticate(
            method=request.method,
            raw_path=request.raw_path,
            raw_query=request.raw_query,
            headers=request.header_list,
            now=self._services.utc_now(),
            region=self._settings.region,
        )
        if caller is None:
            raise await self._anonymous(request)
        if "X-Amz-Algorithm" in request.query:
            request.adopt_signed_query()
        return caller

    async def _anonymous(self, request: Request) -> S3Error:
        """What a request that nobody signed is told. That a bucket is not there is no secret on AWS."""
        name = request.bucket
        if name is None or (request.method == "PUT" and request.key is None):
            return errors.AccessDenied()
        if await buckets.get(self._services.catalog, name) is None:
            return errors.NoSuchBucket(BucketName=name)
        return errors.AccessDenied()

    def _error_response(
        self, error: S3Error, request: Request | None, scope: Scope, request_id: str
    ) -> Response:
        headers = list(error.headers)
        if request is None or has_long_body_left(request):
            headers.append((b"connection", b"close"))
        if error.status in (204, 304) or scope["method"] == "HEAD":
            return Response(error.status, headers)
        resource = scope["raw_path"].decode("latin-1")
        body = errors.render(error, resource=resource, request_id=request_id, host_id=self._host_id.decode())
        return Response(error.status, [XML_CONTENT_TYPE, *headers], (body,))

    async def _send(self, response: Response, method: str, request_id: str, send: Send, tally: Tally) -> bool:
        """Whether all of it could be sent. Raises ConnectionError once the client is gone."""
        headers = response.headers
        headers.append((b"x-amz-request-id", request_id.encode()))
        headers.append((b"x-amz-id-2", self._host_id))
        headers.append(SERVER_HEADER)
        if response.status not in (204, 304):
            length = response.content_length
            if length is None:
                length = sum([len(piece) for piece in response.body])
            headers.append((b"content-length", b"%d" % length))
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        if method == "HEAD":
            await send({"type": "http.response.body"})
            return True
        *pieces, last = response.body or (b"",)
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            tally.bytes_out += len(piece)
        rest = response.rest
        await send({"type": "http.response.body", "body": last, "more_body": rest is not None})
        tally.bytes_out += len(last)
        return rest is None or await self._send_rest(rest, send, tally)

    async def _send_rest(self, rest: Rest, send: Send, tally: Tally) -> bool:
        """Send what is still to come; on a fault the connection is cut: the status line is gone already (P3)."""
        try:
            async for piece in rest:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                tally.bytes_out += len(piece)
        except (CatalogError, ClusterError) as fault:
            log.warning("response cut off: %s", fault)
            return False
        await send({"type": "http.response.body"})
        return True


def authorise(caller: Caller, operation: Operation) -> None:
    """Raise AccessDenied unless `caller` may perform `operation`.

    The role of the key alone decides: whoever may do something may do it to every bucket of the store, all of which
    belong to its one account.
    """
    assert caller.identity.access_key, f"{operation.name} reached authorisation without an identity"
    if not roles.may(caller.role, operation.action):
        raise errors.AccessDenied


def translated(fault: CatalogError | ClusterError, request: Request, operation: Operation) -> S3Error:
    """What the client is told of a fault that the log names."""
    told = to_s3_error(fault, request)
    if told.status >= 500:
        log.warning("%s %s: %s", operation.name, told.code, fault)
    return told


def payload_bytes(request: Request) -> int:
    """Of a body that was read to its end: without the framing of signed chunks."""
    chunked = request.identity.payload.is_chunked
    return (decoded_length(request.headers) if chunked else request.content_length) or 0


def has_long_body_left(request: Request) -> bool:
    """Whether the client may still send so much that closing is kinder than reading it."""
    if request.body_consumed:
        return False
    if "transfer-encoding" in request.headers or "expect" in request.headers:
        return True
    length = request.headers.get("content-length", "0")
    return not length.isdigit() or int(length) > DRAIN_BYTES_MAX
