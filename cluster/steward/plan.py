"""What a blob's layout shall be, and what follows for each of its stripes. Pure functions."""

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from typing import NamedTuple

from catalog.model import BlobRow, Run
from cluster.errors import NotEnoughNodes
from cluster.placement import Copy, copies, is_standard, missing_copies, packed, retarget
from cluster.steward.standing import Standing
from codec.geometry import Geometry

_NOBODY: Set[int] = frozenset()


class Stretch(NamedTuple):
    """The stripes `first` … `stop` - 1: where their shards lie, and where they shall lie."""

    first: int
    stop: int
    old: tuple[Copy, ...]
    new: tuple[Copy, ...]

    @property
    def kept(self) -> list[Copy]:
        """Copies that stay, as long as they are good."""
        return [copy for copy in self.new if copy in self.old]


@dataclass(frozen=True, slots=True)
class RepairPlan:
    """How one blob gets from the layout in `blob` to `nodes` and `runs`."""

    blob: BlobRow
    stretches: tuple[Stretch, ...]
    nodes: tuple[int, ...]
    runs: tuple[Run, ...]

    @property
    def moves(self) -> bool:
        """Whether the layout changes at all; if not, bad copies are replaced where they lie."""
        return (self.nodes, self.runs) != (self.blob.nodes, self.blob.runs)


def geometry_of(blob: BlobRow) -> Geometry:
    """How the blob was cut."""
    return Geometry(blob.k, blob.m, blob.stripe_bytes)


def holders_of(blob: BlobRow) -> set[int]:
    """All nodes that its layout names."""
    return set(blob.nodes).union(*(run.nodes for run in blob.runs)) - {0}


def is_named(blob: BlobRow, stripe: int, shard: int, node: int) -> bool:
    """Whether the layout has that copy."""
    return (shard, node) in copies(blob.nodes_at(stripe), blob.k + blob.m)


def plan_repair(
    blob: BlobRow, standing: Standing, avoid: Set[int] = _NOBODY, *, rebalance: bool = False
) -> RepairPlan:
    """The way to the best layout that the nodes allow now.

    A standard layout whose holders may keep it stays as it is (unless `rebalance`: then it becomes the one
    that `place` would choose). Otherwise the standard layout nearest to the present one, if there are nodes
    for it; a holder that is away for a moment keeps its shard. Otherwise what is there gets as many more
    copies as it needs to survive the loss of any one node. Nodes in `avoid` get nothing new. Raises
    NotEnoughNodes when fewer than two nodes take blocks, or fewer than k+m when it is about rebalancing.
    """
    width = blob.k + blob.m
    base = _longest(blob)
    settled = not blob.runs and is_standard(base, width)
    keeping = standing.keeping - avoid
    if settled and not rebalance and keeping.issuperset(base):
        return _standard_plan(blob, base)
    able = standing.writable - standing.leaving - avoid
    if settled:
        able |= keeping & set(base)
    candidates = [node for node in standing.members if node.number in able]
    if len(candidates) >= width:
        return _standard_plan(blob, retarget(blob.id, base, candidates, blob.k, blob.m))
    if rebalance:
        raise NotEnoughNodes(len(candidates), width)
    return _protecting_plan(blob, standing, sorted(standing.writable - avoid))


def _standard_plan(blob: BlobRow, target: tuple[int, ...]) -> RepairPlan:
    new = tuple(copies(target, blob.k + blob.m))
    stretches = tuple(Stretch(first, stop, old, new) for first, stop, _, old in _runs(blob))
    return RepairPlan(blob, stretches, target, ())


def _protecting_plan(blob: BlobRow, standing: Standing, alive: list[int]) -> RepairPlan:
    """Add copies on the nodes alive; forget those on nodes that are gone for good."""
    if len(alive) < 2:
        raise NotEnoughNodes(len(alive), 2)
    members = standing.numbers
    stretches: list[Stretch] = []
    runs: list[Run] = []
    for first, stop, nodes, old in _runs(blob):
        left = [copy for copy in old if copy[1] in members]
        added = missing_copies(blob.k, blob.m, left, alive)
        new = tuple(left + added)
        stretches.append(Stretch(first, stop, old, new))
        after = nodes if set(new) == set(old) else packed(new, blob.k + blob.m)
        if not runs or runs[-1].nodes != after:
            runs.append(Run(first, after))
    return RepairPlan(blob, tuple(stretches), runs[0].nodes, tuple(runs[1:]))


def _runs(blob: BlobRow) -> Iterator[tuple[int, int, tuple[int, ...], tuple[Copy, ...]]]:
    """(first stripe, stop, stored nodes, copies) of each run that has stripes."""
    stripes = geometry_of(blob).stripe_count(blob.size)
    runs = [Run(0, blob.nodes), *blob.runs]
    stops = [*(run.first_stripe for run in runs[1:]), stripes]
    for run, stop in zip(runs, stops, strict=True):
        if run.first_stripe < min(stop, stripes):
            yield (
                *(run.first_stripe, min(stop, stripes), run.nodes),
                tuple(copies(run.nodes, blob.k + blob.m)),
            )


def _longest(blob: BlobRow) -> tuple[int, ...]:
    """The layout of the run with the most stripes: keeping to it moves the least."""
    first, stop, nodes, _ = max(_runs(blob), key=lambda run: run[1] - run[0])
    assert first < stop
    return nodes


def chunks(stretches: Iterable[Stretch], stripes_max: int) -> Iterator[Stretch]:
    """The same stripes in pieces of at most `stripes_max`."""
    for first, stop, old, new in stretches:
        for at in range(first, stop, stripes_max):
            yield Stretch(at, min(at + stripes_max, stop), old, new)
