"""uvicorn as every HTTP server of ours runs it: the fronts, and the floor that benchmarks compare them
with.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from typing import Any

import uvicorn

from s3front.http_protocol import S3HttpProtocol


class _TellingServer(uvicorn.Server):
    """Says when it accepts connections."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()


async def serve_http(
    app: Any, listener: socket.socket, *, keep_alive_s: int, stop_wait_s: int, on_ready: Callable[[], None]
) -> None:
    """Serves until SIGTERM or SIGINT; requests under way then have `stop_wait_s` to finish."""
    config = uvicorn.Config(
        app,
        # The caller runs the loop (uvloop); uvicorn need not look for one.
        loop="none",
        http=S3HttpProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        # A header from a client is never taken for its address, and reading it would cost each request.
        proxy_headers=False,
        timeout_keep_alive=keep_alive_s,
        timeout_graceful_shutdown=stop_wait_s,
    )
    # uvicorn raises the signal that ended it once more when it is done, for handlers that were there
    # before: ours lets the process go on to close its connections and leave with exit code 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    await _TellingServer(config, on_ready).serve(sockets=[listener])
