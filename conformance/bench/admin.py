"""Trivet's admin API as the bench uses it: recoveries, operations, redundancy. Signed with our own Signer."""

from __future__ import annotations

import http.client
from datetime import UTC, datetime
from typing import Any

import msgspec

from conformance.bench.plan import Endpoint
from conformance.bench.signing import Signer, request_target

BASE = "/-/admin/v1"
ANSWER_WAIT_S = 30.0


class AdminRefused(Exception):
    """The admin API did not do what it was asked for; with its own words."""


class AdminApi:
    """A connection for each call: calls are few, and a front may be started again between them."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def get(self, path: str) -> Any:
        """The answer to GET, from JSON. Raises AdminRefused."""
        return self._call("GET", path, b"")

    def post(self, path: str, body: object) -> Any:
        """As `get`; `body` goes as JSON."""
        return self._call("POST", path, msgspec.json.encode(body))

    def _call(self, method: str, path: str, body: bytes) -> Any:
        endpoint = self._endpoint
        signer = Signer(
            endpoint.access_key, endpoint.secret_key, endpoint.region, endpoint.authority, datetime.now(UTC)
        )
        headers = signer.headers(method, BASE + path, {}, body)
        if body:
            headers["content-type"] = "application/json"
        connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=ANSWER_WAIT_S)
        try:
            connection.request(method, request_target(BASE + path), body=body or None, headers=headers)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise AdminRefused(f"{method} {BASE}{path}: {error}") from error
        finally:
            connection.close()
        if answer.status >= 300:
            raise AdminRefused(
                f"{method} {BASE}{path} was answered {answer.status}: {content[:500].decode(errors='replace')}"
            )
        return msgspec.json.decode(content) if content else None
