"""How much a stripe can still lose, against counting all ways of losing it."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.model import BlobRow, FaultReport, Run
from catalog.redundancy import spare


def _blob(k: int, m: int, nodes: tuple[int, ...], runs: tuple[Run, ...] = ()) -> BlobRow:
    return BlobRow(bytes(16), 10 << 20, k, m, 1 << 20, 1, 0, nodes, None, runs)


def _fault(stripe: int, shard: int, node: int) -> FaultReport:
    return FaultReport(stripe, shard, node, "missing")


def _by_counting(k: int, copies: set[tuple[int, int]]) -> int:
    """The greatest number of copies of which any may be lost; below 0: the shards that are short."""
    if len({shard for shard, _ in copies}) < k:
        return len({shard for shard, _ in copies}) - k
    for lost in range(1, len(copies) + 1):
        for gone in combinations(copies, lost):
            if len({shard for shard, _ in copies.difference(gone)}) < k:
                return lost - 1
    raise AssertionError("k shards are left of none")


def test_a_standard_layout_can_lose_m_less_what_is_bad() -> None:
    """Distinct shards count, of the worst stripe, and only where the layout has them."""
    four_two = _blob(4, 2, (1, 2, 3, 4, 5, 6))
    assert spare(four_two, []) == 2
    assert spare(four_two, [_fault(0, 1, 2), _fault(0, 1, 2)]) == 1
    assert spare(four_two, [_fault(0, 1, 2), _fault(0, 5, 6), _fault(1, 0, 1)]) == 0
    assert spare(four_two, [_fault(0, shard, shard + 1) for shard in range(4)]) == -2
    assert spare(four_two, [_fault(0, 1, 9), _fault(0, 2, 2)]) == 2, "moved away meanwhile"


def test_a_degraded_layout_counts_its_copies() -> None:
    """Both data shards on both nodes: any one copy may go. Each run by its own layout."""
    degraded = (1, 1, 0, 2, 2, 0)
    assert spare(_blob(2, 1, degraded), [_fault(0, 0, 9)]) == 1
    assert spare(_blob(2, 1, degraded), [_fault(0, 0, 1)]) == 0
    assert spare(_blob(2, 1, degraded), [_fault(0, 0, 1), _fault(0, 0, 2)]) == -1
    two_runs = _blob(2, 1, (1, 2, 3), (Run(5, degraded),))
    assert spare(two_runs, [_fault(4, 0, 2), _fault(5, 1, 1)]) == 0
    assert spare(two_runs, [_fault(4, 0, 2)]) == 1


@settings(max_examples=150)
@given(data=st.data())
def test_any_layout_and_faults_as_by_counting(data: st.DataObject) -> None:
    """Red when a shard with two copies counts like one with a single copy."""
    k, m = data.draw(st.sampled_from([(1, 1), (1, 2), (2, 1), (2, 2), (3, 2)]))
    width = k + m
    nodes = tuple(data.draw(st.lists(st.integers(0, 4), min_size=width, max_size=min(2 * width, 8))))
    copies = {(entry % width, node) for entry, node in enumerate(nodes) if node}
    bad = data.draw(st.sets(st.tuples(st.integers(0, width - 1), st.integers(1, 4)), min_size=1, max_size=6))
    found = spare(_blob(k, m, nodes), [_fault(3, *copy) for copy in bad])
    assert found == _by_counting(k, copies - bad)
