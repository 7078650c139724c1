"""Works off the lifecycle's queue: keys that are due are looked at, buckets with new rules walked over.

Nothing here remembers what is done: each transaction leaves the queue so that a successor goes on from it.
"""

import logging
from collections.abc import Sequence
from functools import partial

from catalog import lifecycle_walk, lifecycle_work, work
from catalog.errors import CatalogError, LeaseLost, RowDamaged
from catalog.lifecycle_work import Looked
from catalog.transaction import Transaction
from cluster.errors import ClusterError
from cluster.steward.services import StewardServices
from cluster.steward.tenure import Tenure
from cluster.steward.transitions import Transitions

log = logging.getLogger(__name__)

EVENT = "lifecycle"

Key = tuple[int, bytes]


class Lifecycle:
    """One tenure's work, a bounded piece of it a step. Not side by side with itself."""

    def __init__(self, services: StewardServices, tenure: Tenure) -> None:
        self._services = services
        self._tenure = tenure
        self._transitions = Transitions(services)
        self._tally = _Tally()
        self._tells_at_s = 0.0

    async def step(self) -> float:
        """Look at what is due; how many seconds until the next step. Raises LeaseLost and other CatalogErrors."""
        settings = self._services.settings
        now_ms = self._services.now_ms()
        due = await self._services.catalog.read(
            lambda reader: lifecycle_work.due(reader, now_ms, settings.lifecycle_keys)
        )
        if not due:
            await self._tell()
            return settings.lifecycle_s
        await self._walk([bucket_id for bucket_id, key in due if key == lifecycle_walk.WALK_KEY])
        await self._look([key for key in due if key[1] != lifecycle_walk.WALK_KEY])
        return 0.0

    async def _walk(self, bucket_ids: Sequence[int]) -> None:
        limit = self._services.settings.lifecycle_walk_keys
        for bucket_id in bucket_ids:
            try:
                await self._tenure.write(partial(lifecycle_walk.step, bucket_id=bucket_id, limit=limit))
            except RowDamaged:
                await self._postpone((bucket_id, lifecycle_walk.WALK_KEY), "its bucket can't be read")

    async def _look(self, keys: Sequence[Key]) -> None:
        limit = self._services.settings.lifecycle_versions_max
        try:
            now_ms = self._services.now_ms()
            found = await self._tenure.write(
                partial(_look_at, keys=keys, now_ms=now_ms, limit=limit), frees=True
            )
        except RowDamaged:
            if len(keys) == 1:
                await self._postpone(keys[0], "its bucket can't be read")
                return
            for key in keys:
                await self._look([key])
            return
        for key, looked in zip(keys, found, strict=False):
            await self._finish(key, looked)

    async def _finish(self, key: Key, looked: Looked) -> None:
        """Do what the transaction has left to be done, and what it has not come to of a key with many versions."""
        limit = self._services.settings.lifecycle_versions_max
        self._tally.add(looked)
        while looked.moves or looked.after is not None:
            if not await self._move(key, looked):
                return
            # After the last versions: once more from the first one on, which is little now, for the end of it.
            earlier = looked if looked.after is not None else None
            now_ms = self._services.now_ms()
            again = partial(lifecycle_work.look, limit=limit, earlier=earlier)
            looked = await self._tenure.write(
                lambda tx, now_ms=now_ms, again=again: again(tx, *key, now_ms),  # type: ignore[misc]
                frees=True,
            )
            self._tally.add(looked)

    async def _move(self, key: Key, looked: Looked) -> bool:
        """To their storage classes. False when that was not to be had: the key is looked at again later."""
        for move in looked.moves:
            try:
                moved = await self._transitions.move(self._tenure, *key, move)
            except LeaseLost:
                raise
            except (CatalogError, ClusterError) as error:
                await self._postpone(key, f"a version can't go to {move.storage_class}: {error}")
                return False
            if not moved:  # mostly a client was first; where rows are missing, each look would end like this
                await self._postpone(key, f"a version for {move.storage_class} is not what it was")
                return False
            self._tally.moved += 1
        return True

    async def _postpone(self, key: Key, reason: str) -> None:
        log.warning("lifecycle of %r in bucket %d: %s; trying again later", key[1], key[0], reason)
        until_ms = self._services.now_ms() + int(self._services.settings.retry_s * 1000)
        await self._tenure.write(lambda tx: lifecycle_work.postpone(tx, *key, until_ms))

    async def _tell(self) -> None:
        """One event for all that was done for a while."""
        now_s = self._services.monotonic()
        if not self._tally.is_empty and now_s >= self._tells_at_s:
            detail = str(self._tally)
            await self._tenure.write(lambda tx: work.record_event(tx, EVENT, detail=detail))
            self._tally = _Tally()
            self._tells_at_s = now_s + self._services.settings.lifecycle_tell_s


def _look_at(tx: Transaction, keys: Sequence[Key], now_ms: int, limit: int) -> list[Looked]:
    """The first of the keys, as many as fit into a short transaction; at least one."""
    found: list[Looked] = []
    for bucket_id, key in keys:
        looked = lifecycle_work.look(tx, bucket_id, key, now_ms, limit=limit)
        found.append(looked)
        limit -= looked.expired + looked.markers + looked.uploads
        if limit <= 0:
            break
    return found


class _Tally:
    """What was done since the last event."""

    def __init__(self) -> None:
        self.expired = self.markers = self.uploads = self.moved = 0

    def add(self, looked: Looked) -> None:
        self.expired += looked.expired
        self.markers += looked.markers
        self.uploads += looked.uploads

    @property
    def is_empty(self) -> bool:
        return not (self.expired or self.markers or self.uploads or self.moved)

    def __str__(self) -> str:
        return (
            f"{self.expired} versions expired, {self.markers} delete markers removed, "
            f"{self.uploads} uploads aborted, {self.moved} versions moved to another storage class"
        )
