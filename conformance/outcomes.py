"""What the tests of a conformance run came to, and the table of it by area. Standard library only: it is also loaded
by the pytest of a foreign virtual environment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["passed", "failed", "skipped", "deselected"]
KINDS: tuple[Kind, ...] = ("passed", "failed", "skipped", "deselected")
_RANK: dict[Kind, int] = {"passed": 0, "deselected": 1, "skipped": 2, "failed": 3}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one test."""

    test: str
    area: str
    kind: Kind
    reason: str = ""
    """Why it was skipped or deselected; the last line of what it failed with."""
    seconds: float = 0.0


def of_each_test(told: Iterable[Outcome]) -> list[Outcome]:
    """Set-up, call and tear-down tell of a test one by one: its outcome is the worst of them, the first of equals."""
    worst: dict[str, Outcome] = {}
    for outcome in told:
        known = worst.get(outcome.test)
        if known is None or _RANK[outcome.kind] > _RANK[known.kind]:
            worst[outcome.test] = outcome
    return list(worst.values())


def table(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """Lines: an area each, and all of them together. Deselected tests do not count in the share."""
    counts: dict[str, dict[Kind, int]] = {}
    for outcome in outcomes:
        row = counts.setdefault(outcome.area, dict.fromkeys(KINDS, 0))
        row[outcome.kind] += 1
    yield f"{'area':16}" + "".join(f"{kind:>12}" for kind in KINDS) + f"{'of all run':>12}"
    total = {kind: sum(row[kind] for row in counts.values()) for kind in KINDS}
    for area, row in [*sorted(counts.items()), ("all", total)]:
        run = row["passed"] + row["failed"] + row["skipped"]
        share = f"{row['passed'] / run:.1%}" if run else "-"
        yield f"{area:16}" + "".join(f"{row[kind]:>12,}" for kind in KINDS) + f"{share:>12}"


def details(outcomes: Iterable[Outcome], kind: Kind) -> Iterator[str]:
    """A line for each test of that kind, by area."""
    wanted = sorted((each for each in outcomes if each.kind == kind), key=lambda each: (each.area, each.test))
    for outcome in wanted:
        yield f"{kind}  {outcome.area:14}  {outcome.test}: {outcome.reason or 'no reason given'}"
