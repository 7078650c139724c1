"""The circuit breaker under a clock that only the test moves."""

import random

import pytest

from cluster.breaker import Breaker, BreakerSettings

SETTINGS = BreakerSettings()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(SETTINGS, clock)


def is_closed(breaker: Breaker) -> bool:
    return breaker.closed


def held_s(breaker: Breaker, clock: Clock) -> float:
    """How long it takes until work is admitted again; the clock stands there afterwards."""
    started = clock.now
    while not breaker.admits():
        clock.now += 0.05
    return clock.now - started


def test_single_failures_among_successes_change_nothing(breaker: Breaker) -> None:
    for _ in range(100):
        breaker.failed()
        assert breaker.strained
        for _ in range(30):
            breaker.succeeded()
        assert is_closed(breaker)
        assert not breaker.strained


def test_failures_in_a_row_open_it_and_one_good_trial_closes_it(breaker: Breaker, clock: Clock) -> None:
    for _ in range(3):
        breaker.failed()
    assert not is_closed(breaker)
    breaker.succeeded()
    assert not breaker.closed, "the reply to a call from before says nothing"
    assert held_s(breaker, clock) == pytest.approx(SETTINGS.hold_s_min, abs=0.06)
    assert not breaker.admits(), "one trial at a time"
    breaker.succeeded()
    assert is_closed(breaker)
    assert breaker.admits()
    assert breaker.admits()


@pytest.mark.parametrize(("share", "opens"), [(0.05, False), (0.5, True)])
def test_it_goes_by_the_share_of_errors(breaker: Breaker, share: float, opens: bool) -> None:
    chance = random.Random(7)
    for _ in range(300):
        if chance.random() < share:
            breaker.failed()
        elif breaker.strained:
            breaker.succeeded()
    assert breaker.closed != opens


def test_a_trial_whose_outcome_nobody_learned_is_followed_by_another(breaker: Breaker, clock: Clock) -> None:
    """Red when `admits` waited for an answer that may never come: the node was out for ever."""
    breaker.trip()
    held_s(breaker, clock)
    assert not breaker.admits()
    clock.now += SETTINGS.trial_s
    assert breaker.admits()


def test_a_bad_trial_doubles_the_hold_up_to_its_limit(breaker: Breaker, clock: Clock) -> None:
    breaker.trip()
    holds = []
    for _ in range(9):
        holds.append(held_s(breaker, clock))
        breaker.failed()
    assert holds == pytest.approx([0.5, 1, 2, 4, 8, 16, 32, 60, 60], abs=0.2)


def test_one_lost_connection_is_forgiven(breaker: Breaker, clock: Clock) -> None:
    """A node that restarts, for an upgrade say, is used as soon as it is back."""
    for _ in range(3):
        breaker.lost()
        breaker.connected()
        assert is_closed(breaker)
        clock.now += SETTINGS.memory_s + 1


def test_a_flapping_node_is_held_out_longer_and_longer(breaker: Breaker, clock: Clock) -> None:
    """It comes, does some work, dies. Red when `trip` always took the shortest hold."""
    holds = []
    for _ in range(8):
        breaker.lost()
        clock.now += 3
        breaker.connected()
        holds.append(held_s(breaker, clock))
        breaker.succeeded()
        assert is_closed(breaker)
        clock.now += 1
    assert holds == pytest.approx([0, 0.5, 1, 2, 4, 8, 16, 32], abs=0.2)


def test_a_node_that_dies_within_its_hold_begins_it_again(breaker: Breaker, clock: Clock) -> None:
    """Red when the hold was counted from the loss: a node that needs a minute to start had served it."""
    breaker.lost()
    breaker.connected()
    for _ in range(50):
        breaker.lost()
        clock.now += 5
        breaker.connected()
        assert not breaker.admits()
        clock.now += SETTINGS.hold_s_min * 0.9
        assert not breaker.admits()
    clock.now += SETTINGS.hold_s_min * 0.2
    assert breaker.admits()


def test_old_troubles_are_forgotten(breaker: Breaker, clock: Clock) -> None:
    for _ in range(6):
        breaker.trip()
        held_s(breaker, clock)
    breaker.succeeded()
    clock.now += SETTINGS.memory_s + 1
    breaker.trip()
    assert held_s(breaker, clock) == pytest.approx(SETTINGS.hold_s_min, abs=0.06)


def test_a_blocked_one_waits_for_the_nodes_own_word(breaker: Breaker, clock: Clock) -> None:
    """A full disk: trying is pointless. Red when `connected` gave a blocked breaker an end."""
    breaker.block()
    assert breaker.blocked
    breaker.lost()
    clock.now += 10
    breaker.lost()
    breaker.connected()
    clock.now += 1e6
    breaker.succeeded()
    assert not breaker.admits()
    breaker.reset()
    assert is_closed(breaker)
    assert breaker.admits()
    breaker.trip()
    assert held_s(breaker, clock) == pytest.approx(SETTINGS.hold_s_min, abs=0.06)
