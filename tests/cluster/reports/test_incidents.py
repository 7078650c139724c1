"""Failures and their times, from events as the steward writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalog import nodes, work
from catalog.engine import Catalog
from catalog.model import Event
from catalog.transaction import Transaction
from cluster.reports.incidents import (
    REDUNDANCY,
    Incident,
    incidents,
    read_events,
    summarise_incidents,
)
from tests.catalog.fresh import fresh_catalog

NAMES = {1: "node-1", 2: "node-2", 3: "node-3", 4: "node-2"}  # 4 took the place of 2
Told = tuple[str, str | None, float, float | None, str]


def told(*happened: tuple[float, str, int | None], whole: bool = True) -> list[Told]:
    """Kind, node, beginning and end in seconds, and outcome, of what these events (second, kind, node) tell."""
    events = [
        Event(number, int(second * 1000), kind, node, "")
        for number, (second, kind, node) in enumerate(happened)
    ]
    return [
        (each.kind, each.node, each.began_ms / 1000, each.ended_ms and each.ended_ms / 1000, each.outcome)
        for each in read_events(events, NAMES, whole=whole)
    ]


def test_a_node_that_comes_back_before_anything_was_written() -> None:
    """Nothing has to be repaired: all is whole when it is back. Red when such an incident never ended."""
    assert told((1, "node-suspect", 2), (3, "node-down", 2), (9, "node-up", 2)) == [
        ("node-down", "node-2", 1, 9, "recovered"),
        (REDUNDANCY, "node-2", 1, 9, "recovered"),
    ]


def test_a_moment_of_silence_is_told_apart() -> None:
    assert told((1, "node-suspect", 2), (2, "node-up", 2))[0] == ("node-suspect", "node-2", 1, 2, "recovered")


def test_what_was_written_meanwhile_is_repaired_afterwards() -> None:
    """Red when the incident of redundancy ended with the node's return, and when the repair that came half a minute
    later counted as another one."""
    for later in (10, 45):
        assert told(
            (1, "node-suspect", 2),
            (2, "repair-started", None),
            (3, "node-down", 2),
            (9, "node-up", 2),
            (later, "repair-started", None),
            (later + 3, "redundancy-restored", None),
        ) == [
            ("node-down", "node-2", 1, 9, "recovered"),
            (REDUNDANCY, "node-2", 1, later + 3, "recovered"),
        ]


def test_repair_long_after_is_another_incident() -> None:
    assert told(
        (1, "node-suspect", 2),
        (2, "node-up", 2),
        (300, "repair-started", None),
        (301, "redundancy-restored", None),
    ) == [
        ("node-suspect", "node-2", 1, 2, "recovered"),
        (REDUNDANCY, "node-2", 1, 2, "recovered"),
        (REDUNDANCY, None, 300, 301, "recovered"),
    ]


def test_a_node_that_is_replaced_is_back_when_the_other_is_up() -> None:
    """Red when the events of the two numbers were two nodes."""
    assert told(
        (1, "node-suspect", 2),
        (3, "node-down", 2),
        (5, "node-replaced", 2),
        (7, "node-up", 4),
        (7.5, "repair-started", None),
        (20, "redundancy-restored", None),
    ) == [
        ("node-lost", "node-2", 1, 7, "recovered"),
        (REDUNDANCY, "node-2", 1, 20, "recovered"),
    ]


def test_one_that_is_removed_is_not_expected_back() -> None:
    assert told(
        (1, "node-down", 2),
        (5, "node-removed", 2),
        (6, "repair-started", None),
        (20, "redundancy-restored", None),
        (30, "node-removed", 3),  # drained before
    ) == [
        ("node-down", "node-2", 1, 5, "removed"),
        (REDUNDANCY, "node-2", 1, 20, "recovered"),
    ]


def test_rebuilt_elsewhere_while_the_node_is_still_away() -> None:
    assert told((1, "node-down", 2), (300, "repair-started", None), (400, "redundancy-restored", None)) == [
        ("node-down", "node-2", 1, None, "ongoing"),
        (REDUNDANCY, "node-2", 1, 400, "recovered"),
    ]


def test_two_at_once_are_two_failures_and_one_loss_of_redundancy() -> None:
    assert told((1, "node-down", 2), (2, "node-down", 3), (5, "node-up", 2), (8, "node-up", 3)) == [
        ("node-down", "node-2", 1, 5, "recovered"),
        (REDUNDANCY, "node-2", 1, 8, "recovered"),
        ("node-down", "node-3", 2, 8, "recovered"),
    ]


@pytest.mark.parametrize(("whole", "end"), [(True, 9), (False, None)])
def test_what_goes_on_now(whole: bool, end: float | None) -> None:
    """The node is back, and something is not whole yet, or all is: then what had to be repaired was deleted. Red when
    it was over in both cases, and when the latter went on for ever."""
    for repaired in ((), ((2, "repair-started", None),)):
        found = told((1, "node-down", 2), *repaired, (9, "node-up", 2), whole=whole)
        assert found[1][3] == end


def test_a_repair_that_takes_long_ends_when_it_ends() -> None:
    """Red when it was over with the node's return because nothing was heard of it for a while."""
    assert told(
        (1, "node-down", 2),
        (2, "repair-started", None),
        (9, "node-up", 2),
        (500, "redundancy-restored", None),
    ) == [
        ("node-down", "node-2", 1, 9, "recovered"),
        (REDUNDANCY, "node-2", 1, 500, "recovered"),
    ]


