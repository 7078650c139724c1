"""One thread that makes one blocking call at a time for the event loop, and gets the interpreter when it needs it.

Measured: on a busy uvloop, a thread that wants the GIL back after a system call loses nearly every race for it,
because the loop releases and retakes it between callbacks and each release restarts the waiter's switch interval.
A writer thread doing all its SQL got 5 transactions/s beside a saturated loop (13,500/s beside an idle one);
`sys.setswitchinterval` does not cure it. So the thread makes exactly one call without the GIL, and at both ends
the loop waits for it, blocked, for the some 30 µs that a hand-over takes: 10,000-15,000/s beside the same loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable


class SideThread:
    """Owned by a loop; all methods are called on it."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._call: Callable[[], None] | None = None
        self._done: Callable[[Exception | None], None] | None = None
        self._error: Exception | None = None
        self._serial = 0
        self._go, self._entered, self._finished = (threading.Lock() for _ in range(3))
        for lock in (self._go, self._entered, self._finished):
            lock.acquire()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def start(self, call: Callable[[], None], done: Callable[[Exception | None], None]) -> None:
        """Make the call in the thread; `done` is called on the loop with the exception it raised, or None.
        Returns when the thread is about to make it."""
        assert self._done is None, "one call at a time"
        self._call, self._done = call, done
        self._serial += 1
        self._go.release()
        self._entered.acquire()

    def settle(self, wait_s: float) -> bool:
        """Let the thread finish, blocking the loop for at most that long; whether `done` was called. For
        calls that are known or likely to be over: an idle loop need not ask."""
        if self._done is None or not self._finished.acquire(timeout=wait_s):
            return False
        self._finish()
        return True

    def close(self) -> None:
        """End the thread; no call may be under way."""
        assert self._done is None
        self._call = None
        self._go.release()
        self._thread.join()

    def _finish(self) -> None:
        done, self._done = self._done, None
        error, self._error = self._error, None
        assert done is not None
        done(error)

    def _notice(self, serial: int) -> None:
        if serial == self._serial:
            self.settle(-1)

    def _run(self) -> None:
        while True:
            self._go.acquire()
            call, serial = self._call, self._serial
            if call is None:
                return
            self._entered.release()
            try:
                call()
            except Exception as error:  # noqa: BLE001 - handed to the loop, which owns the call
                self._error = error
            self._finished.release()
            try:
                self._loop.call_soon_threadsafe(self._notice, serial)
            except RuntimeError:
                return  # the loop was closed under us: nobody waits any more
