"""Placement: the same for everyone, even, spread over regions; degraded layouts survive any further loss."""

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.placement import (
    Copy,
    copies,
    degraded_layout,
    fresh_layout,
    is_standard,
    missing_copies,
    packed,
    place,
    retarget,
    survives_any_loss,
)


@dataclass(frozen=True)
class Spot:
    number: int
    region: str = "r"
    zone: str = "z"
    weight: float = 1.0

    @property
    def node_id(self) -> bytes:
        return self.number.to_bytes(16, "big")


def blobs(count: int) -> list[bytes]:
    source = random.Random(1)
    return [source.randbytes(16) for _ in range(count)]


@given(st.binary(min_size=16, max_size=16), st.integers(3, 9), st.randoms())
def test_the_order_in_which_nodes_are_offered_does_not_matter(
    blob_id: bytes, count: int, rng: random.Random
) -> None:
    nodes = [Spot(number, f"r{number % 3}", f"z{number % 2}") for number in range(count)]
    chosen = place(blob_id, nodes, 3)
    rng.shuffle(nodes)
    assert place(blob_id, nodes, 3) == chosen
    assert len(set(chosen)) == 3


def test_golden_placements_never_change() -> None:
    """What is stored stays valid whatever the hash, but another one would rebalance everything."""
    nodes = [Spot(1), Spot(2), Spot(3)]
    golden = [(3, 1, 2), (2, 3, 1), (1, 3, 2), (1, 3, 2)]
    assert [place(bytes([i]) * 16, nodes, 3) for i in range(4)] == golden


def test_each_node_gets_each_shard_equally_often() -> None:
    nodes = [Spot(1), Spot(2), Spot(3)]
    counts: Counter[tuple[int, int]] = Counter()
    for blob_id in blobs(6000):
        counts.update(enumerate(place(blob_id, nodes, 3)))
    assert len(counts) == 9
    assert all(abs(count - 2000) < 200 for count in counts.values()), counts


def test_nodes_share_in_proportion_to_their_weight() -> None:
    nodes = [Spot(1), Spot(2), Spot(3, weight=2.0)]
    counts = Counter(place(blob_id, nodes, 1)[0] for blob_id in blobs(8000))
    assert abs(counts[3] - 4000) < 300, counts
    assert abs(counts[1] - 2000) < 250, counts


def test_a_node_that_leaves_moves_only_its_own_share() -> None:
    nodes = [Spot(number) for number in range(6)]
    for blob_id in blobs(200):
        before = place(blob_id, nodes, 3)
        after = place(blob_id, [node for node in nodes if node.number != 5], 3)
        if 5 not in before:
            assert after == before
        else:
            assert set(before) - {5} <= set(after)


def test_shards_spread_over_regions_then_zones() -> None:
    nodes = [Spot(10 * r + 2 * z + n, f"r{r}", f"z{z}") for r in range(3) for z in range(2) for n in range(2)]
    by_number = {node.number: node for node in nodes}
    for blob_id in blobs(200):
        three = [by_number[number] for number in place(blob_id, nodes, 3)]
        assert len({node.region for node in three}) == 3
        six = [by_number[number] for number in place(blob_id, nodes, 6)]
        assert Counter(node.region for node in six) == {"r0": 2, "r1": 2, "r2": 2}
        assert len({(node.region, node.zone) for node in six}) == 6
        nine = place(blob_id, nodes, 9)
        assert len(set(nine)) == 9


def test_too_few_nodes() -> None:
    with pytest.raises(ValueError, match="3 shards"):
        place(bytes(16), [Spot(1), Spot(2)], 3)


@given(st.integers(1, 8), st.integers(1, 8), st.integers(2, 16))
def test_s9_a_degraded_layout_survives_the_loss_of_any_node(k: int, m: int, count: int) -> None:
    """Break caught: `copy in (0,)` for the few-nodes case left one data shard on one node only."""
    alive = [100 + number for number in range(count)]
    layout = degraded_layout(k, m, alive)
    assert len(set(layout)) == len(layout)
    assert {shard for shard, _ in layout} <= set(range(k + m))
    loads = Counter(node for _, node in layout)
    assert max(loads.values()) <= k
    for lost in alive:
        assert len({shard for shard, node in layout if node != lost}) >= k


def test_s9_the_two_survivors_of_three_hold_both_data_shards() -> None:
    assert degraded_layout(2, 1, [1, 3]) == ((0, 1), (0, 3), (1, 3), (1, 1))


def test_s9_one_node_is_not_enough() -> None:
    with pytest.raises(ValueError, match="two different"):
        degraded_layout(2, 1, [1])


# -- layouts -------------------------------------------------------------------------------------------------


layouts = st.integers(1, 6).flatmap(
    lambda k: st.tuples(
        st.just(k),
        st.integers(1, 4),
        st.frozensets(
            st.tuples(st.integers(0, k), st.integers(1, 9)), max_size=14
        ),  # m >= 1: k shards and one
        st.lists(st.integers(1, 9), min_size=2, max_size=9, unique=True),
    )
)


