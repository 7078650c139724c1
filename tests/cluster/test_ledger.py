"""The ledger of an upload: a copy counts as durable when a sync of its own incarnation covers it (S1, S9)."""

import pytest

from catalog.model import Run
from cluster.ledger import Ledger
from cluster.wire import Appended


def ledger(stripes: int = 1) -> Ledger:
    """2+1 on the nodes 1, 2, 3; all stripes sent and settled, nothing acknowledged."""
    made = Ledger(2, 3)
    for stripe in range(stripes):
        made.sent(stripe, [(0, 1), (1, 2), (2, 3)])
        made.settled(stripe)
    return made


def acknowledge(
    to: Ledger, stripe: int, position: int, incarnations: tuple[int, int, int] = (7, 7, 7)
) -> None:
    for shard, incarnation in enumerate(incarnations):
        to.acknowledged(stripe, (shard, shard + 1), Appended(incarnation, position, 0), 100)


def test_s1_what_is_acknowledged_is_weak_until_synced_and_then_durable() -> None:
    one = ledger()
    assert one.weak({1, 2, 3}) == [0]
    acknowledge(one, 0, 50)
    assert one.weak({1, 2, 3}) == [], "a sync may still cover it"
    assert one.layout() == [Run(0, (0, 0, 0))]
    assert sorted(one.to_sync()) == [1, 2, 3]
    for node in (1, 2, 3):
        sync = one.sync_asked(node)
        assert (sync.incarnation, sync.position) == (7, 50)
        one.synced(node, 7, 50)
    assert one.to_sync() == []
    assert one.layout() == [Run(0, (1, 2, 3))]


def test_s1_a_sync_covers_up_to_its_position_only() -> None:
    two = ledger(2)
    acknowledge(two, 0, 50)
    acknowledge(two, 1, 90)
    for node in (1, 2, 3):
        two.synced(node, 7, 50)
    assert two.layout() == [Run(0, (1, 2, 3)), Run(1, (0, 0, 0))]
    assert sorted(two.to_sync()) == [1, 2, 3]


def test_s1_a_new_incarnation_takes_along_what_was_not_synced() -> None:
    """Red when an acknowledgement of another incarnation is just added."""
    two = ledger(2)
    acknowledge(two, 0, 50)
    acknowledge(two, 1, 60, (7, 8, 7))
    assert two.changed
    assert two.copies(0) == {(0, 1), (2, 3)}
    assert two.weak({1, 2, 3}) == [0]
    for node in (1, 2, 3):
        two.synced(node, 7, 1000)
        two.synced(node, 8, 1000)
    assert two.layout() == [Run(0, (1, 0, 3)), Run(1, (1, 2, 3))]


def test_s1_what_was_synced_before_a_restart_stays() -> None:
    two = ledger(2)
    acknowledge(two, 0, 50)
    for node in (1, 2, 3):
        two.synced(node, 7, 50)
    acknowledge(two, 1, 10, (7, 8, 7))
    assert not two.changed
    assert two.copies(0) == {(0, 1), (1, 2), (2, 3)}


def test_s1_a_late_sync_and_a_late_acknowledgement_of_an_ended_incarnation_count_for_nothing() -> None:
    """Red when `synced` does not compare incarnations, and when `acknowledged` goes back to an old one."""
    two = ledger(2)
    acknowledge(two, 0, 50)
    two.lost(2, 7)
    two.synced(2, 7, 50)
    two.acknowledged(1, (1, 2), Appended(7, 60, 0), 100)
    assert two.copies(0) == {(0, 1), (2, 3)}
    assert two.copies(1) == set()
    assert 2 not in two.to_sync()
    two.acknowledged(1, (1, 2), Appended(8, 5, 0), 100)
    two.lost(2, 7)
    assert two.copies(1) == {(1, 2)}, "the new one goes on"
    two.synced(2, 7, 1000)
    assert two.layout() == [Run(0, (0, 0, 0))], "nothing of it is durable by an old sync"


def test_s9_weak_are_the_stripes_that_can_not_lose_any_one_of_the_living() -> None:
    two = ledger(3)
    for stripe in range(3):
        acknowledge(two, stripe, 10 + stripe)
    assert two.weak({1, 2, 3}) == []
    assert two.weak({1, 2}) == [0, 1, 2]
    two.durable(1, (0, 2))
    assert two.weak({1, 2}) == [0, 1, 2]
    two.durable(1, (1, 1))
    assert two.weak({1, 2}) == [0, 2]
    assert two.weak({1}) == [0, 1, 2]
    two.bad(1, (0, 2))
    assert two.weak({1, 2}) == [0, 1, 2]


def test_runs_are_coalesced_and_what_was_sent_is_never_forgotten() -> None:
    many = ledger(5)
    for stripe in range(5):
        for shard in range(3):
            many.durable(stripe, (shard, shard + 1))
    for stripe in (2, 3):
        many.sent(stripe, [(0, 2)])
        many.durable(stripe, (0, 2))
    assert many.layout() == [Run(0, (1, 2, 3)), Run(2, (1, 2, 3, 2)), Run(4, (1, 2, 3))]
    many.bad(3, (0, 2))
    assert many.layout_sent()[1] == Run(2, (1, 2, 3, 2))
    assert many.holders() == {1, 2, 3}


def test_nodes_that_left_the_store_are_in_no_layout() -> None:
    """What was sent there is still to be given back. Red when a long upload names them: it can't be committed."""
    one = ledger(2)
    one.durable(0, (2, 4))
    for stripe in (0, 1):
        for copy in ((0, 1), (1, 2), (2, 3)):
            one.durable(stripe, copy)
    one.keep_only({1, 2, 4})
    assert one.layout() == [Run(0, (1, 2, 4)), Run(1, (1, 2, 0))]
    assert one.layout_sent() == [Run(0, (1, 2, 3))]


@pytest.mark.parametrize("bytes_min", [0, 250, 350])
def test_a_sync_is_due_by_bytes_since_the_last_was_asked_for(bytes_min: int) -> None:
    three = ledger(3)
    for stripe in range(3):
        acknowledge(three, stripe, stripe)
    assert sorted(three.to_sync(bytes_min)) == ([] if bytes_min > 300 else [1, 2, 3])
    three.sync_asked(1)
    assert (1 in three.to_sync(bytes_min)) == (bytes_min == 0)