def test_events_that_began_before_memory() -> None:
    assert told((1, "node-up", 2), (2, "redundancy-restored", None), (3, "node-removed", 9)) == []


def test_summary() -> None:
    found = [
        Incident("node-down", "a", 1000, 5000, "recovered"),
        Incident("node-lost", "b", 1000, 7000, "recovered"),
        Incident("node-down", "c", 1000, 2000, "removed"),
        Incident("node-suspect", "d", 1000, None, "ongoing"),
        Incident(REDUNDANCY, "a", 1000, 11_000, "recovered"),
        Incident(REDUNDANCY, "b", 1000, 31_000, "recovered"),
        Incident(REDUNDANCY, "d", 1000, None, "ongoing"),
    ]
    summary = summarise_incidents(found)
    assert (summary.failures, summary.recovered, summary.ongoing, summary.restored) == (4, 2, 1, 2)
    assert (summary.mttr_mean_s, summary.mttr_max_s) == (20, 30)
    assert (summary.absent_mean_s, summary.absent_max_s) == (5, 6)
    assert summary.by_kind == {"node-down": 2, "node-lost": 1, "node-suspect": 1, REDUNDANCY: 3}
    empty = summarise_incidents([])
    assert (empty.failures, empty.mttr_mean_s, empty.absent_max_s) == (0, None, None)


async def test_a_range_of_time_of_a_real_catalog(tmp_path: Path) -> None:
    """What overlaps it; a removed node goes by the name it had. Red at both borders."""
    now = [0]
    path = tmp_path / "catalog.sqlite"
    fresh_catalog(path, cluster_id=bytes(16))
    catalog = Catalog.open(path, clock=lambda: now[0])
    await catalog.start()

    def register(tx: Transaction) -> None:
        for name in ("node-1", "node-2#2", "node-2"):
            nodes.register(tx, node_id=name.encode(), name=name, region="r", zone="z", host="", port=0)

    await catalog.write(register)
    for at_ms, kind, node in ((1000, "node-down", 2), (2000, "node-replaced", 2), (3000, "node-up", 3)):
        now[0] = at_ms
        await catalog.write(lambda tx, kind=kind, node=node: work.record_event(tx, kind, node=node))  # type: ignore[misc]

    async def within(from_ms: int, to_ms: int) -> list[tuple[str, str | None]]:
        found = await catalog.read(lambda reader: incidents(reader, from_ms, to_ms))
        return [(each.kind, each.node) for each in found]

    both = [("node-lost", "node-2"), (REDUNDANCY, "node-2")]
    for from_ms, to_ms, expected in (
        (0, 1000, []),
        (0, 1001, both),
        (1500, 1600, both),
        (3000, 9000, both),
        (3001, 9000, []),
    ):
        assert await within(from_ms, to_ms) == expected, (from_ms, to_ms)
    await catalog.close()
