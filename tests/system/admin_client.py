"""A signed client of the admin API that holds each answer against the OpenAPI document of the store it asks."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from tests.system.conftest import Store, until

BASE = "/-/admin/v1"
DOCUMENT = "/-/admin/openapi.json"


class Heard(NamedTuple):
    """An answer."""

    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


def ask(
    store: Store,
    method: str,
    path: str,
    body: Any = None,
    *,
    key: tuple[str, str] | None = None,
    signed: bool = True,
) -> Heard:
    """One request over a connection of its own, so that each may meet another front."""
    data = b"" if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"} if data else {}
    request = AWSRequest(method=method, url=store.endpoint + path, data=data, headers=headers)
    if signed:
        S3SigV4Auth(Credentials(*(key or (store.access_key, store.secret_key))), "s3", "us-east-1").add_auth(
            request
        )
    parts = urlsplit(store.endpoint)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    try:
        connection.request(method, path, body=data or None, headers=dict(request.headers))
        answer = connection.getresponse()
        return Heard(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


@dataclass
class AdminClient:
    """`called`: the operationIds that were answered as they promise."""

    store: Store
    document: dict[str, Any] = field(default_factory=dict)
    called: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        answer = ask(self.store, "GET", DOCUMENT, signed=False)
        assert answer.status == 200, answer
        self.document = answer.body

    @property
    def operation_ids(self) -> set[str]:
        """All that the document has."""
        return {o["operationId"] for methods in self.document["paths"].values() for o in methods.values()}

    def call(self, method: str, path: str, body: Any = None, *, expected: int | None = None) -> Any:
        """The answer, from JSON; text where it is not JSON. Fails when it is not as the document says."""
        operation = self._operation(method, path)
        promised = [int(status) for status in operation["responses"] if status.startswith("2")]
        answer = ask(self.store, method, BASE + path, body)
        wanted = promised if expected is None else [expected]
        assert answer.status in wanted, f"{method} {path}: {answer.status} {answer.raw[:1000]!r}"
        told = self._checked(operation, answer)
        if expected is None or expected < 400:
            self.called.add(operation["operationId"])
        return told

    def _checked(self, operation: dict[str, Any], answer: Heard) -> Any:
        response = operation["responses"].get(str(answer.status))
        assert response is not None, f"{operation['operationId']}: {answer.status} is not promised"
        if "$ref" in response:
            response = self.document["components"]["responses"][response["$ref"].rpartition("/")[2]]
        if answer.status == 204:
            assert answer.raw == b""
            return None
        content_type = answer.headers["content-type"].partition(";")[0]
        schema = response["content"][content_type]["schema"]
        value = answer.body if content_type.endswith("json") else answer.raw.decode()
        Draft202012Validator({**schema, "components": self.document["components"]}).validate(value)
        return value

    def _operation(self, method: str, path: str) -> dict[str, Any]:
        asked = BASE + path.partition("?")[0]
        for template, methods in self.document["paths"].items():
            rest = "{key}" if template.endswith("/{key}") else ""
            pattern = re.sub(r"\\\{[a-z_]+\\\}", "[^/]+", re.escape(template.removesuffix(rest)))
            if re.fullmatch(pattern + (".+" if rest else ""), asked) and method.lower() in methods:
                found: dict[str, Any] = methods[method.lower()]
                return found
        raise AssertionError(f"the document has no {method} {path}")

    def wait_for_operation(self, number: int, state: str = "done", wait_s: float = 60.0) -> dict[str, Any]:
        """The operation, once it is in that state."""
        seen: dict[str, Any] = {}

        def ended() -> bool:
            seen.update(self.call("GET", f"/operations/{number}"))
            return bool(seen["state"] != "running")

        until(ended, f"operation {number} is over", wait_s)
        assert seen["state"] == state, seen
        return seen
