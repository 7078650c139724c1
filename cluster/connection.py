"""One TCP connection to a node as its transport sees it: handshake first, then frames."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from cluster import wire
from cluster.handshake import ClientHandshake, HandshakeFailed, Peer


class Connection(asyncio.BufferedProtocol):
    """Serves one `Link` and is thrown away when it ends.

    `established` resolves to the proven peer or to what went wrong. From then on each batch of frames goes
    to `on_frames`; the end is told to `on_lost(connection, why)` once, in the callback that learns of it.
    """

    def __init__(
        self,
        handshake: ClientHandshake,
        on_frames: Callable[[list[wire.Frame]], None],
        on_lost: Callable[["Connection", str], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport
        self.established: asyncio.Future[Peer] = loop.create_future()
        self.lost: asyncio.Future[str] = loop.create_future()
        self._handshake = handshake
        self._on_frames = on_frames
        self._on_lost = on_lost
        self._decoder = wire.FrameDecoder(wire.HANDSHAKE_FRAME_BYTES)
        self._connected = False
        self._proven = False
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by name
        self._connected = True
        self.transport.write(self._handshake.start())

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._decoder.get_buffer(sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        try:
            frames = self._decoder.buffer_updated(nbytes)
            if self._proven:
                self._on_frames(frames)
            else:
                self._shake(frames)
        except (wire.FrameError, HandshakeFailed) as error:
            self.abort(error)

    def _shake(self, frames: list[wire.Frame]) -> None:
        for frame in frames:
            self.transport.write(self._handshake.receive(frame))
        peer = self._handshake.result
        if peer is not None:
            self._proven = True
            self._decoder.max_frame_bytes = wire.MAX_FRAME_BYTES
            if not self.established.done():
                self.established.set_result(peer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connected = False
        self.abort(exc or ConnectionResetError("connection closed by the node"))

    def abort(self, error: Exception | None = None) -> None:
        """Cut at once; what was not sent is dropped. The first reason given is the one that counts."""
        error = error or ConnectionAbortedError("closed")
        fail_quietly(self.established, error)
        if not self._ended:
            self._ended = True
            why = str(error) or type(error).__name__
            if not self.lost.done():  # it is cancelled with the task that awaits it
                self.lost.set_result(why)
            self._on_lost(self, why)
        if self._connected:
            self.transport.abort()


def fail_quietly(future: "asyncio.Future[Any]", error: Exception) -> None:
    """End a future in an error that may go unread: no 'exception was never retrieved' at its end."""
    if not future.done():
        future.set_exception(error)
        future.exception()
