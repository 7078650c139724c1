"""The admin API below ``/-/admin``: one table of endpoints, and the walk of each request through its checks.

Signature first: who can't prove who they are learn nothing, not even which paths there are. Then path, method, body and
query, and only what fits its types reaches a handler.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Mapping
from typing import Any

import msgspec

from catalog.errors import CatalogError
from cluster.errors import ClusterError
from cluster.membership import MembershipRefused
from s3front.admin import buckets, cluster, keys, metrics, nodes, objects, operations, settings
from s3front.admin.access import check_payload, check_payload_kind, proved
from s3front.admin.endpoint import Answered, Call, Download, Endpoint
from s3front.admin.inputs import (
    BODY_BYTES_MAX,
    JSON_CONTENT_TYPE,
    body_of,
    path_values,
    query_of,
    refuse_body,
)
from s3front.admin.openapi import openapi_document
from s3front.admin.problem import PROBLEM_CONTENT_TYPE, Problem, conflict, unavailable
from s3front.admin.services import AdminServices
from s3front.body import ClientGone
from s3front.limits import DRAIN_BYTES_MAX
from s3front.request import Receive, Scope, Send, join_headers
from s3front.request_id import current_request_id

log = logging.getLogger("trivet.admin")

PREFIX = b"/-/admin/v1/"
DOCUMENT_PATH = b"/-/admin/openapi.json"

ENDPOINTS: tuple[Endpoint, ...] = tuple(
    endpoint
    for part in (cluster, nodes, operations, buckets, objects, keys, metrics, settings)
    for endpoint in part.ENDPOINTS
)


class AdminApi:
    """The ASGI application for everything below ``/-/admin``."""

    def __init__(self, services: AdminServices, endpoints: tuple[Endpoint, ...] = ENDPOINTS) -> None:
        self._services = services
        self._table = [(endpoint, endpoint.parts) for endpoint in endpoints]
        self._endpoints = endpoints
        self._document = b""
        self._id_prefix = os.urandom(4).hex().upper()
        self._id_counter = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises nothing: faults are logged with the request id that the client sees."""
        request = _Request(scope, receive, f"{self._id_prefix}{next(self._id_counter):08X}")
        current_request_id.set(request.id)
        try:
            if request.raw_path == DOCUMENT_PATH:
                answer = self._openapi(request)
            else:
                answer = await self._answered(request)
        except Problem as problem:
            answer = _refusal(problem, request)
        except (CatalogError, ClusterError) as fault:
            log.warning("not possible now: %s", fault)
            answer = _refusal(unavailable(str(fault)), request)
        except ClientGone:
            return
        except Exception:
            log.exception("unexpected failure")
            answer = _refusal(
                Problem(500, "internal-error", "Something went wrong here; the log says what"), request
            )
        try:
            await answer.send(request, send)
        except ConnectionError:
            log.debug("the client left before the end of its answer")
        except Exception:
            # Its status line is gone: the connection ends here.
            log.exception("answer cut off")

    def _openapi(self, request: _Request) -> _Answer:
        if request.method != "GET":
            raise _wrong_method({"GET"})
        if not self._document:
            self._document = msgspec.json.encode(openapi_document(self._endpoints, self._services.release))
        return _Answer(200, self._document, JSON_CONTENT_TYPE)

    async def _answered(self, request: _Request) -> _Answer:
        identity = await proved(
            self._services.front,
            method=request.method,
            raw_path=request.raw_path,
            raw_query=request.raw_query,
            headers=request.header_list,
        )
        endpoint, path = self._found(request)
        check_payload_kind(identity, request.method, request.headers)
        data = await self._body(request)
        check_payload(identity, data)
        if endpoint.body is None:
            refuse_body(data)
        call = Call(
            identity.access_key,
            path,
            query_of(endpoint.query, request.raw_query),
            None if endpoint.body is None else body_of(endpoint.body, data, request.headers),
        )
        if endpoint.method != "GET":
            log.info("%s by %s: %s", endpoint.name, identity.access_key, dict(path))
        try:
            value = await endpoint.handler(self._services, call)
        except MembershipRefused as refusal:
            raise conflict("refused", "Not in the store's present state", str(refusal)) from None
        return _rendered(endpoint, value)

    def _found(self, request: _Request) -> tuple[Endpoint, dict[str, str]]:
        """Raises Problem: 404 for an unknown path, 405 for a method that the path does not have."""
        raw = request.raw_path.removeprefix(PREFIX).split(b"/")
        allowed = set()
        if request.raw_path.startswith(PREFIX):
            for endpoint, parts in self._table:
                values = path_values(parts, raw)
                if values is None:
                    continue
                if endpoint.method == request.method:
                    return endpoint, values
                allowed.add(endpoint.method)
        if allowed:
            raise _wrong_method(allowed)
        raise Problem(
            404,
            "no-such-endpoint",
            "There is no such endpoint",
            f"{DOCUMENT_PATH.decode()} names those there are",
        )

    async def _body(self, request: _Request) -> bytes:
        """The whole body, out of the front's budget while it arrives (P8). Raises Problem, ClientGone."""
        wanted = request.announced_bytes
        if wanted is None:
            return b""
        if wanted > BODY_BYTES_MAX:
            raise _too_large()
        budget = self._services.front.budget
        await budget.acquire(wanted)
        try:
            return await request.read()
        finally:
            budget.release(wanted)


