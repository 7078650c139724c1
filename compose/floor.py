"""The floor of benchmarks: an empty Starlette application behind the same server as the S3 fronts."""

from __future__ import annotations

import socket

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from compose.http_server import serve_http
from compose.process import OnReady, run_until_stopped
from compose.settings import Settings


async def _empty(_request: Request) -> Response:
    return Response(b"")


def run_floor_process(settings: Settings, *, listener: socket.socket, supervisor_fd: int | None) -> None:
    """Answers any GET with an empty 200 until it is told to stop."""

    async def work(on_ready: OnReady) -> None:
        await serve_http(
            Starlette(routes=[Route("/{path:path}", _empty)]),
            listener,
            keep_alive_s=settings.keep_alive_s,
            stop_wait_s=settings.stop_wait_s,
            on_ready=on_ready,
        )

    run_until_stopped(work, supervisor_fd=supervisor_fd, stop_wait_s=settings.stop_wait_s, own_signals=True)
