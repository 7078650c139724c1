"""Blobs that nothing refers to any more: condemned in the catalog, deleted on the nodes, forgotten (S14, S18).

The order is fixed: first a transaction finds no reference and makes that final, then the nodes delete, and
only when each of them has done so durably is the row dropped. A crash between any two steps repeats them.
"""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

from catalog import nodes as catalog_nodes
from catalog import sweeping, work
from catalog.model import GarbageItem
from catalog.transaction import Transaction
from cluster import wire
from cluster.errors import LinkError, RemoteFault
from cluster.placement import copies
from cluster.steward.services import StewardServices
from cluster.steward.tenure import Tenure
from codec.block import BlockKey, pack_key

log = logging.getLogger(__name__)

_DELETE = int(wire.Op.DELETE_BLOCKS)
_LOOK_S = 5.0  # between two looks whether a node that failed us takes deletes again
_ANY_COPY = 0  # of a condemned blob no copy is wanted, so none need be named (S20)

Blocks = list[tuple[bytes, int]]


class GarbageCollector:
    """Works off the garbage queue, a bounded batch a step.

    What a node could not be told to delete is set aside in the catalog until its link stands, so that a node
    that is away for days neither holds up the others nor is asked again and again.
    """

    def __init__(self, services: StewardServices) -> None:
        self._services = services
        self._looks_due: dict[int, float] = {}  # by node: when to look next for what waits for it

    async def step(self, tenure: Tenure) -> bool:
        """Collect one batch; True when there may be more to do at once. Raises LeaseLost, CatalogError."""
        await self._unpark(tenure)
        batch = await self._due()
        if not batch:
            return False
        condemned = await tenure.write(lambda tx: _condemn(tx, batch), frees=True)
        unreached = await self._delete(tenure, condemned)

        for node in unreached:
            self._looks_due[node] = self._services.monotonic() + _LOOK_S

        def note(tx: Transaction) -> None:
            for item in condemned:
                left = _nodes_of(item) & unreached
                if left:
                    work.park_garbage(tx, [item.blob_id], min(left))
                else:
                    work.collected(tx, item.blob_id)  # False for a long manifest: the row comes round again

        if condemned:
            await tenure.write(note, frees=True)
        return True

    async def _unpark(self, tenure: Tenure) -> None:
        """Make due again what waited for nodes whose links stand again, or that are gone for good."""
        now = self._services.monotonic()
        limit = self._services.settings.sweep_rows_max
        for row in await catalog_nodes.current(self._services.catalog):
            number = row.number
            link = self._services.nodes.link(number)
            if (link is not None and not link.up) or self._looks_due.get(number, now) > now:
                continue
            self._looks_due[number] = now + _LOOK_S
            if await self._services.catalog.read(partial(work.parked_garbage, node=number)):
                await tenure.write(partial(work.unpark_garbage, node=number, limit=limit), frees=True)
                self._looks_due[number] = now

    async def _due(self) -> list[GarbageItem]:
        """Due items, as many as one batch takes."""
        settings, catalog = self._services.settings, self._services.catalog
        limit = settings.collect_blobs_max
        now_ms = self._services.now_ms()
        items = await catalog.read(
            lambda reader: work.due_garbage(reader, catalog.placements, now_ms=now_ms, limit=limit)
        )
        batch: list[GarbageItem] = []
        stripes = 0
        for item in items:
            stripes += item.stripes
            if batch and stripes > settings.collect_stripes_max:
                break
            batch.append(item)
        return batch

    async def _delete(self, tenure: Tenure, items: Sequence[GarbageItem]) -> set[int]:
        """Delete all blocks of condemned blobs; the numbers of nodes that have not confirmed all of it."""
        blocks = _blocks_by_node(items)
        outcomes = await asyncio.gather(
            *(delete_blocks(self._services, tenure, node, keys) for node, keys in blocks.items())
        )
        return {node for node, deleted in zip(blocks, outcomes, strict=True) if not deleted}


async def delete_blocks(services: StewardServices, tenure: Tenure, node: int, blocks: Blocks) -> bool:
    """Have one node delete these (key, sequence), in requests of a bounded size, under our fence (S18).

    True when all of it is durable. A node that is no longer part of the cluster has nothing to delete.
    """
    link = services.nodes.link(node)
    if link is None:
        return True
    step = services.settings.delete_blocks_max
    try:
        for at in range(0, len(blocks), step):
            order = wire.DeleteBlocks(tenure.catalog_id, tenure.term, blocks[at : at + step])
            await link.call(_DELETE, wire.encode(order), None, services.settings.delete_deadline_s)
    except LinkError as error:
        fenced = isinstance(error, RemoteFault) and error.status == wire.Status.FENCED
        level = logging.ERROR if fenced else logging.INFO
        log.log(level, "node %d has not deleted %d blocks: %s", node, len(blocks), error)
        return False
    return True


class Sweeper:
    """Clears up behind closed uploads and deleted buckets, a slice a step."""

    def __init__(self, services: StewardServices) -> None:
        self._services = services

    async def step(self, tenure: Tenure) -> bool:
        """True when there may be more to do at once. Raises LeaseLost and other CatalogErrors."""
        due = await self._services.catalog.read(lambda reader: sweeping.due_sweeps(reader, 1))
        limit = self._services.settings.sweep_rows_max
        for sweep_id in due:
            await tenure.write(lambda tx, sweep_id=sweep_id: sweeping.sweep(tx, sweep_id, limit), frees=True)  # type: ignore[misc]
        return bool(due)


def _condemn(tx: Transaction, batch: Sequence[GarbageItem]) -> list[GarbageItem]:
    condemned = (work.condemn(tx, item.blob_id) for item in batch)
    return [item for item in condemned if item is not None]


def _nodes_of(item: GarbageItem) -> set[int]:
    if not item.stripes:
        return set()
    return set(item.nodes).union(*(run.nodes for run in item.runs)) - {0}


def _blocks_by_node(items: Sequence[GarbageItem]) -> dict[int, Blocks]:
    by_node: dict[int, Blocks] = {}
    for item in items:
        for stripe in range(item.stripes):
            for shard, node in copies(item.nodes_at(stripe), item.width):
                key = pack_key(BlockKey(item.blob_id, stripe, shard))
                by_node.setdefault(node, []).append((key, _ANY_COPY))
    return by_node