def _too_large() -> Problem:
    return Problem(413, "body-too-large", "The body is too large", f"at most {BODY_BYTES_MAX} bytes are read")


def _wrong_method(allowed: set[str]) -> Problem:
    names = ", ".join(sorted(allowed))
    return Problem(
        405,
        "method-not-allowed",
        "The path does not have this method",
        f"it has {names}",
        headers={"allow": names},
    )


class _Request:
    """As it came, and its body as far as it was read."""

    def __init__(self, scope: Scope, receive: Receive, request_id: str) -> None:
        self.id = request_id
        self.method: str = scope["method"]
        self.raw_path: bytes = scope["raw_path"]
        self.raw_query: bytes = scope["query_string"]
        self.header_list: list[tuple[bytes, bytes]] = scope["headers"]
        self.headers = join_headers(self.header_list)
        self._receive = receive
        self._consumed = False

    @property
    def announced_bytes(self) -> int | None:
        """None: there is no body. One of unknown length counts as the longest that is read."""
        if "transfer-encoding" in self.headers:
            return BODY_BYTES_MAX
        length = self.headers.get("content-length")
        if length is None:
            return None
        if not (length.isascii() and length.isdigit()):
            raise Problem(400, "invalid-input", "The request can't be understood", "bad content-length")
        return int(length) if len(length) < 19 else 1 << 62

    async def read(self) -> bytes:
        """The whole body. Raises Problem above BODY_BYTES_MAX, ClientGone."""
        pieces: list[bytes] = []
        received = 0
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            pieces.append(bytes(message["body"]))
            received += len(pieces[-1])
            if received > BODY_BYTES_MAX:
                raise _too_large()
            more = message["more_body"]
        self._consumed = True
        return b"".join(pieces)

    @property
    def has_long_body_left(self) -> bool:
        """Whether closing the connection is kinder than reading what the client may still send."""
        if self._consumed:
            return False
        if "transfer-encoding" in self.headers or "expect" in self.headers:
            return True
        length = self.headers.get("content-length", "0")
        return not length.isdigit() or int(length[:19]) > DRAIN_BYTES_MAX


class _Answer:
    """Status, headers, and a body in memory or in pieces."""

    def __init__(
        self, status: int, body: bytes | Download, content_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self.status = status
        self._body = body
        self._headers = {"content-type": content_type, **(headers or {})}

    async def send(self, request: _Request, send: Send) -> None:
        """Raises ConnectionError when the client is gone. Closes the pieces."""
        body = self._body
        size = body.size if isinstance(body, Download) else len(body)
        headers = {
            "x-request-id": request.id,
            "server": "Trivet",
            "cache-control": "no-store",
            **self._headers,
        }
        if self.status == 204:
            del headers["content-type"]
        else:
            headers["content-length"] = str(size)
        if request.has_long_body_left:
            headers["connection"] = "close"
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        start = {"type": "http.response.start", "status": self.status, "headers": raw}
        if isinstance(body, bytes):
            await send(start)
            await send({"type": "http.response.body", "body": body})
            return
        try:
            await send(start)
            async for piece in body.pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body"})
        finally:
            await body.close()


def _rendered(endpoint: Endpoint, value: Any) -> _Answer:
    headers: Mapping[str, str] = {}
    if isinstance(value, Answered):
        value, headers = value.value, value.headers
    if isinstance(value, Download):
        return _Answer(endpoint.status, value, value.content_type, value.headers)
    if endpoint.status == 204:
        return _Answer(204, b"", "", headers)
    return _Answer(endpoint.status, msgspec.json.encode(value), JSON_CONTENT_TYPE, headers)


def _refusal(problem: Problem, request: _Request) -> _Answer:
    return _Answer(problem.status, problem.document(request.id), PROBLEM_CONTENT_TYPE, problem.headers)
