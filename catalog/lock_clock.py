"""The clock of object lock (S26): it never goes back, and no wall clock can push it on while the store runs.

The steward advances it by its own monotonic clock. What passed while no steward was in office nobody has measured:
the clock then follows the wall clock, but by `FOLLOW_MS_MAX` at most. Further it goes only when an operator says that
the wall clock is right; until then it runs on from where it stood, and so what is locked stays locked for longer.
"""

from __future__ import annotations

import sqlalchemy as sa
from msgspec import Struct

from catalog import schema, work
from catalog.statement import Statement, parameter
from catalog.transaction import Transaction

FOLLOW_MS_MAX = 7 * 86_400_000
"""How long a silence may be, by the wall clock, that is believed without asking."""

BEHIND_EVENT = "lock-clock-behind"
CONFIRMED_EVENT = "lock-clock-confirmed"

_meta = schema.meta
_ADVANCE = Statement(
    sa.update(_meta).values(clock_ms=parameter("n_to")).where(_meta.c.clock_ms < parameter("p_to")),
    "n_to",
    "p_to",
)


class LockClock(Struct, frozen=True):
    """Both clocks as of one moment, in milliseconds since 1970."""

    clock_ms: int
    wall_ms: int

    @property
    def behind_ms(self) -> int:
        """How much less the lock clock shows than the wall clock; negative when it shows more."""
        return self.wall_ms - self.clock_ms

    @property
    def needs_confirmation(self) -> bool:
        """Whether it is too far behind to follow by itself."""
        return self.behind_ms > FOLLOW_MS_MAX


def advance(tx: Transaction, to_ms: int) -> int:
    """Let the clock show `to_ms`, unless it shows more already; what it shows then. May be repeated when the outcome
    is not known."""
    if tx.execute(_ADVANCE, (to_ms, to_ms)) == 1:
        tx.meta_changed()
    return tx.meta.clock_ms


def follow(tx: Transaction) -> int:
    """After a silence: follow the wall clock as far as it is believed; what the clock shows then. What is left to the
    operator is an event."""
    seen = LockClock(tx.meta.clock_ms, tx.now_ms)
    if not seen.needs_confirmation:
        return advance(tx, seen.wall_ms)
    days = seen.behind_ms / 86_400_000
    work.record_event(
        tx, BEHIND_EVENT, detail=f"{days:.1f} days behind the wall clock: see trivet lock-clock show"
    )
    return seen.clock_ms


def confirm(tx: Transaction) -> LockClock:
    """An operator says that the wall clock is right: follow it, however far. Returns what the clocks showed before.
    A clock that is ahead stays so."""
    seen = LockClock(tx.meta.clock_ms, tx.now_ms)
    if seen.behind_ms > 0:
        advance(tx, seen.wall_ms)
        work.record_event(tx, CONFIRMED_EVENT, detail=f"forward by {seen.behind_ms / 86_400_000:.1f} days")
    return seen
