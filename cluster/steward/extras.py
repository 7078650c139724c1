"""Copies that moves and late writes left over, deleted by their sequence after the grace period (S20, S21)."""

import asyncio
from collections.abc import Sequence

from catalog import blobs, work
from catalog.model import ExtraCopy
from cluster.steward.garbage import delete_blocks
from cluster.steward.plan import is_named
from cluster.steward.services import StewardServices
from cluster.steward.tenure import Tenure
from codec.block import BlockKey, pack_key


class ExtraCollector:
    """Works off the queue of extra copies, a bounded batch a step."""

    def __init__(self, services: StewardServices) -> None:
        self._services = services

    async def step(self, tenure: Tenure) -> bool:
        """Delete one batch; True when there may be more to do at once. Raises LeaseLost, CatalogError."""
        settings, catalog = self._services.settings, self._services.catalog
        due = await catalog.read(
            lambda reader: work.due_extra(reader, self._services.now_ms(), settings.delete_blocks_max)
        )
        if not due:
            return False
        ids = {copy.blob_id for copy in due}
        laid_out = await catalog.read(lambda reader: blobs.by_ids(reader, catalog.placements, ids))
        # A copy that the layout names again was written anew there, under another sequence; the order has
        # nothing left to delete, and if that were wrong it must not (S20).
        doomed: dict[int, list[ExtraCopy]] = {}
        done: list[ExtraCopy] = []
        for copy in due:
            blob = laid_out.get(copy.blob_id)
            if blob is not None and is_named(blob, copy.stripe, copy.shard, copy.node):
                done.append(copy)
            else:
                doomed.setdefault(copy.node, []).append(copy)
        outcomes = await asyncio.gather(
            *(delete_blocks(self._services, tenure, node, _named(copies)) for node, copies in doomed.items())
        )
        unreached: list[ExtraCopy] = []
        for copies, deleted in zip(doomed.values(), outcomes, strict=True):
            (done if deleted else unreached).extend(copies)
        later_ms = self._services.now_ms() + int(settings.retry_s * 1000)
        await tenure.write(lambda tx: work.extra_done(tx, done), frees=True)
        if unreached:
            await tenure.write(lambda tx: work.postpone_extra(tx, unreached, later_ms), frees=True)
        return True


def _named(copies: Sequence[ExtraCopy]) -> list[tuple[bytes, int]]:
    return [(pack_key(BlockKey(copy.blob_id, copy.stripe, copy.shard)), copy.sequence) for copy in copies]
