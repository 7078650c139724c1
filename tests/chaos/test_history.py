"""The checker itself: it must accept what a register can show and refuse what it can't."""

from __future__ import annotations

import random

import pytest

from tests.chaos.history import DELETE, GET, NEVER, PUT, History, Operation, explain


def op(kind: str, value: str | None, start: float, end: float) -> Operation:
    return Operation("k", kind, value, start, end)


@pytest.mark.parametrize(
    "operations",
    [
        pytest.param([op(GET, None, 0, 1), op(PUT, "a", 2, 3), op(GET, "a", 4, 5)], id="one after another"),
        pytest.param(
            [op(PUT, "a", 0, 9), op(GET, None, 1, 2), op(GET, "a", 3, 4)], id="effect within the call"
        ),
        pytest.param([op(PUT, "a", 0, 9), op(PUT, "b", 0, 9), op(GET, "b", 10, 11)], id="either may win"),
        pytest.param(
            [op(PUT, "a", 0, NEVER), op(GET, None, 1, 2), op(GET, "a", 50, 51)], id="unanswered, late"
        ),
        pytest.param(
            [op(PUT, "a", 0, 1), op(PUT, "b", 2, NEVER), op(GET, "a", 3, 4)], id="unanswered, never"
        ),
        pytest.param(
            [op(PUT, "a", 0, 1), op(DELETE, None, 2, NEVER), op(GET, None, 9, 10)], id="unanswered delete"
        ),
        pytest.param([op(PUT, "a", 0, 1), op(DELETE, None, 2, 3), op(GET, None, 4, 5)], id="deleted"),
        pytest.param([op(GET, "a", 0, 10), op(PUT, "a", 5, 6)], id="a read that waits for the write"),
    ],
)
def test_explains_what_a_register_can_show(operations: list[Operation]) -> None:
    assert explain(operations) is None


@pytest.mark.parametrize(
    "operations",
    [
        pytest.param([op(PUT, "a", 0, 1), op(GET, None, 2, 3)], id="lost"),
        pytest.param([op(PUT, "a", 0, 1), op(PUT, "b", 2, 3), op(GET, "a", 4, 5)], id="stale"),
        pytest.param([op(PUT, "a", 0, 9), op(GET, "a", 1, 2), op(GET, None, 3, 4)], id="gone again"),
        pytest.param(
            [op(PUT, "a", 0, 1), op(DELETE, None, 2, 3), op(GET, "a", 4, 5)], id="back from the dead"
        ),
        pytest.param([op(GET, "a", 0, 1), op(PUT, "a", 2, 3)], id="seen before it was written"),
        pytest.param([op(GET, "x", 0, 1)], id="out of nowhere"),
        pytest.param(
            [op(PUT, "a", 0, 9), op(PUT, "b", 0, 9), op(GET, "a", 10, 11), op(GET, "b", 12, 13)],
            id="turns back",
        ),
    ],
)
def test_refuses_what_a_register_cannot_show(operations: list[Operation]) -> None:
    assert explain(operations) is not None


def random_history(seed: int, *, operations: int, clients: int) -> list[Operation]:
    """What clients of a real register would have noted: each effect lies at a random time within its call."""
    order = random.Random(seed)
    moments = []
    for client in range(clients):
        now = 0.0
        for _ in range(operations // clients):
            start = now + order.random()
            end = start + order.random() * 3
            moments.append((order.uniform(start, end), client, start, end))
            now = end
    value: str | None = None
    found = []
    for number, (_, client, start, end) in enumerate(sorted(moments)):
        kind = order.choice((PUT, GET, GET, DELETE))
        if kind == PUT:
            value = str(number)
        elif kind == DELETE:
            value = None
        shown = value if kind != DELETE else None
        unanswered = kind != GET and order.random() < 0.1
        found.append(Operation("k", kind, shown, start, NEVER if unanswered else end, client))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_accepts_histories_of_a_real_register(seed: int) -> None:
    assert explain(random_history(seed, operations=200, clients=6)) is None


def test_finds_a_single_wrong_answer_in_a_long_history() -> None:
    """Of 10 histories with one answer changed to a value overwritten long ago, each is refused."""
    for seed in range(10):
        operations = random_history(seed, operations=120, clients=4)
        puts = [each for each in operations if each.kind == PUT and each.end != NEVER]
        reads = [each for each in operations if each.kind == GET and each.value is not None]
        old, late = puts[0], reads[-1]
        assert old.value != late.value
        wrong = Operation("k", GET, old.value, late.start, late.end, late.client)
        assert explain([wrong if each is late else each for each in operations]) is not None


def test_a_history_names_the_key_that_is_wrong() -> None:
    history = History()
    history.record(Operation("good", PUT, "a", 0, 1))
    history.record(Operation("bad", PUT, "a", 0, 1))
    history.record(Operation("bad", GET, None, 2, 3))
    assert len(history) == 3
    (line,) = history.violations()
    assert line.startswith("bad: ")
