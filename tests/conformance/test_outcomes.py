"""The table by area."""

from __future__ import annotations

from conformance.outcomes import Outcome, details, of_each_test, table


def test_the_worst_of_set_up_call_and_tear_down_counts() -> None:
    """A test that passed and could not clean up has failed."""
    told = [
        Outcome("a", "x", "passed"),
        Outcome("a", "x", "failed", "teardown: left something"),
        Outcome("b", "x", "skipped", "no need"),
        Outcome("c", "y", "failed", "first"),
        Outcome("c", "y", "failed", "second"),
    ]
    kinds = {each.test: (each.kind, each.reason) for each in of_each_test(told)}
    assert kinds == {
        "a": ("failed", "teardown: left something"),
        "b": ("skipped", "no need"),
        "c": ("failed", "first"),
    }


def test_a_share_is_of_what_was_run() -> None:
    """Skipped tests were run and did not pass; deselected ones were not run."""
    told = [
        *(Outcome("a", "x", "passed"), Outcome("b", "x", "failed"), Outcome("c", "x", "skipped")),
        *(Outcome("d", "x", "deselected"), Outcome("e", "y", "deselected"), Outcome("f", "z", "passed")),
    ]
    rows = {line.split()[0]: line.split()[1:] for line in table(told)}
    assert rows["x"] == ["1", "1", "1", "1", "33.3%"]
    assert rows["y"] == ["0", "0", "0", "1", "-"]
    assert rows["all"] == ["2", "1", "1", "2", "50.0%"]


def test_details_are_of_one_kind_with_a_reason() -> None:
    told = [Outcome("b", "x", "failed", "why"), Outcome("a", "x", "failed"), Outcome("c", "x", "passed")]
    lines = [line.split() for line in details(told, "failed")]
    assert [(words[2], words[-1]) for words in lines] == [("a:", "given"), ("b:", "why")]