def still_there(k: int, layout: Iterable[Copy], alive: Iterable[int]) -> bool:
    """The definition, spelt out: remove each node alive in turn, and count."""
    copies_left = [(shard, node) for shard, node in layout if node in set(alive)]
    return all(len({shard for shard, node in copies_left if node != lost}) >= k for lost in set(alive))


@given(layouts)
def test_stored_layouts_are_the_same_copies_in_any_order(
    drawn: tuple[int, int, frozenset[Copy], list[int]],
) -> None:
    k, m, layout, _ = drawn
    width = k + m
    stored = packed(layout, width)
    assert set(copies(stored, width)) == layout
    assert packed(sorted(layout, reverse=True), width) == stored
    assert len(stored) == width or (len(stored) > width and stored[-1])
    assert len(copies(stored, width)) == len(layout)


def test_the_stored_form_of_a_degraded_layout() -> None:
    """Both forms are read; reads of first copies are shared by the nodes."""
    both = {(0, 7), (1, 7), (0, 8), (1, 8)}
    assert packed(both, 3) == (7, 8, 0, 8, 7)
    assert set(copies((7, 7, 0, 8, 8, 0), 3)) == both


def test_what_is_standard() -> None:
    assert is_standard((3, 1, 2), 3)
    assert not is_standard((3, 1, 0), 3)
    assert not is_standard((3, 1, 1), 3)
    assert not is_standard((3, 1), 3)
    assert not is_standard((3, 1, 2, 4), 3)


@given(layouts)
def test_s9_survival_is_what_the_definition_says(drawn: tuple[int, int, frozenset[Copy], list[int]]) -> None:
    """Red when copies on nodes that are not alive count."""
    k, _, layout, alive = drawn
    assert survives_any_loss(k, layout, alive) == still_there(k, layout, alive)
    assert not survives_any_loss(k, layout, [])


@given(layouts)
def test_s9_missing_copies_are_enough_and_none_when_nothing_is_missing(
    drawn: tuple[int, int, frozenset[Copy], list[int]],
) -> None:
    k, m, layout, alive = drawn
    added = missing_copies(k, m, layout, alive)
    assert survives_any_loss(k, [*layout, *added], alive)
    assert (not added) == survives_any_loss(k, layout, alive)
    assert not set(added) & layout
    for node in alive:
        before = {shard for shard, n in layout if n == node}
        after = before | {shard for shard, n in added if n == node}
        assert after == before or len(after) <= k
    for copy in added:
        less = [other for other in added if other != copy]
        if copy == added[-1]:
            assert not survives_any_loss(k, [*layout, *less], alive), "one too many"


def test_s9_missing_copies_go_to_empty_nodes_first_and_only_where_they_may() -> None:
    assert missing_copies(2, 1, [(0, 1), (1, 2)], [1, 2, 4]) == [(2, 4)]
    assert sorted(missing_copies(2, 1, [(0, 1), (1, 2)], [1, 2])) == [(0, 2), (1, 1)]
    assert sorted(missing_copies(2, 1, [(0, 1), (1, 2)], [1, 2, 4], [1, 2])) == [(0, 2), (1, 1)]
    with pytest.raises(ValueError, match="these nodes alone"):
        missing_copies(2, 1, [(0, 1), (1, 2)], [1, 2], [2])
    with pytest.raises(ValueError, match="two different"):
        missing_copies(2, 1, [(0, 1)], [1, 1])


@given(st.binary(min_size=16, max_size=16), st.integers(1, 5), st.integers(1, 4), st.integers(2, 12))
def test_s9_fresh_layouts_are_standard_or_survive_all_the_same(
    blob_id: bytes, k: int, m: int, count: int
) -> None:
    nodes = [Spot(number) for number in range(1, count + 1)]
    layout = fresh_layout(blob_id, nodes, k, m)
    assert survives_any_loss(k, layout, range(1, count + 1))
    assert is_standard(packed(layout, k + m), k + m) == (count >= k + m)


@given(layouts, st.binary(min_size=16, max_size=16))
def test_retarget_keeps_what_it_can(
    drawn: tuple[int, int, frozenset[Copy], list[int]], blob_id: bytes
) -> None:
    """Red when a node takes the first of its shards though another one has no other home."""
    k, m, layout, _ = drawn
    width = k + m
    nodes = [Spot(number) for number in range(1, 13)]
    stored = packed(layout, width)
    target = retarget(blob_id, stored, nodes, k, m)
    assert is_standard(target, width)
    assert set(target) == set(place(blob_id, nodes, width))
    assert retarget(blob_id, target, nodes, k, m) == target, "nothing moves twice"
    kept = set(enumerate(target)) & layout
    shards_of = {n: [s for s, node in layout if node == n] for n in target}
    if all(len(shards) <= 1 for shards in shards_of.values()):
        assert len(kept) == len({shards[0] for shards in shards_of.values() if shards})


def test_retarget_turns_a_degraded_layout_into_a_standard_one() -> None:
    nodes = [Spot(1), Spot(2), Spot(3)]
    target = retarget(bytes(16), (1, 2, 0, 2, 1), nodes, 2, 1)
    assert target[2] == 3
    with pytest.raises(ValueError, match="3 shards"):
        retarget(bytes(16), (1, 2, 3), nodes[:2], 2, 1)
