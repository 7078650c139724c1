"""What a blob survives, judged from the copies that are known to be good."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Final

import msgspec

from cluster.placement import Copy, survives_any_loss

NODES_MAX: Final = 4
"""More nodes than that are not tried in irregular layouts: the answer is then "at least so many"."""


class Survival(msgspec.Struct, frozen=True):
    """`readable`: k good shards of each stripe are there. `nodes_lost_max`: any so many nodes more may be lost and
    everything is still readable. `any_region`: likewise all nodes of any one region at once. `basis`: "verified"
    (only blocks that were verified now count; of the stripes that were checked) or "layout" (whatever lies on nodes
    that are connected counts as good).
    """

    readable: bool
    nodes_lost_max: int
    any_region: bool
    basis: str


def survival(k: int, layouts: Iterable[frozenset[Copy]], regions: Mapping[int, str], basis: str) -> Survival:
    """Of a blob with these sets of good copies, each that of some stripe. `regions`: of each node by its number."""
    distinct = set(layouts)
    losses = min((losses_survived(k, layout) for layout in distinct), default=0)
    any_region = all(_survives_regions(k, layout, regions) for layout in distinct)
    return Survival(losses >= 0, max(0, losses), losses >= 0 and any_region, basis)


def least(outcomes: Iterable[Survival]) -> Survival | None:
    """What all of several blobs together survive; None without any."""
    seen = list(outcomes)
    if not seen:
        return None
    return Survival(
        readable=all(one.readable for one in seen),
        nodes_lost_max=min(one.nodes_lost_max for one in seen),
        any_region=all(one.any_region for one in seen),
        basis=seen[0].basis,
    )


def losses_survived(k: int, layout: Iterable[Copy]) -> int:
    """The loss of any how many nodes leaves k different shards; -1 when there are fewer than k already."""
    good = list(layout)
    nodes = sorted({node for _, node in good})
    if not _is_readable(k, good):
        return -1
    if len(nodes) == len(good) == len({shard for shard, _ in good}):
        return len(good) - k  # one copy a shard, each on a node of its own: no need to try
    lost = 0
    while lost < NODES_MAX and all(
        survives_any_loss(k, good, set(nodes) - set(gone)) for gone in combinations(nodes, lost)
    ):
        lost += 1
    return lost


def _is_readable(k: int, layout: Iterable[Copy]) -> bool:
    return len({shard for shard, _ in layout}) >= k


def _survives_regions(k: int, layout: frozenset[Copy], regions: Mapping[int, str]) -> bool:
    used = {regions.get(node, "") for _, node in layout}
    return bool(used) and all(
        _is_readable(k, [copy for copy in layout if regions.get(copy[1], "") != lost]) for lost in used
    )
