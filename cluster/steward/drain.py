"""Tells when nothing lies on a draining node any more, so that it can be removed."""

from catalog import nodes, placements, work
from catalog.statement import Reader
from catalog.transaction import Transaction
from cluster.steward import progress
from cluster.steward.progress import DrainProgress
from cluster.steward.services import StewardServices
from cluster.steward.tenure import Tenure


class DrainWatch:
    """Looks at the draining nodes."""

    def __init__(self, services: StewardServices) -> None:
        self._services = services

    async def step(self, tenure: Tenure) -> bool:
        """One look; never more to do at once. Raises LeaseLost and other CatalogErrors."""
        rows = await nodes.current(self._services.catalog)
        draining = [row.number for row in rows if row.state == "draining"]

        def look(reader: Reader) -> tuple[DrainProgress, list[int]]:
            told = progress.read(reader, DrainProgress) or DrainProgress()
            return told, [number for number in draining if not placements.node_in_use(reader, number)]

        if not draining:
            return False
        told, empty = await self._services.catalog.read(look)
        if set(empty) == set(told.told):
            return False

        def tell(tx: Transaction) -> None:
            for number in empty:
                if number not in told.told:
                    work.record_event(tx, "node-drained", node=number)
            progress.write(tx, DrainProgress(tuple(empty)))

        await tenure.write(tell)
        return False
