"""uvicorn as every HTTP server of ours runs it: the fronts, and the floor that benchmarks compare them
with.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable
from typing import Any

import uvicorn

from s3front.http_protocol import S3HttpProtocol, ServerState

log = logging.getLogger("trivet.compose")

_LOOK_S = 0.02
_CLOSING_S = 2
"""For what comes after the last answer: the catalog, the links."""


class _Server(uvicorn.Server):
    """Says when it accepts connections, and leaves so that no client notices."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self.server_state = ServerState()
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, answer what is under way and what clients still ask on connections that are there, each
        of which ends with its next answer; then cut what is left. What waits in the queue of a socket that others
        listen on too is theirs.
        """
        for server in self.servers:
            server.close()
        for listener in sockets or ():
            listener.close()
        assert isinstance(self.server_state, ServerState)
        self.server_state.draining = True
        for connection in list(self.server_state.connections):
            assert isinstance(connection, S3HttpProtocol)
            connection.drain()
        limit_s = self.config.timeout_graceful_shutdown
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._ended()
        if self.server_state.tasks:
            log.error("%d requests did not end within %s s: cut off", len(self.server_state.tasks), limit_s)
        for task in self.server_state.tasks:
            task.cancel()
        if not self.force_exit:
            await self.lifespan.shutdown()

    async def _ended(self) -> None:
        """A second signal ends the waiting."""
        while (self.server_state.connections or self.server_state.tasks) and not self.force_exit:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)  # as uvicorn does: it has no event of it


async def serve_http(
    app: Any, listener: socket.socket, *, keep_alive_s: int, stop_wait_s: int, on_ready: Callable[[], None]
) -> None:
    """Serves until SIGTERM or SIGINT; requests under way then have most of `stop_wait_s` to finish: whoever sent the
    signal may kill the process at its end.
    """
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
        timeout_graceful_shutdown=max(1, stop_wait_s - _CLOSING_S),
    )
    # uvicorn raises the signal that ended it once more when it is done, for handlers that were there
    # before: ours lets the process go on to close its connections and leave with exit code 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    await _Server(config, on_ready).serve(sockets=[listener])
