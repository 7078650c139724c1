"""Blocks that the nodes found bad themselves, by their own scrub or when somebody read them, are queued for
repair."""

import logging

from catalog import blobs, work
from catalog.model import FaultReport
from catalog.transaction import Transaction
from cluster.errors import LinkError
from cluster.steward.node_calls import damaged
from cluster.steward.plan import is_named
from cluster.steward.services import Statuses, StewardServices
from cluster.steward.tenure import Tenure
from codec.block import BlockCorrupt, BlockKey, unpack_key

log = logging.getLogger(__name__)


class DamageWatch:
    """Asks each node that has damaged blocks for their list."""

    def __init__(self, services: StewardServices, statuses: Statuses) -> None:
        self._services = services
        self._statuses = statuses

    async def step(self, tenure: Tenure) -> bool:
        """One look at all nodes; never more to do at once. Raises LeaseLost and other CatalogErrors."""
        for node, status in list(self._statuses().items()):
            if status.damaged_blocks:
                try:
                    await self._report_all(tenure, node)
                except LinkError as error:
                    log.info("node %d does not list its damaged blocks: %s", node, error)
        return False

    async def _report_all(self, tenure: Tenure, node: int) -> None:
        after = b""
        while True:
            page = await damaged(self._services, node, after)
            if page.entries:
                found = [(key, kind) for key, _, kind in page.entries]
                await tenure.write(lambda tx, found=found: _report(tx, node, found))  # type: ignore[misc]
                after = page.entries[-1][0]
            if not page.more or not page.entries:
                return


def _report(tx: Transaction, node: int, found: list[tuple[bytes, str]]) -> None:
    """Those that a layout names; a bad copy that nothing names is garbage anyway."""
    places: list[tuple[BlockKey, str]] = []
    for key, kind in found:
        try:
            places.append((unpack_key(key), kind))
        except BlockCorrupt:
            continue  # not the name of a block: nothing that could be repaired
    laid_out = blobs.by_ids(tx, tx.placements, sorted({place.blob for place, _ in places}))
    faults: dict[bytes, list[FaultReport]] = {}
    for place, kind in places:
        blob = laid_out.get(place.blob)
        if blob is not None and is_named(blob, place.stripe, place.shard, node):
            faults.setdefault(place.blob, []).append(FaultReport(place.stripe, place.shard, node, kind))
    for blob_id, reports in faults.items():
        work.report_faults(tx, blob_id, reports)
