"""What the outcomes of calls say about a node: two circuit breakers, and its own words on its disk. No I/O."""

import time
from collections.abc import Callable
from typing import Final

from cluster import wire
from cluster.breaker import Breaker

_STATUS: Final = int(wire.Op.STATUS)
_APPENDS: Final = frozenset(map(int, (wire.Op.PUT_BLOCK, wire.Op.SYNC, wire.Op.APPEND_LOG)))
_READ_ONLY: Final = int(wire.Status.READ_ONLY)
_FAILED: Final = int(wire.Status.FAILED)
_BUSY: Final = int(wire.Status.BUSY)


class NodeTrust:
    """Of one node, as one process sees it.

    `breaker` is about all work: lost connections, time-outs, errors. `write_breaker` is about new blocks
    alone: a full or failing disk. `status`: what the node last said of itself, None before it did.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.breaker: Final = Breaker(clock=clock)
        self.write_breaker: Final = Breaker(clock=clock)
        self.status: wire.NodeStatus | None = None

    def succeeded(self, op: int) -> None:
        """To be called while one of the breakers is strained; else it changes nothing."""
        if op != _STATUS:  # a status says nothing about the disk
            self.breaker.succeeded()
            if op in _APPENDS:
                self.write_breaker.succeeded()

    def refused(self, op: int, status: int) -> None:
        """The node said no."""
        if status == _READ_ONLY:
            self.write_breaker.block()
        elif status == _FAILED and op in _APPENDS:
            self.write_breaker.trip()
        elif status in {_FAILED, _BUSY}:
            self.breaker.failed()

    def heed(self, status: wire.NodeStatus) -> None:
        """A full or failing node gets no new blocks until it says otherwise. While it is failing it is given
        a trial now and then: only a write that succeeds makes it well again."""
        self.status = status
        breaker = self.write_breaker
        if status.read_only:
            breaker.block()
        elif status.failing:
            if breaker.closed or breaker.blocked:
                breaker.reset()
                breaker.trip()
        elif not breaker.closed:
            breaker.reset()
