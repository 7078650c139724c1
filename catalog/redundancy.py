"""How much a blob can still lose, counted from its layout and the faults that were reported of it."""

from __future__ import annotations

from collections.abc import Iterable

from catalog.model import BlobRow, FaultReport


def spare(blob: BlobRow, faults: Iterable[FaultReport]) -> int:
    """How many more copies the worst reported stripe can lose, whichever they are, and still have k distinct
    shards: m for a whole stripe of a standard layout; below 0 it has fewer than k. Faults of copies that the
    layout does not name are about something that was moved meanwhile, and don't count."""
    bad_by_stripe: dict[int, set[tuple[int, int]]] = {}
    for fault in faults:
        bad_by_stripe.setdefault(fault.stripe, set()).add((fault.shard, fault.node))
    return min((_spare_of_stripe(blob, stripe, bad) for stripe, bad in bad_by_stripe.items()), default=blob.m)


def _spare_of_stripe(blob: BlobRow, stripe: int, bad: set[tuple[int, int]]) -> int:
    width = blob.k + blob.m
    named = {(entry % width, node) for entry, node in enumerate(blob.nodes_at(stripe)) if node}
    copies_by_shard: dict[int, int] = {}
    for shard, _ in named - bad:
        copies_by_shard[shard] = copies_by_shard.get(shard, 0) + 1
    surplus = len(copies_by_shard) - blob.k
    if surplus < 0:
        return surplus
    # What it takes to go below k: all copies of the surplus + 1 shards that have the fewest.
    return sum(sorted(copies_by_shard.values())[: surplus + 1]) - 1
