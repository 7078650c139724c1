"""Blocks that no row names: left by crashes and lost requests, collected behind a fence (S18, S19).

Nothing is decided by a clock. First the catalog commits a horizon: from then on a blob of that upload epoch
or an older one can no longer be committed. Whatever a node holds from such an epoch and the catalog does not
know now, it will never know.
"""

import logging
from collections.abc import Sequence

from catalog import blobs, leases, lookup, work
from catalog.transaction import Transaction
from cluster.errors import LinkError
from cluster.steward import node_calls
from cluster.steward.garbage import Blocks, delete_blocks
from cluster.steward.services import StewardServices
from cluster.steward.tenure import Tenure

log = logging.getLogger(__name__)

_ID_BYTES = 16
_EPOCH_BYTES = 4


class OrphanCollector:
    """Goes through one node's inventory after the other, a page a step, then rests."""

    def __init__(self, services: StewardServices) -> None:
        self._services = services
        self._horizon = 0
        self._waiting: list[int] = []  # nodes this round has still to look at
        self._after = b""
        self._orphans: Blocks = []
        self._allowed: float | None = None  # blocks that may go from the present node (S18)

    def begin(self) -> None:
        """Start a round over all nodes with a new horizon."""
        self._horizon = 0
        self._waiting = [node.number for node in self._services.nodes.nodes]  # those that are away come later
        self._forget_node()

    async def step(self, tenure: Tenure) -> bool:
        """One page of one node's inventory; True while the round goes on. Raises LeaseLost, CatalogError."""
        if not self._waiting:
            return False
        if not self._horizon and not (await self._may_collect() and await self._set_horizon(tenure)):
            self._waiting.clear()
            return False
        node = self._waiting[0]
        try:
            finished = await self._page(tenure, node)
        except LinkError as error:
            log.info("orphans of node %d are left for later: %s", node, error)
            finished = True
        if finished:
            self._waiting.pop(0)
            self._forget_node()
        return bool(self._waiting)

    async def _may_collect(self) -> bool:
        """Not with a catalog that knows no blob at all, and not after a restore, until an operator has said
        that what this catalog does not know may go (S18)."""
        catalog = self._services.catalog
        if not (await catalog.meta()).orphans_allowed:
            return False
        known = await catalog.read(lambda reader: blobs.page(reader, catalog.placements, after=b"", limit=1))
        return bool(known)

    async def _set_horizon(self, tenure: Tenure) -> bool:
        """Commit the horizon of this round; False while the store is too young for one."""
        epochs = self._services.settings.orphan_epochs

        def commit(tx: Transaction) -> int:
            horizon = max(tx.meta.upload_epoch - epochs, tx.meta.collect_horizon)
            if horizon > tx.meta.collect_horizon:
                leases.set_horizon(tx, horizon)
            return horizon

        self._horizon = await tenure.write(commit)
        return self._horizon > 0

    async def _page(self, tenure: Tenure, node: int) -> bool:
        """Note the orphans of one page, and delete all after the last one. True when done with the node."""
        if self._allowed is None:
            status = await node_calls.status(self._services, node)
            settings = self._services.settings
            self._allowed = max(status.blocks * settings.orphan_share_max, settings.orphan_floor_blocks)
        page = await node_calls.inventory_page(self._services, node, self._after)
        old = [(key, sequence) for key, sequence, _ in page.entries if _epoch(key) <= self._horizon]
        self._orphans += await self._unknown(old)
        if len(self._orphans) > self._allowed:
            await self._stop(tenure, node)
            return True
        if page.more and len(old) == len(page.entries):  # keys are in the order of their epochs
            self._after = page.entries[-1][0]
            return False
        if self._orphans and await delete_blocks(self._services, tenure, node, self._orphans):
            log.info("node %d: %d orphaned blocks deleted", node, len(self._orphans))
        return True

    async def _unknown(self, blocks: Sequence[tuple[bytes, int]]) -> Blocks:
        ids = {key[:_ID_BYTES] for key, _ in blocks}
        known = await lookup.blobs_by_id(self._services.catalog, ids)
        return [(key, sequence) for key, sequence in blocks if key[:_ID_BYTES] not in known]

    async def _stop(self, tenure: Tenure, node: int) -> None:
        """Too much would go: an old or empty catalog looks just like this (S18). Leave it to an operator."""
        detail = f"more than {self._allowed:.0f} blocks up to epoch {self._horizon} are in no row; none was deleted"
        log.error("node %d: %s", node, detail)
        await tenure.write(lambda tx: work.record_event(tx, "orphans-refused", node=node, detail=detail))

    def _forget_node(self) -> None:
        self._after, self._orphans, self._allowed = b"", [], None


def _epoch(key: bytes) -> int:
    """The upload epoch a block's blob was begun in."""
    return int.from_bytes(key[:_EPOCH_BYTES], "big")
