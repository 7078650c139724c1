"""A circuit breaker: keeps new work from a node that fails again and again, for a growing time. No I/O.

    closed     work goes there
    open       none does until the hold is over; each new opening soon after the last holds twice as long
    half-open  one trial now and then; its success closes, a failure opens

`Link` tells it what happens. It refuses nothing itself: who chooses nodes asks, and may use an open one when
nothing better is left.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """Times in seconds. Each failure adds 1 to a score, each success takes `score_decay` of it: with these
    figures four failures in a row open the breaker, or a quarter of all calls. Openings and losses further
    apart than `memory_s` have nothing to do with each other."""

    score_max: float = 3.0
    score_decay: float = 0.9
    hold_s_min: float = 0.5
    hold_s_max: float = 60.0
    memory_s: float = 60.0
    trial_s: float = 0.1


class Breaker:
    """The state of one node (or of one side of it) as this process sees it.

    `closed` may be read at no cost; when it is False `admits` decides. `strained` says that a success would
    change something, so that callers on a hot path need not report each.
    """

    __slots__ = (
        *("_clock", "_hold_s", "_lost_s", "_opened_s", "_score", "_settings"),
        *("_trial_s", "_until_s", "closed", "strained"),
    )

    def __init__(
        self, settings: BreakerSettings | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.closed = True
        self.strained = False
        self._settings = settings or BreakerSettings()
        self._clock = clock
        self._score = 0.0
        self._hold_s = 0.0  # how long the last opening holds
        self._opened_s = -_NEVER
        self._until_s = 0.0  # open until then, half-open afterwards
        self._trial_s = -_NEVER  # when the last trial was let through
        self._lost_s = -_NEVER

    # -- what happened ---------------------------------------------------------------------------------------

    def failed(self) -> None:
        """A call failed in a way that says something about the node."""
        self._score += 1.0
        self.strained = True
        if self._score >= self._settings.score_max or self._is_half_open():
            self.trip()

    def succeeded(self) -> None:
        """A call was done. Closes the breaker when it is half-open; one from before the opening does not."""
        self._score *= self._settings.score_decay
        if self._is_half_open():
            self.closed = True
        self.strained = not self.closed or self._score > 0.1

    def lost(self) -> None:
        """The connection was lost. Once is forgiven: a node may restart. Again within the memory opens."""
        now = self._clock()
        if now - self._lost_s < self._settings.memory_s:
            self.trip()
        self._lost_s = now

    def connected(self) -> None:
        """It is there again: what is left to hold begins now, for until now it could prove nothing."""
        if not self.closed and self._until_s < _NEVER:
            self._until_s = self._clock() + self._hold_s

    def trip(self) -> None:
        """Open, for twice as long as the last time if that was lately. One that is open stays as it is."""
        now = self._clock()
        if not self.closed and now < self._until_s:
            return
        settings = self._settings
        lately = now - max(self._opened_s, self._until_s) < settings.memory_s
        doubled = min(self._hold_s * 2, settings.hold_s_max) if lately else 0.0
        self._hold_s = max(doubled, settings.hold_s_min)
        self._open(now, now + self._hold_s)

    def block(self) -> None:
        """Open until `reset`: the node has said what is wrong, and will say when it is over."""
        self._open(self._clock(), _NEVER)

    def reset(self) -> None:
        """Close: the node says that it is well."""
        self.closed = True
        self.strained = False
        self._score = 0.0
        self._until_s = min(self._until_s, self._clock())

    # -- what follows ----------------------------------------------------------------------------------------

    @property
    def blocked(self) -> bool:
        """Open by `block`: not even a trial makes sense."""
        return not self.closed and self._until_s == _NEVER

    def admits(self) -> bool:
        """Whether work may go there now. Half-open, True takes the trial: ask only to follow the answer."""
        if self.closed:
            return True
        now = self._clock()
        if now < self._until_s or now - self._trial_s < self._settings.trial_s:
            return False
        self._trial_s = now
        return True

    def _is_half_open(self) -> bool:
        return not self.closed and self._clock() >= self._until_s

    def _open(self, now: float, until_s: float) -> None:
        self.closed = False
        self.strained = True
        self._score = 0.0
        self._opened_s = now
        self._until_s = until_s
        self._trial_s = -_NEVER
