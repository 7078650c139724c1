"""Every S3 request walks through here once: parse, route, authenticate, authorise, handle, render.

Nothing else in the project checks a signature or decides whether an operation is allowed (STYLE 5).
"""

from __future__ import annotations

import base64
import itertools
import logging
import os

from catalog.errors import CatalogError
from cluster.errors import ClusterError
from s3front import errors
from s3front.auth import sigv4
from s3front.auth.sigv4 import Identity
from s3front.body import ClientGone
from s3front.errors import S3Error
from s3front.limits import DRAIN_BYTES_MAX
from s3front.operations import Operation, find_operation
from s3front.request import Receive, Request, Scope, Send
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
        self._secrets = {self._settings.root_access_key: self._settings.root_secret_key}
        self._id_prefix = os.urandom(4).hex().upper()
        self._id_counter = itertools.count(1)
        self._host_id = base64.b64encode(os.urandom(24))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises nothing: faults are logged with the request id that the client sees."""
        request_id = f"{self._id_prefix}{next(self._id_counter):08X}"
        request: Request | None = None
        operation: Operation | None = None
        try:
            request = Request(scope, receive, request_id, self._settings.domains)
            operation = find_operation(request)
            request.identity = self._authenticate(request)
            authorise(request.identity, operation)
            response = await operation.handler(self._services, request)
        except S3Error as error:
            response = self._error_response(error, request, scope, request_id)
        except (CatalogError, ClusterError) as fault:
            assert request is not None
            assert operation is not None, "only handlers reach the catalog and the cluster"
            told = translated(fault, request, operation)
            response = self._error_response(told, request, scope, request_id)
        except ClientGone:
            return
        except Exception:
            log.exception("%s: unexpected failure", request_id)
            response = self._error_response(errors.InternalError(), request, scope, request_id)
        try:
            await self._send(response, scope["method"], request_id, send)
        except ConnectionError:
            log.debug("%s: the client left before the end of its answer", request_id)
        finally:
            if response.rest is not None:
                await response.rest.aclose()

    def _authenticate(self, request: Request) -> Identity:
        """The caller, proved by SigV4. Raises AccessDenied for anonymous requests and AWS's code for each flaw."""
        identity = sigv4.authenticate(
            method=request.method,
            raw_path=request.raw_path,
            raw_query=request.raw_query,
            headers=request.header_list,
            secret_of=self._secrets.get,
            now=self._services.utc_now(),
            region=self._settings.region,
        )
        if identity is None:
            raise errors.AccessDenied
        if "X-Amz-Algorithm" in request.query:
            request.adopt_signed_query()
        return identity

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

    async def _send(self, response: Response, method: str, request_id: str, send: Send) -> None:
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
            return
        *pieces, last = response.body or (b"",)
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        if response.rest is None:
            await send({"type": "http.response.body", "body": last})
            return
        await send({"type": "http.response.body", "body": last, "more_body": True})
        await self._send_rest(response.rest, request_id, send)

    async def _send_rest(self, rest: Rest, request_id: str, send: Send) -> None:
        """Send what is still to come; on a fault the connection is cut: the status line is gone already (P3)."""
        try:
            async for piece in rest:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        except (CatalogError, ClusterError) as fault:
            log.warning("%s: response cut off: %s", request_id, fault)
            return
        await send({"type": "http.response.body"})


def authorise(identity: Identity, operation: Operation) -> None:
    """Raise AccessDenied unless `identity` may perform `operation`.

    Only the root key exists so far, and root may do everything; sigv4 has proved that the caller holds it.
    """
    assert identity.access_key, f"{operation.name} reached authorisation without an identity"


def translated(fault: CatalogError | ClusterError, request: Request, operation: Operation) -> S3Error:
    """What the client is told of a fault that the log names."""
    told = to_s3_error(fault, request)
    if told.status >= 500:
        log.warning("%s %s %s: %s", request.request_id, operation.name, told.code, fault)
    return told


def has_long_body_left(request: Request) -> bool:
    """Whether the client may still send so much that closing is kinder than reading it."""
    if request.body_consumed:
        return False
    if "transfer-encoding" in request.headers or "expect" in request.headers:
        return True
    length = request.headers.get("content-length", "0")
    return not length.isdigit() or int(length) > DRAIN_BYTES_MAX
