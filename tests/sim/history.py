"""What clients were told, and whether one order of events explains it: the oracle of each key.

Each key is a register. A write that was acknowledged happened between its call and its answer; one without an
answer may have happened at any time from its call on, or never; one that was refused never happened. A read is
right if the value can have been the current one at some moment of the read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

NEVER = float("inf")


class Outcome(Enum):
    """What its client knows of a write."""

    PENDING = auto()
    DONE = auto()
    REFUSED = auto()
    UNKNOWN = auto()


@dataclass(slots=True, eq=False)
class Write:
    """`value` names the content; None is a deletion."""

    value: int | None
    began: float
    ended: float = NEVER
    outcome: Outcome = Outcome.PENDING


@dataclass(slots=True)
class Register:
    """One key; it begins as missing."""

    writes: list[Write] = field(default_factory=lambda: [Write(None, -1.0, -1.0, Outcome.DONE)])

    def begin(self, value: int | None, now: float) -> Write:
        """A write is called."""
        write = Write(value, now)
        self.writes.append(write)
        return write

    def end(self, write: Write, outcome: Outcome, now: float) -> None:
        """Its answer, or that there will be none."""
        write.outcome = outcome
        if outcome is Outcome.DONE:
            write.ended = now
        elif outcome is Outcome.REFUSED:
            self.writes.remove(write)

    def allowed(self, began: float, ended: float) -> set[int | None]:
        """What a read within these times may find."""
        return {
            write.value for write in self.writes if write.began <= ended and not self._covered(write, began)
        }

    def _covered(self, write: Write, at: float) -> bool:
        """Whether another write came surely after `write` and was over before `at`."""
        return any(later.began > write.ended and later.ended < at for later in self.writes)
