"""How a process tells who watches it that it is ready and alive: the supervisor, or systemd.

To the supervisor a socket pair leads (S16, S27). One byte each way of meaning: the child writes ``r`` when it can
do its work and from then on ``.`` once a second from its event loop, so that a loop that hangs is noticed; the
supervisor never writes, and when its end closes, however it died, the child ends too.

A process that nobody supervises, and the supervisor itself, tell systemd the same in the words of sd_notify(3),
when it asks for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Mapping

READY = b"r"
BEAT = b"."
BEAT_EVERY_S = 1.0

_log = logging.getLogger("trivet.compose")


class ServiceManager:
    """systemd, by the variables that it sets; says nothing where they are not set, or name another process."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        name = environment.get("NOTIFY_SOCKET", "")
        # A name that begins with @ is in the abstract namespace.
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self._every_s = 0.0
        watched = environment.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
        period_us = environment.get("WATCHDOG_USEC", "")
        if self._address and watched and period_us.isdecimal():
            self._every_s = min(BEAT_EVERY_S, int(period_us) / 2_000_000)

    def ready(self) -> None:
        """Tells it, and starts what its watchdog waits for on the running loop. Call it once."""
        self._send("READY=1")
        if self._every_s > 0:
            self._beat(asyncio.get_running_loop())

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._send("WATCHDOG=1")
        loop.call_later(self._every_s, self._beat, loop)

    def _send(self, words: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            try:
                channel.sendto(words.encode(), socket.MSG_DONTWAIT, self._address)
            except OSError as error:
                # One that is gone or does not read is no reason to stop serving.
                _log.warning("systemd can't be told %s: %s", words, error.strerror)


class Lifeline:
    """The child's end. `descriptor` is the inherited socket; None when at most systemd supervises this process."""

    def __init__(self, descriptor: int | None, stop_wait_s: float) -> None:
        self._socket: socket.socket | None = None
        self._stop_wait_s = stop_wait_s
        self._beating = False
        self._service_manager = ServiceManager(os.environ)
        if descriptor is not None:
            self._socket = socket.socket(fileno=descriptor)
            # Whatever this process starts must not keep the supervisor believing that it lives.
            self._socket.set_inheritable(False)
            threading.Thread(target=self._watch, name="lifeline", daemon=True).start()

    def ready(self) -> None:
        """Tells the supervisor or systemd, and starts the heartbeat on the running loop. Later calls do nothing."""
        if self._beating:
            return
        self._beating = True
        if self._socket is None:
            self._service_manager.ready()
            return
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
