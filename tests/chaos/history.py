"""Is what clients saw of one key what a single register could have shown them (linearizability)?

The search of Wing and Gong with Lowe's memory of configurations, as Porcupine does it: walk through the calls
and returns of a key in the order of time; whatever has been called may take effect next, as long as nothing
that has returned already is left behind; go back when stuck. A write without an answer may take effect at any
time after its call, or never.

G. Lowe, "Testing for linearizability" (2017).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

NEVER: Final = float("inf")
PUT: Final = "put"
DELETE: Final = "delete"
GET: Final = "get"


@dataclass(frozen=True, slots=True)
class Operation:
    """One request of one client. `value` is what was written or read; None is "no such key".

    Times in seconds on one clock; `end` is NEVER when no answer said how it ended.
    """

    key: str
    kind: str
    value: str | None
    start: float
    end: float
    client: int = 0


class History:
    """All operations of a run. `record` may be called from any thread (list.append is atomic)."""

    def __init__(self) -> None:
        self._operations: list[Operation] = []

    def record(self, operation: Operation) -> None:
        self._operations.append(operation)

    def __len__(self) -> int:
        return len(self._operations)

    def by_key(self) -> dict[str, list[Operation]]:
        """The operations of each key, in the order of their calls."""
        keys: dict[str, list[Operation]] = defaultdict(list)
        for operation in sorted(self._operations, key=lambda each: each.start):
            keys[operation.key].append(operation)
        return keys

    def violations(self) -> list[str]:
        """One line for each key that no register explains; empty is what we want."""
        return [
            f"{key}: {len(operations)} operations, stuck at {stuck}"
            for key, operations in self.by_key().items()
            if (stuck := explain(operations)) is not None
        ]


def explain(operations: Iterable[Operation]) -> Operation | None:
    """None when an order of the operations of one key explains all answers, the register starting empty;
    else the operation beyond which no order led."""
    calls = _relevant(operations)
    line = _Line(calls)
    value: str | None = None
    done = 0  # bit per operation
    seen: set[tuple[int, str | None]] = set()
    stack: list[tuple[int, str | None]] = []  # (operation, value before it)
    pending = sum(call.end != NEVER for call in calls)
    farthest = -1
    at = line.first
    while pending:
        number = line.operation[at]
        if line.is_call[at]:
            allowed, after = _apply(calls[number], value)
            if allowed and (done | 1 << number, after) not in seen:
                seen.add((done | 1 << number, after))
                stack.append((number, value))
                value, done = after, done | 1 << number
                pending -= calls[number].end != NEVER
                line.take_out(number)
                at = line.first
            else:
                at = line.following(at)
            continue
        farthest = max(farthest, number)  # it has returned, and nothing that was called before explains it
        if not stack:
            return calls[farthest]
        last, value = stack.pop()
        done &= ~(1 << last)
        pending += calls[last].end != NEVER
        line.put_back(last)
        at = line.following(line.call_at[last])
    return None


class _Line:
    """Calls and returns in the order of time, as a linked list from which an operation is taken out when it is
    given its place, and put back, last out first in, when that led nowhere."""

    def __init__(self, calls: list[Operation]) -> None:
        timed = [(call.start, 0, number) for number, call in enumerate(calls)]
        timed += [(call.end, 1, number) for number, call in enumerate(calls)]
        timed.sort()  # of equal times calls go first
        count = len(timed)
        self.operation = [number for _, _, number in timed]
        self.is_call = [kind == 0 for _, kind, _ in timed]
        self.call_at = [0] * len(calls)
        self._return_at = [0] * len(calls)
        for at, (_, kind, number) in enumerate(timed):
            (self._return_at if kind else self.call_at)[number] = at
        # One place more than there are events: the head, before the first and behind the last.
        self._next: list[int] = [*range(1, count + 1), 0]
        self._previous: list[int] = [count, *range(count)]
        self._head = count

    @property
    def first(self) -> int:
        return self._next[self._head]

    def following(self, at: int) -> int:
        return self._next[at]

    def take_out(self, number: int) -> None:
        for at in (self.call_at[number], self._return_at[number]):
            self._next[self._previous[at]] = self._next[at]
            self._previous[self._next[at]] = self._previous[at]

    def put_back(self, number: int) -> None:
        for at in (self._return_at[number], self.call_at[number]):
            self._next[self._previous[at]] = at
            self._previous[self._next[at]] = at


def _relevant(operations: Iterable[Operation]) -> list[Operation]:
    """Without what says nothing: reads without an answer, and unanswered writes that nobody ever read
    (they may as well never have happened)."""
    all_of_them = sorted(operations, key=lambda each: each.start)
    read = {each.value for each in all_of_them if each.kind == GET and each.end != NEVER}
    return [
        each
        for each in all_of_them
        if each.end != NEVER or (each.kind != GET and (each.kind == DELETE or each.value in read))
    ]


def _apply(operation: Operation, value: str | None) -> tuple[bool, str | None]:
    """Whether the register may answer so, and what it holds afterwards."""
    if operation.kind == GET:
        return operation.value == value, value
    return True, operation.value if operation.kind == PUT else None
