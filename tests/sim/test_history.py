"""The oracle itself: what a read may find, and what it may not."""

from tests.sim.history import Outcome, Register


def test_p4_an_acknowledged_write_covers_what_was_before() -> None:
    """Red when a stale read passes."""
    register = Register()
    first = register.begin(1, 0.0)
    register.end(first, Outcome.DONE, 1.0)
    second = register.begin(2, 2.0)
    register.end(second, Outcome.DONE, 3.0)
    assert register.allowed(1.1, 1.5) == {1}
    assert register.allowed(1.1, 2.5) == {1, 2}
    assert register.allowed(4.0, 5.0) == {2}


def test_p4_concurrent_writes_may_end_in_either_order() -> None:
    """Red when the oracle invents an order of its own."""
    register = Register()
    first, second = register.begin(1, 0.0), register.begin(2, 0.5)
    register.end(second, Outcome.DONE, 1.0)
    register.end(first, Outcome.DONE, 2.0)
    assert register.allowed(3.0, 4.0) == {1, 2}


def test_p1_an_unknown_write_may_show_at_any_time_and_a_refused_one_never() -> None:
    """Red when a refused write may be read, or an unanswered one may not."""
    register = Register()
    unknown, refused = register.begin(1, 0.0), register.begin(2, 0.0)
    register.end(unknown, Outcome.UNKNOWN, 1.0)
    register.end(refused, Outcome.REFUSED, 1.0)
    assert register.allowed(5.0, 6.0) == {None, 1}
