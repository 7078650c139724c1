"""botocore's requests answered by an application in the same process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar
from urllib.parse import urlsplit

from botocore.awsrequest import AWSResponse
from starlette.types import ASGIApp

T = TypeVar("T")

WAIT_S = 30.0


class Loop:
    """An event loop in a thread: boto3 waits for what runs in it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(WAIT_S)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _Raw:
    """The body of an answer, as botocore reads it."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self._unread = content

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.content

    def read(self, _: int | None = None) -> bytes:
        unread, self._unread = self._unread, b""
        return unread

    def close(self) -> None:
        """Nothing is open."""


async def ask(app: ASGIApp, request: Any) -> AWSResponse:
    """One prepared request of botocore's, answered without a network."""
    parts = urlsplit(request.url)
    body = request.body.read() if hasattr(request.body, "read") else request.body or b""
    headers = {name.lower(): value for name, value in request.headers.items()}
    headers.setdefault("host", parts.netloc)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "path": parts.path,
        "raw_path": parts.path.encode(),
        "root_path": "",
        "query_string": parts.query.encode(),
        "headers": [(name.encode(), _bytes(value)) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 9000),
        "scheme": "http",
    }
    arriving = [{"type": "http.request", "body": bytes(body), "more_body": False}]
    told: list[Any] = []

    async def receive() -> dict[str, Any]:
        return arriving.pop() if arriving else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        told.append(message)

    await app(scope, receive, send)
    start, *rest = told
    answered = {name.decode(): value.decode() for name, value in start["headers"]}
    content = b"".join(bytes(message.get("body", b"")) for message in rest)
    return AWSResponse(request.url, start["status"], answered, _Raw(content))


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1")
