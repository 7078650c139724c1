"""Follows the long operations that operators asked for: writes down how far they are, and ends them."""

import logging

from cluster.headway import look
from cluster.operations import finish_due
from cluster.steward.services import StewardServices
from cluster.steward.tenure import Tenure

log = logging.getLogger(__name__)

_REST_FACTOR = 10  # to look must not become the store's main occupation


class OperationWatch:
    """Looks at those that run."""

    def __init__(self, services: StewardServices) -> None:
        self._services = services
        self._rests_until_s = 0.0

    async def step(self, tenure: Tenure) -> bool:
        """One look; never more to do at once. Raises LeaseLost and other CatalogErrors."""
        began_s = self._services.monotonic()
        if began_s < self._rests_until_s:
            return False
        now_ms = self._services.now_ms()
        seen = [each for each in await self._services.catalog.read(lambda r: look(r, now_ms)) if each.is_news]
        ended_s = self._services.monotonic()
        self._rests_until_s = ended_s + _REST_FACTOR * (ended_s - began_s)
        if seen:
            for over in await tenure.write(lambda tx: finish_due(tx, seen)):
                log.warning("%s of %s is %s: %s", over.kind, over.node or "all", over.state, over.detail)
        return False
