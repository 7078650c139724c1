"""Placement: the same for everyone, even, spread over regions; degraded layouts survive any further loss."""

import random
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.placement import degraded_layout, place


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
