"""Advancing the clock of object lock by the monotonic clock, for one tenure (S26)."""

from catalog import lock_clock
from cluster.steward.services import StewardServices
from cluster.steward.tenure import Tenure


class LockClockHand:
    """One step at the beginning of a tenure takes up where the clock stood; each later one adds what has passed since
    the step before. Steps that fail lose nothing: the next one adds it, once."""

    def __init__(self, services: StewardServices) -> None:
        self._monotonic = services.monotonic
        self._from: tuple[int, float] | None = None
        """What the lock clock showed, and the monotonic clock at or after that moment."""

    async def step(self, tenure: Tenure) -> bool:
        """Raises CatalogError, and then may be called again."""
        if self._from is None:
            shown_ms = await tenure.write(lock_clock.follow)
            self._from = shown_ms, self._monotonic()
            return False
        from_ms, since = self._from
        now = self._monotonic()
        to_ms = from_ms + int((now - since) * 1000)
        shown_ms = await tenure.write(lambda tx: lock_clock.advance(tx, to_ms))
        if shown_ms != to_ms:  # an operator has set it forward
            self._from = shown_ms, self._monotonic()
        return False
