"""What a stripe survives, against trying out every loss."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from cluster.placement import Copy
from cluster.reports.survival import NODES_MAX, Survival, least, losses_survived, survival

_LAYOUTS = st.frozensets(st.tuples(st.integers(0, 5), st.integers(1, 6)), max_size=12)


def tried_out(k: int, layout: frozenset[Copy]) -> int:
    """The greatest number of nodes that may go, whichever they are; -1 when it can't be read as it is."""

    def readable_without(gone: tuple[int, ...]) -> bool:
        return len({shard for shard, node in layout if node not in gone}) >= k

    nodes = sorted({node for _, node in layout})
    losses = -1
    for lost in range(len(nodes) + 1):
        if not all(readable_without(gone) for gone in combinations(nodes, lost)):
            break
        losses = lost
    return losses


@given(st.integers(1, 5), _LAYOUTS)
def test_losses_survived_is_what_trying_out_says(k: int, layout: frozenset[Copy]) -> None:
    """Red when two copies of one shard on different nodes counted as two shards."""
    expected = tried_out(k, layout)
    assert losses_survived(k, layout) == (expected if _is_plain(layout) else min(expected, NODES_MAX))


def _is_plain(layout: frozenset[Copy]) -> bool:
    return len({node for _, node in layout}) == len({shard for shard, _ in layout}) == len(layout)


def test_regions_are_lost_as_a_whole() -> None:
    """Red when a region's nodes were lost one at a time."""
    standard = frozenset({(0, 1), (1, 2), (2, 3)})
    spread, packed = {1: "a", 2: "b", 3: "c"}, {1: "a", 2: "a", 3: "c"}
    assert survival(2, [standard], spread, "verified") == Survival(True, 1, True, "verified")
    assert survival(2, [standard], packed, "verified") == Survival(True, 1, False, "verified")


def test_the_worst_stripe_counts() -> None:
    whole, short, lost = frozenset({(0, 1), (1, 2), (2, 3)}), frozenset({(0, 1), (1, 2)}), frozenset({(0, 1)})
    regions = {1: "a", 2: "b", 3: "c"}
    assert survival(2, [whole, short], regions, "layout") == Survival(True, 0, False, "layout")
    assert survival(2, [whole, short, lost], regions, "layout") == Survival(False, 0, False, "layout")
    assert least([survival(2, [whole], regions, "x"), survival(2, [short], regions, "x")]) == Survival(
        True, 0, False, "x"
    )
    assert least([]) is None
