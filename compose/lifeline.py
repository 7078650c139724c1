"""The socket pair between the supervisor and each of its children (S16, S27).

One byte each way of meaning: the child writes ``r`` when it can do its work and from then on ``.`` once a
second from its event loop, so that a loop that hangs is noticed; the supervisor never writes, and when
its end closes, however it died, the child ends too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading

READY = b"r"
BEAT = b"."
BEAT_EVERY_S = 1.0

_log = logging.getLogger("trivet.compose")


class Lifeline:
    """The child's end. `descriptor` is the inherited socket; None when nobody supervises this process."""

    def __init__(self, descriptor: int | None, stop_wait_s: float) -> None:
        self._socket: socket.socket | None = None
        self._stop_wait_s = stop_wait_s
        self._beating = False
        if descriptor is not None:
            self._socket = socket.socket(fileno=descriptor)
            # Whatever this process starts must not keep the supervisor believing that it lives.
            self._socket.set_inheritable(False)
            threading.Thread(target=self._watch, name="lifeline", daemon=True).start()

    def ready(self) -> None:
        """Tells the supervisor, and starts the heartbeat on the running loop. Later calls do nothing."""
        if self._socket is None or self._beating:
            return
        self._beating = True
        self._send(READY)
        self._beat(asyncio.get_running_loop())

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._send(BEAT)
        loop.call_later(BEAT_EVERY_S, self._beat, loop)

    def _send(self, byte: bytes) -> None:
        assert self._socket is not None
        # A supervisor that is stopped (Ctrl-Z) reads nothing: a full buffer is no reason to wait for it.
        # One that is gone is the watching thread's business.
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            self._socket.send(byte, socket.MSG_DONTWAIT)

    def _watch(self) -> None:
        """In a thread of its own, because it must work while the event loop hangs."""
        assert self._socket is not None
        with contextlib.suppress(ConnectionResetError):
            while self._socket.recv(1):
                pass
        _log.warning("the supervisor is gone: stopping")
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(self._stop_wait_s)
        _log.error("did not stop within %s s: giving up", self._stop_wait_s)
        logging.shutdown()
        os._exit(1)
