"""The repair loop of one tenure: survey, work, tell how it goes; rebalance when nothing else is to be done."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final, Self

import msgspec

from catalog import work
from catalog.errors import CatalogError, LeaseLost
from catalog.statement import Reader
from catalog.transaction import Transaction
from cluster.steward import progress
from cluster.steward.progress import Recoveries, RepairProgress
from cluster.steward.rebalance import Rebalance
from cluster.steward.repair import Executor, Job
from cluster.steward.services import Statuses, StewardServices
from cluster.steward.standing import Roster, Standing
from cluster.steward.survey import Found, Survey
from cluster.steward.tenure import Tenure

log = logging.getLogger(__name__)

_EVENTS_LOOKED_AT: Final = 200
_AT_ONCE: Final = 8  # jobs handed out between two looks whether repair is paused
_COUNT_EVERY: Final = 30  # reports of progress between two counts of what is left


class Repairer:
    """Repairs and rebalances. One a tenure, owned by `async with`; `in_flight` is shared with scrub."""

    def __init__(
        self,
        services: StewardServices,
        tenure: Tenure,
        statuses: Statuses,
        in_flight: set[bytes],
    ) -> None:
        self._services = services
        self._roster = Roster(services, statuses)
        self._executor = Executor(services, tenure, self._roster, in_flight)
        self._survey = Survey(services, self._executor)
        self._rebalance = Rebalance(services, tenure)
        self._page: deque[Job] = deque()  # of the survey, not yet handed out
        self._moves: deque[Job] = deque()
        self._report = _Report(services, tenure, self._executor, self._survey)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._executor.close()

    async def run(self) -> None:
        """Until cancelled. Raises LeaseLost; other catalog trouble is logged, and it goes on later."""
        async with self:
            while True:
                try:
                    idle = not await self.step()
                except LeaseLost:
                    raise
                except CatalogError as error:
                    log.warning("repair: %s; trying again later", error)
                    idle = True
                if idle:
                    await asyncio.sleep(self._services.settings.repair_idle_s)

    async def step(self) -> bool:
        """Hand out some of the most urgent work, or wait for some of it; False when there is none.
        Raises LeaseLost and other CatalogErrors."""
        standing = await self._roster.look()
        if await self._services.catalog.read(self._is_paused):
            return await self._rest(standing)
        if not self._page:
            found = await self._survey.next(standing)
            if not all(job.is_told_lost for job in found.jobs):
                await self._report.began(found, standing)
            self._page.extend(found.jobs)
        if self._page:
            for _ in range(min(_AT_ONCE, len(self._page))):
                await self._executor.submit(self._page.popleft())
                await self._report.tick(standing)
            return True
        if self._executor.repairing:
            await self._executor.one_done()
            await self._report.tick(standing)
            return True
        await self._report.ended(standing)
        return await self._move_one(standing)

    def _is_paused(self, reader: Reader) -> bool:
        return progress.paused_until(reader, self._services.now_ms()) is not None

    async def _rest(self, standing: Standing) -> bool:
        """An operator wants it so: what is in flight comes to its end, nothing is begun."""
        in_flight = await self._executor.one_done()
        if in_flight:
            await self._report.tick(standing)
        else:
            await self._report.rests()
        return in_flight

    async def _move_one(self, standing: Standing) -> bool:
        """One step of rebalancing: after each, repair has its turn. The cursor moves on when all of a page is
        done with. False when there is nothing to move."""
        if self._moves:
            await self._executor.submit(self._moves.popleft())
            return True
        if await self._executor.one_done():
            return True
        page = await self._rebalance.next(standing)
        self._moves.extend(page or ())
        return page is not None


class _Report:
    """Keeps the progress row and the events of repair."""

    def __init__(self, services: StewardServices, tenure: Tenure, executor: Executor, survey: Survey) -> None:
        self._services = services
        self._tenure = tenure
        self._tally = executor.tally
        self._survey = survey
        self._state: RepairProgress | None = None
        self._base = RepairProgress()  # what earlier stewards did of the same repair
        self._written_s = 0.0
        self._written_size = 0
        self._count_in = 0

    async def began(self, found: Found, standing: Standing) -> None:
        """There is work. Raises LeaseLost and other CatalogErrors."""
        state = await self._current()
        if state.active:
            return
        since_ms = found.since_ms
        if since_ms is None:
            since_ms = await self._services.catalog.read(when_redundancy_fell) or self._services.now_ms()
        self._tally.clear()
        self._base = RepairProgress(active=True, started_ms=since_ms)
        self._count_in = 0
        await self._write(standing, lambda tx: work.record_event(tx, "repair-started"))

    async def tick(self, standing: Standing) -> None:
        """About once a second, say how far it is."""
        if self._state is None or not self._state.active:
            return
        if self._services.monotonic() - self._written_s >= self._services.settings.progress_s:
            await self._write(standing)

    async def rests(self) -> None:
        """It goes on later: nothing is in flight."""
        state = await self._current()
        if state.active and state.bytes_per_s:
            resting = msgspec.structs.replace(self._figures(state), bytes_per_s=0)
            await self._tenure.write(lambda tx: progress.write(tx, resting))
            self._state = resting

    async def ended(self, standing: Standing) -> None:
        """There is nothing to be done now: either all is whole again, or the rest has to wait."""
        state = await self._current()
        if not state.active:
            return
        left = await self._survey.left(standing)
        took_ms = max(0, self._services.now_ms() - state.started_ms)
        took_s = took_ms / 1000
        done = msgspec.structs.replace(
            self._figures(state),
            active=False,
            bytes_per_s=0,
            waiting=left.waiting,
            unreadable=self._tally.unreadable,
        )
        done = msgspec.structs.replace(done, total_blobs=done.done_blobs, total_bytes=done.done_bytes)

        def write(tx: Transaction) -> None:
            progress.write(tx, done)
            if not left.blobs:
                detail = f"{took_s:.1f} s, {done.done_blobs} blobs, {done.done_bytes} bytes"
                work.record_event(tx, "redundancy-restored", detail=detail)
                before = progress.read(tx, Recoveries) or Recoveries()
                progress.write(tx, Recoveries(before.count + 1, before.total_ms + took_ms))

        await self._tenure.write(write)
        self._state = done
        if not left.blobs:
            log.warning("all blobs are fully redundant again, after %.1f s", took_s)

    async def _current(self) -> RepairProgress:
        """The row as we, or the steward before us, wrote it last."""
        if self._state is None:
            stored = await self._services.catalog.read(_stored)
            self._state = self._base = stored or RepairProgress()
        return self._state

    async def _write(self, standing: Standing, also: Callable[[Transaction], None] | None = None) -> None:
        state = self._figures(self._state or self._base)
        now, before = self._services.monotonic(), self._written_s
        if self._count_in == 0:
            left = await self._survey.left(standing)
            self._count_in = _COUNT_EVERY
            state = msgspec.structs.replace(
                state,
                total_blobs=state.done_blobs + left.blobs,
                total_bytes=state.done_bytes + left.size,
                waiting=left.waiting,
            )
        self._count_in -= 1
        rate = (self._tally.size - self._written_size) / (now - before) if before and now > before else 0
        state = msgspec.structs.replace(
            state,
            active=True,
            started_ms=self._base.started_ms,
            bytes_per_s=int(rate),
            total_blobs=max(state.total_blobs, state.done_blobs),
            total_bytes=max(state.total_bytes, state.done_bytes),
        )

        def write(tx: Transaction) -> None:
            progress.write(tx, state)
            if also is not None:
                also(tx)

        await self._tenure.write(write)
        self._state, self._written_s, self._written_size = state, now, self._tally.size

    def _figures(self, state: RepairProgress) -> RepairProgress:
        return msgspec.structs.replace(
            state,
            done_blobs=self._base.done_blobs + self._tally.blobs,
            done_bytes=self._base.done_bytes + self._tally.size,
            unreadable=self._tally.unreadable,
        )


def _stored(reader: Reader) -> RepairProgress | None:
    return progress.read(reader, RepairProgress)


def when_redundancy_fell(reader: Reader) -> int | None:
    """When the first of the nodes went away that are still missing, or the last one that has come back; for blobs that
    nobody had to report because their placement says it all. None when no node was missed since all was whole."""
    away_ms: dict[int | None, int] = {}
    back_since_ms = None
    for event in reversed(work.list_events(reader, limit=_EVENTS_LOOKED_AT, newest_first=True)):
        if event.kind in {"node-suspect", "node-down"}:
            away_ms.setdefault(event.node, event.at_ms)
        elif event.kind == "node-up":
            back_since_ms = away_ms.pop(event.node, back_since_ms)
        elif event.kind == "redundancy-restored":
            away_ms.clear()
            back_since_ms = None
    return min(away_ms.values(), default=back_since_ms)
