"""How fast background work may go: a token bucket over an injected clock."""

import asyncio
from collections.abc import Callable


class Throttle:
    """`bytes_per_s` on average, 0 = no limit. What was not used is saved up for one second at most.

    Who takes more than is there goes into debt and waits until it is paid, so that a stripe larger than a
    second's share passes as well; the others wait behind it.
    """

    def __init__(self, bytes_per_s: int, monotonic: Callable[[], float]) -> None:
        self._bytes_per_s = bytes_per_s
        self._monotonic = monotonic
        self._tokens = float(bytes_per_s)
        self._as_of = monotonic()

    def spend(self, n: int) -> float:
        """Take `n` bytes; how many seconds the taker must wait before it uses them."""
        if not self._bytes_per_s:
            return 0.0
        now = self._monotonic()
        saved = self._tokens + (now - self._as_of) * self._bytes_per_s
        self._tokens = min(saved, float(self._bytes_per_s)) - n
        self._as_of = now
        return max(0.0, -self._tokens / self._bytes_per_s)

    async def take(self, n: int) -> None:
        """Returns when `n` more bytes may be worked on."""
        wait_s = self.spend(n)
        if wait_s:
            await asyncio.sleep(wait_s)
