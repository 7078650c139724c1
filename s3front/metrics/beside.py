"""Counts what is not S3: health, metrics, the admin API."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from s3front.metrics.layout import ADMIN, CLIENT_LEFT, HEALTH
from s3front.metrics.requests import RequestMetrics

_HEALTH_PREFIX = b"/-/health"


async def counted(requests: RequestMetrics, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Have `app` answer the request below ``/-/`` and count it. Bytes of its body are not counted."""
    tally = requests.begin()
    tally.operation = HEALTH if scope["raw_path"].startswith(_HEALTH_PREFIX) else ADMIN
    status = tally.status

    async def sending(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        try:
            await send(message)
        except ConnectionError:
            tally.status = CLIENT_LEFT
            raise
        if message["type"] == "http.response.body":
            tally.bytes_out += len(message.get("body", b""))
            if not message.get("more_body", False):
                tally.status = status

    try:
        await app(scope, receive, sending)
    finally:
        requests.end(tally)
