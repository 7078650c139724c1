"""After nodes came or went: blobs move, one by one, to where `place` would put them now (P7).

A walk over all blobs by cursor, at the lowest priority; it goes on after a restart, and is not done again for
nodes for which it has been finished.
"""

import msgspec

from catalog import blobs
from catalog.statement import Reader
from cluster.placement import retarget
from cluster.steward import progress
from cluster.steward.plan import holders_of
from cluster.steward.progress import RebalanceProgress
from cluster.steward.repair import Job
from cluster.steward.services import StewardServices
from cluster.steward.standing import Standing
from cluster.steward.tenure import Tenure
from cluster.topology import NodeInfo

_PAGE = 256


class Rebalance:
    """Finds the blobs that should lie elsewhere, a page at a time."""

    def __init__(self, services: StewardServices, tenure: Tenure) -> None:
        self._services = services
        self._tenure = tenure
        self._state: RebalanceProgress | None = None

    async def next(self, standing: Standing) -> list[Job] | None:
        """Blobs of the next page to move, maybe none; None when the walk is over, or must wait until all of
        the nodes are there. What was handed out before must be done with: the cursor is stored here. Raises
        LeaseLost and other CatalogErrors."""
        state = self._state
        if state is None:
            state = await self._services.catalog.read(_stored) or RebalanceProgress()
        nodes = tuple(sorted((node.number, node.weight) for node in _open(standing)))
        if nodes != state.nodes:
            state = RebalanceProgress(active=True, nodes=nodes)
        if not state.active or not standing.writable.issuperset(number for number, _ in nodes):
            self._state = state
            return None
        page = await self._services.catalog.read(
            lambda reader: blobs.page(
                reader, self._services.catalog.placements, after=state.after, limit=_PAGE
            )
        )
        jobs = []
        for blob in page:
            width = blob.k + blob.m
            if width <= len(nodes):
                target = retarget(blob.id, blob.nodes, _open(standing), blob.k, blob.m)
                if holders_of(blob) != set(target):
                    jobs.append(Job(blob.id, rebalance=True))
        await self._advance(state, page[-1].id if page else None, len(page), len(jobs))
        return jobs if page else None

    async def _advance(
        self, state: RebalanceProgress, last: bytes | None, looked_at: int, moved: int
    ) -> None:
        """Store how far the walk has come: to the end of the page *before* the one now handed out, so that a
        restart does not skip what was in flight."""
        after = state.after if last is not None else b""
        stored = msgspec.structs.replace(
            state,
            active=last is not None,
            after=after,
            moved_blobs=state.moved_blobs + moved,
            looked_at_blobs=state.looked_at_blobs + looked_at,
        )
        await self._tenure.write(lambda tx: progress.write(tx, stored))
        self._state = stored if last is None else msgspec.structs.replace(stored, after=last)


def _open(standing: Standing) -> list[NodeInfo]:
    """The nodes that shall hold blobs: all that are not on their way in or out, also while one is away."""
    return [node for node in standing.members if node.number in standing.settled]


def _stored(reader: Reader) -> RebalanceProgress | None:
    return progress.read(reader, RebalanceProgress)
