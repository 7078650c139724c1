"""A front without nodes, and a client that signs like botocore: real catalog, keys and application, no sockets."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from starlette.types import ASGIApp

from compose import credentials
from compose.admin_services import admin_services
from compose.data_dir import DataDir
from compose.front_process import front_services
from compose.settings import Settings
from s3front.admin.services import AdminServices
from s3front.app import create_app
from tests.catalog.fresh import fresh_catalog

ROOT_KEY = ("ROOTACCESSKEY0000001", "root-secret-of-the-tests-0001")
HOST = "127.0.0.1:9000"


@dataclass
class Heard:
    """An answer. `problem` is the last part of a problem document's type."""

    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)

    @property
    def problem(self) -> str:
        assert self.headers["content-type"] == "application/problem+json", self
        document = self.body
        assert document["status"] == self.status
        assert document["request_id"] == self.headers["x-request-id"]
        return str(document["type"]).removeprefix("urn:trivet:problem:")

    @property
    def fields(self) -> dict[str, str]:
        """What is wrong with which field."""
        assert self.problem == "invalid-input", self
        return {error["field"]: error["detail"] for error in self.body["errors"]}


@dataclass
class Client:
    """Asks an application without a network. `key`: access key and secret; None asks unsigned."""

    app: ASGIApp
    key: tuple[str, str] | None = ROOT_KEY

    def by(self, key: tuple[str, str] | None) -> Client:
        return replace(self, key=key)

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        changed: Mapping[str, str | None] | None = None,
        pieces: Sequence[bytes] | None = None,
        presigned: bool = False,
    ) -> Heard:
        """`path` is below /-/admin/v1 unless it begins with /-/. `changed` alters headers after they were signed,
        `pieces` sends another body than was signed."""
        data = raw if raw is not None else json.dumps(body).encode() if body is not None else b""
        request = AWSRequest(
            method=method,
            url=f"http://{HOST}{path if path.startswith('/-/') else '/-/admin/v1' + path}",
            data=data,
            headers={"content-type": "application/json", **(headers or {})} if data else dict(headers or {}),
        )
        if self.key is not None:
            sign = S3SigV4QueryAuth if presigned else S3SigV4Auth
            sign(Credentials(*self.key), "s3", "us-east-1").add_auth(request)
        sent = {name.lower(): str(value) for name, value in request.headers.items()} | {"host": HOST}
        arriving = [data] if pieces is None else list(pieces)
        if data or pieces:
            sent["content-length"] = str(sum(map(len, arriving)))
        for name, value in (changed or {}).items():
            sent.pop(name, None)
            if value is not None:
                sent[name] = value
        return await _asked(self.app, method, request.url, sent, arriving)


async def _asked(
    app: ASGIApp, method: str, url: str, headers: Mapping[str, str], pieces: list[bytes]
) -> Heard:
    parts = urlsplit(url)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": parts.path,
        "raw_path": parts.path.encode(),
        "root_path": "",
        "query_string": parts.query.encode(),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 9000),
        "scheme": "http",
    }
    waiting = list(pieces) or [b""]
    told: list[Any] = []

    async def receive() -> dict[str, Any]:
        if not waiting:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    async def send(message: Any) -> None:
        told.append(message)

    await app(scope, receive, send)
    start, *rest = told
    answered = {name.decode(): value.decode() for name, value in start["headers"]}
    return Heard(start["status"], answered, b"".join(message.get("body", b"") for message in rest))


@asynccontextmanager
async def small_front(folder: Path) -> AsyncIterator[AdminServices]:
    """The services of a front whose store has no nodes."""
    settings = Settings(data=folder / "data", catalog_copies=0)  # there are no nodes for its log
    place = DataDir(settings.data)
    place.run.mkdir(parents=True)
    credentials.settle_cluster_secret(place)
    fresh_catalog(place.catalog, cluster_id=hashlib.md5(b"small").digest())
    environment = {"TRIVET_ROOT_ACCESS_KEY": ROOT_KEY[0], "TRIVET_ROOT_SECRET_KEY": ROOT_KEY[1]}
    async with front_services(settings, environment) as front:
        yield admin_services(front, settings)


@asynccontextmanager
async def small_client(folder: Path) -> AsyncIterator[Client]:
    """Asks the whole application of a small front."""
    async with small_front(folder) as services, asyncio.timeout(60):
        yield Client(create_app(services))
