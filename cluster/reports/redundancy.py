"""How whole a store is, and how far repair has come."""

from __future__ import annotations

import msgspec

from catalog import nodes, operations, placements, work
from catalog.engine import wall_clock_ms
from catalog.statement import Reader
from cluster.placement import is_standard
from cluster.steward import progress
from cluster.steward.progress import RebalanceProgress, RepairProgress


class RepairReport(msgspec.Struct, frozen=True):
    """`reduced_blobs` and `reduced_bytes` are of blobs with less than full redundancy: a node of their layout
    is down or gone, or they were written while one was. `queued_blobs` wait because of single bad blocks;
    `unreadable_blobs` of them can't be rebuilt from what the nodes hold. `garbage_blobs` and `extra_copies`
    wait to be deleted.
    """

    repair: RepairProgress
    reduced_blobs: int
    reduced_bytes: int
    queued_blobs: int
    garbage_blobs: int
    extra_copies: int
    rebalancing: bool
    nodes: dict[str, str]
    """State by name."""
    unreadable_blobs: int = 0
    paused_until_ms: int | None = None
    """Until when an operator wants no repair; None when it is not paused."""

    @property
    def whole(self) -> bool:
        """Every object has its full redundancy."""
        return not (self.reduced_blobs or self.queued_blobs or self.repair.active)

    @property
    def stuck(self) -> bool:
        """Nothing but unreadable blobs is left: waiting alone changes nothing."""
        others = max(self.reduced_blobs, self.queued_blobs) - self.unreadable_blobs
        return bool(self.unreadable_blobs) and others <= 0 and not self.repair.active

    @property
    def seconds_left(self) -> float | None:
        """At the present rate; None when that is not known."""
        if not self.repair.active or not self.repair.bytes_per_s:
            return None
        return max(0, self.repair.total_bytes - self.repair.done_bytes) / self.repair.bytes_per_s


def repair_report(reader: Reader) -> RepairReport:
    """All of one moment."""
    rows = nodes.list_nodes(reader)
    blobs, nbytes = _reduced(reader, {row.number for row in rows if row.state in _HOLDING})
    rebalance = progress.read(reader, RebalanceProgress)
    return RepairReport(
        repair=progress.read(reader, RepairProgress) or RepairProgress(),
        reduced_blobs=blobs,
        reduced_bytes=nbytes,
        queued_blobs=work.repair_count(reader),
        garbage_blobs=work.garbage_count(reader),
        extra_copies=work.extra_count(reader),
        rebalancing=rebalance is not None and rebalance.active,
        nodes={row.name: row.state for row in rows if row.state != nodes.REMOVED},
        unreadable_blobs=_unreadable(reader),
        paused_until_ms=progress.paused_until(reader, wall_clock_ms()),
    )


def is_whole(reader: Reader) -> bool:
    """Whether every object has its full redundancy and nothing waits for repair, without counting what has not."""
    state = progress.read(reader, RepairProgress)
    if work.repair_count(reader) or (state is not None and state.active):
        return False
    holding = {row.number for row in nodes.list_nodes(reader) if row.state in _HOLDING}
    return not any(
        operations.blobs_at_most(reader, use.number, 1)
        for use in placements.in_use(reader)
        if not is_standard(use.nodes, use.k + use.m) or not holding.issuperset(use.nodes)
    )


_FAR_MS = 1 << 62
_UNREADABLE_MAX = 1000
"""So many are counted one by one: more are told as so many."""


def _unreadable(reader: Reader) -> int:
    """The steward marks what it gave up with a fault of node 0, nobody's; such rows come first."""
    endangered = work.due_repairs(reader, _FAR_MS, _UNREADABLE_MAX)
    return sum(any(not fault.node for fault in item.faults) for item in endangered)


_HOLDING = (nodes.UP, nodes.DRAINING)


def _reduced(reader: Reader, holding: set[int]) -> tuple[int, int]:
    """A blob with several layouts is counted for each of them that is not whole."""
    blobs = nbytes = 0
    for use in placements.in_use(reader):
        if not is_standard(use.nodes, use.k + use.m) or not holding.issuperset(use.nodes):
            counted = placements.count(reader, use.number)
            blobs, nbytes = blobs + counted[0], nbytes + counted[1]
    return blobs, nbytes
