"""What the rules of a lifecycle say of one version."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from catalog.bucket_model import BucketActions, LifecycleRule, Transition
from catalog.lifecycle_rules import (
    DAY_MS,
    STORAGE_CLASSES,
    VARIES_BY_CLASS,
    KeyRules,
    Outlook,
    Removal,
    Seen,
    days_after,
)

KEY = b"logs/2026"
NOON_MS = 20_000 * DAY_MS + DAY_MS // 2
LARGE = 1 << 20


def _rule(name: str = "r", **fields: Any) -> LifecycleRule:
    return structs.replace(LifecycleRule(name, enabled=True), **fields)


def _rules(*rules: LifecycleRule, minimum_size: str = "", day_ms: int = DAY_MS) -> KeyRules:
    found = KeyRules.of(BucketActions(lifecycle=rules, transition_minimum_size=minimum_size), KEY, day_ms)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("since_ms", "days", "at_ms"),
    [
        (NOON_MS, 1, 20_002 * DAY_MS),
        (20_000 * DAY_MS, 1, 20_001 * DAY_MS),
        (20_000 * DAY_MS + 1, 1, 20_002 * DAY_MS),
        (NOON_MS, 0, 20_001 * DAY_MS),
    ],
)
def test_days_end_at_the_midnight_that_follows(since_ms: int, days: int, at_ms: int) -> None:
    assert days_after(since_ms, days, DAY_MS) == at_ms


def test_shorter_days_end_to_the_millisecond() -> None:
    assert days_after(1234, 3, 1000) == 4234


@pytest.mark.parametrize(
    ("rule", "concerned"),
    [
        (_rule(), True),
        (_rule(prefix="logs/"), True),
        (_rule(prefix="log"), True),
        (_rule(prefix="Logs/"), False),
        (_rule(prefix="logs/2026/"), False),
        (structs.replace(_rule(), enabled=False), False),
    ],
)
def test_a_rule_is_in_force_below_its_prefix(rule: LifecycleRule, concerned: bool) -> None:
    assert (KeyRules.of(BucketActions(lifecycle=(rule,)), KEY, DAY_MS) is not None) == concerned


TAGS = {"a": "1", "b": "2"}


@pytest.mark.parametrize(
    ("conditions", "holds"),
    [
        ({"tags": (("a", "1"),)}, True),
        ({"tags": (("a", "1"), ("b", "2"))}, True),
        ({"tags": (("a", "1"), ("b", "3"))}, False),
        ({"tags": (("c", "1"),)}, False),
        ({"size_greater_than": 99}, True),
        ({"size_greater_than": 100}, False),
        ({"size_less_than": 101}, True),
        ({"size_less_than": 100}, False),
        ({"size_greater_than": 99, "size_less_than": 101, "tags": (("a", "1"),)}, True),
    ],
)
def test_tags_and_sizes_must_all_hold(conditions: dict[str, Any], holds: bool) -> None:
    rules = _rules(_rule(expiration_days=1, **conditions))
    assert (rules.removal(Seen(NOON_MS, size=100, tags=TAGS)) is not None) == holds
    assert rules.removal(Seen(NOON_MS, is_marker=True, alone=True)) is None


MARKER = Seen(NOON_MS, is_marker=True, alone=True)


@pytest.mark.parametrize(
    ("rule", "seen", "at_ms"),
    [
        (_rule(expiration_days=1), Seen(NOON_MS), 20_002 * DAY_MS),
        (_rule(expiration_date_ms=5 * DAY_MS), Seen(NOON_MS), 5 * DAY_MS),
        (_rule(expiration_days=1), Seen(NOON_MS, noncurrent_ms=NOON_MS), None),
        (_rule(noncurrent_days=1), Seen(NOON_MS), None),
        (_rule(noncurrent_days=1), Seen(0, noncurrent_ms=NOON_MS), 20_002 * DAY_MS),
        (_rule(noncurrent_days=1, newer_noncurrent=2), Seen(0, noncurrent_ms=0, newer_noncurrent=1), None),
        (_rule(noncurrent_days=1, newer_noncurrent=2), Seen(0, noncurrent_ms=0, newer_noncurrent=2), DAY_MS),
        (_rule(noncurrent_days=1), Seen(0, noncurrent_ms=0, is_marker=True), DAY_MS),
        (_rule(expired_delete_markers=True), MARKER, NOON_MS),
        (_rule(expired_delete_markers=False), MARKER, None),
        (_rule(expired_delete_markers=True), structs.replace(MARKER, alone=False), None),
        (_rule(expired_delete_markers=True), Seen(NOON_MS), None),
        (_rule(expiration_days=1), MARKER, 20_002 * DAY_MS),
        (_rule(expiration_days=1), structs.replace(MARKER, alone=False), None),
    ],
)
def test_what_expires_when(rule: LifecycleRule, seen: Seen, at_ms: int | None) -> None:
    removal = _rules(rule).removal(seen)
    assert (None if removal is None else removal.at_ms) == at_ms


def test_of_several_expirations_the_first_counts() -> None:
    rules = _rules(_rule("late", expiration_days=9), _rule("soon", expiration_days=3), _rule("last"))
    assert rules.removal(Seen(0)) == Removal(3 * DAY_MS, "soon")


def _to(storage_class: str, days: int, newer: int | None = None) -> Transition:
    return Transition(storage_class, days, newer_noncurrent=newer)


@pytest.mark.parametrize(
    ("now_days", "storage_class", "outlook"),
    [
        (0, "STANDARD", Outlook(next_ms=1 * DAY_MS)),
        (1, "STANDARD", Outlook(storage_class="REDUCED_REDUNDANCY", next_ms=2 * DAY_MS)),
        (1, "REDUCED_REDUNDANCY", Outlook(next_ms=2 * DAY_MS)),
        (2, "STANDARD", Outlook(storage_class="GLACIER", next_ms=4 * DAY_MS)),
        (3, "GLACIER", Outlook(next_ms=4 * DAY_MS)),
        (3, "DEEP_ARCHIVE", Outlook(next_ms=4 * DAY_MS)),
        (4, "STANDARD", Outlook(expired=True)),
    ],
)
def test_classes_go_to_the_coldest_that_is_due_and_never_back(
    now_days: int, storage_class: str, outlook: Outlook
) -> None:
    """Red when a transition to a class that the version has already was wanted again, for ever."""
    moves = (_to("GLACIER", 2), _to("REDUCED_REDUNDANCY", 1), _to("STANDARD_IA", 3))
    rules = _rules(_rule(transitions=moves, expiration_days=4))
    assert rules.outlook(Seen(0, size=LARGE, storage_class=storage_class), now_days * DAY_MS) == outlook


@pytest.mark.parametrize(
    ("storage_class", "size", "minimum_size", "conditions", "moves"),
    [
        ("GLACIER", 128 << 10, "", {}, True),
        ("GLACIER", (128 << 10) - 1, "", {}, False),
        ("GLACIER", 1, VARIES_BY_CLASS, {}, True),
        ("STANDARD_IA", 1, VARIES_BY_CLASS, {}, False),
        ("STANDARD_IA", 1, "", {"size_greater_than": 0}, True),
    ],
)
def test_small_objects_stay_unless_a_rule_names_a_size(
    storage_class: str, size: int, minimum_size: str, conditions: dict[str, Any], moves: bool
) -> None:
    rule = _rule(transitions=(_to(storage_class, 0),), **conditions)
    found = _rules(rule, minimum_size=minimum_size).outlook(Seen(0, size=size), DAY_MS)
    assert (found.storage_class is not None) == moves


def test_noncurrent_transitions_spare_the_newest() -> None:
    rules = _rules(_rule(noncurrent_transitions=(_to("GLACIER", 0, newer=1),)))
    spared, moved = (Seen(0, LARGE, noncurrent_ms=0, newer_noncurrent=number) for number in (0, 1))
    assert rules.outlook(spared, DAY_MS) == Outlook()
    assert rules.outlook(moved, DAY_MS) == Outlook(storage_class="GLACIER")


def test_uploads_are_no_concern_of_rules_with_conditions() -> None:
    assert _rules(_rule(abort_upload_days=2)).upload_ends(0) == 2 * DAY_MS
    assert _rules(_rule(abort_upload_days=2, size_less_than=5)).upload_ends(0) is None


# -- against a naive model -----------------------------------------------------------------------------------


def _mostly(usual: Any, *others: Any) -> st.SearchStrategy[Any]:
    """Rules that concern the version at all are the interesting ones."""
    return st.sampled_from([*[usual] * (2 + 2 * len(others)), *others])


_days = st.integers(0, 6)
_maybe_days = st.none() | st.integers(1, 6)
_transitions = st.lists(
    st.builds(
        Transition,
        st.sampled_from(STORAGE_CLASSES[1:]),
        _days,
        newer_noncurrent=st.none() | st.integers(1, 2),
    ),
    max_size=2,
).map(tuple)
_rule_strategy = st.builds(
    LifecycleRule,
    st.sampled_from("abc"),
    _mostly(True, False),
    prefix=_mostly("logs/", None, "", "other/"),
    tags=_mostly((), (("a", "1"),), (("a", "2"),)),
    size_greater_than=st.none() | st.just(LARGE - 1),
    expiration_days=_maybe_days,
    expired_delete_markers=st.none() | st.booleans(),
    transitions=_transitions.map(
        lambda each: tuple(structs.replace(move, newer_noncurrent=None) for move in each)
    ),
    noncurrent_days=_maybe_days,
    newer_noncurrent=st.none() | st.integers(1, 2),
    noncurrent_transitions=_transitions,
)
_seen_strategy = st.builds(
    Seen,
    modified_ms=st.just(0),
    size=_mostly(LARGE, 0),
    storage_class=_mostly(*STORAGE_CLASSES),
    tags=st.sampled_from([{}, {"a": "1"}]),
    noncurrent_ms=st.none() | st.just(0),
    newer_noncurrent=st.integers(0, 3),
    is_marker=_mostly(False, True),
    alone=st.booleans(),
)


def _naive(rules: tuple[LifecycleRule, ...], seen: Seen, day: int) -> tuple[bool, str | None]:
    """Expired or not, and to which class, on a day: rule by rule, as a reader of the manual would go about it."""
    expired, classes = False, {seen.storage_class}
    for rule in rules:
        if not rule.enabled or not KEY.decode().startswith(rule.prefix or ""):
            continue
        if seen.is_marker and (rule.tags or rule.size_greater_than is not None):
            continue
        if any((name, value) not in seen.tags.items() for name, value in rule.tags):
            continue
        if rule.size_greater_than is not None and seen.size <= rule.size_greater_than:
            continue
        if seen.noncurrent_ms is not None:
            spared = seen.newer_noncurrent < (rule.newer_noncurrent or 0)
            expired |= rule.noncurrent_days is not None and rule.noncurrent_days <= day and not spared
        elif not seen.is_marker or seen.alone:
            expired |= rule.expiration_days is not None and rule.expiration_days <= day
            expired |= seen.is_marker and bool(rule.expired_delete_markers)
        for move in rule.transitions if seen.noncurrent_ms is None else rule.noncurrent_transitions:
            spared = seen.noncurrent_ms is not None and seen.newer_noncurrent < (move.newer_noncurrent or 0)
            if not seen.is_marker and seen.size >= 128 << 10 and (move.days or 0) <= day and not spared:
                classes.add(move.storage_class)
    coldest = max(classes, key=STORAGE_CLASSES.index)
    return expired, None if expired or coldest == seen.storage_class else coldest


@settings(max_examples=200)
@given(st.lists(_rule_strategy, min_size=1, max_size=3).map(tuple), _seen_strategy)
def test_day_by_day_it_is_as_a_naive_model_says(rules: tuple[LifecycleRule, ...], seen: Seen) -> None:
    """And nothing changes before the time that is named as the next: a look then is early enough.

    Red when the next time left out an expiration behind a transition.
    """
    if seen.is_marker:
        seen = structs.replace(seen, tags={}, size=0)
    of_key = KeyRules.of(BucketActions(lifecycle=rules), KEY, DAY_MS)
    for day in range(8):
        expected = _naive(rules, seen, day)
        if of_key is None:
            assert expected == (False, None)
            continue
        found = of_key.outlook(seen, day * DAY_MS)
        assert (found.expired, found.storage_class) == expected
        if not found.expired:
            moved = structs.replace(seen, storage_class=found.storage_class or seen.storage_class)
            until = 8 if found.next_ms is None else found.next_ms // DAY_MS
            for later in range(day, min(until, 8)):
                assert _naive(rules, moved, later) == (False, None)
