"""S21: what nothing names any more stays on the nodes for the grace period, for those who read it.

Grace is counted by wall clocks, so one that is wrong may cut it short: by just as much as the fastest clock was
ahead of the clock of the process that let go of the copy. That much is excused, and no more.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from tests.sim.clocks import WallClocks
from tests.sim.loop import PROCESS, SimLoop

Place = tuple[bytes, int]
"""A packed block key, and the node."""


class _Left(NamedTuple):
    since: float
    ahead_ms: int  # the clock by which its grace was begun


class GraceWatch:
    """Hears of what layouts name and stop naming, and of what is deleted. `cut_short`: blobs of which something
    went too early because a clock was wrong; reads of those may fail."""

    def __init__(self, loop: SimLoop, clocks: WallClocks, grace_ms: int) -> None:
        self._loop = loop
        self._clocks = clocks
        self._grace_ms = grace_ms
        self._left: dict[Place, _Left] = {}
        self.cut_short: set[bytes] = set()

    def named(self, places: Iterable[Place]) -> None:
        """A layout names these now."""
        for place in places:
            self._left.pop(place, None)

    def left(self, places: Iterable[Place]) -> None:
        """No layout names these any more, by a commit of the running process."""
        process = PROCESS.get()
        ahead_ms = 0 if process is None else self._clocks.ahead_ms(process.name)
        left = _Left(self._loop.now, ahead_ms)
        self._left.update(dict.fromkeys(places, left))

    def deleted(self, place: Place) -> str:
        """That copy is gone; what is wrong with that, or ""."""
        left = self._left.pop(place, None)
        if left is None:
            return ""
        age_ms = (self._loop.now - left.since) * 1000
        if age_ms >= self._grace_ms - 1 or place[0][:16] in self.cut_short:
            return ""  # of a blob that is gone already, anything that is left may go
        self.cut_short.add(place[0][:16])
        wrong_ms = self._clocks.most_ahead_ms(left.since) - left.ahead_ms
        if age_ms + wrong_ms >= self._grace_ms - 1:
            return ""
        return f"deleted {age_ms:.0f} ms after the last layout let go of it, clocks being {wrong_ms} ms apart"
