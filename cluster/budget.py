"""One budget of bytes for all bodies in flight (S10, P8): taken before memory is filled, served in order."""

import asyncio
import contextlib
from collections import deque

from cluster.errors import BudgetFull


class ByteBudget:
    """`total_bytes` to share among the requests of one process and one event loop.

    Whoever holds bytes must not wait here for more (two such waiters would wait for each other): it takes
    further bytes with `try_acquire` and lets some of its own go when that fails. `waiters_max` bounds the
    queue itself; beyond it the process is overloaded and says so.
    """

    __slots__ = ("_free", "_waiters", "_waiters_max", "total_bytes")

    def __init__(self, total_bytes: int, *, waiters_max: int = 10_000) -> None:
        self.total_bytes = total_bytes
        self._free = total_bytes
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._waiters_max = waiters_max

    @property
    def free_bytes(self) -> int:
        return self._free

    def try_acquire(self, n: int) -> bool:
        """Take `n` bytes now or not at all; never overtakes one who waits."""
        if n > self._free or self._waiters:
            return False
        self._free -= n
        return True

    async def acquire(self, n: int) -> None:
        """Take `n` bytes, waiting in line if need be. The caller holds none yet.

        Raises BudgetFull when the line is full, ValueError when `n` can never be had. Cancelled while it
        waits, it holds nothing.
        """
        if n <= self._free and not self._waiters:
            self._free -= n
            return
        if n > self.total_bytes:
            raise ValueError(f"{n} bytes asked of a budget of {self.total_bytes}")
        if len(self._waiters) >= self._waiters_max:
            raise BudgetFull(f"{self._waiters_max} requests wait for memory already")
        granted = asyncio.get_running_loop().create_future()
        entry = (n, granted)
        self._waiters.append(entry)
        try:
            await granted
        except asyncio.CancelledError:
            if granted.cancelled():
                with contextlib.suppress(ValueError):  # _grant may have dropped the entry already
                    self._waiters.remove(entry)
                self._grant()  # the one behind may need less than the one that left
            else:
                self.release(n)
            raise

    def release(self, n: int) -> None:
        """Give `n` bytes back; those who wait get them in their order."""
        self._free += n
        assert self._free <= self.total_bytes, "more bytes given back than taken"
        if self._waiters:
            self._grant()

    def _grant(self) -> None:
        waiters = self._waiters
        while waiters:
            n, granted = waiters[0]
            if granted.cancelled():
                waiters.popleft()
                continue
            if n > self._free:
                return
            waiters.popleft()
            self._free -= n
            granted.set_result(None)
