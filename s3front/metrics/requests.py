"""The recorder of a front's requests: what the pipeline calls, and what brings the figures to the catalog.

`begin` and `end` are on the hottest path: together they cost about a microsecond (s3front.metrics.cost measures it).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import Final

import msgspec

from catalog.errors import CatalogError
from catalog.history import MINUTE_MS, Figures
from codec.histogram import bucket_of
from s3front.metrics.layout import (
    BYTES_IN,
    BYTES_OUT,
    CUT_OFF,
    LATENCY_AT,
    REFUSED,
    STATUS_OFFSETS,
    SUM_US,
    Layout,
)
from s3front.metrics.slots import Reading, Slots, read_all

log = logging.getLogger("trivet.s3front.metrics")

FLUSH_S: Final = 5.0
"""So much of the history a front may lose that is killed."""
_SAMPLE_S: Final = 1.0

Save = Callable[[int, Mapping[str, Figures]], Awaitable[None]]
"""Adds figures to the rows of the minute that begins at so many milliseconds; for good when it returns. Raises
CatalogError when nothing was added."""
Sample = Callable[[], Mapping[str, int]]
"""The gauges of layout.GAUGES as they are now, all of them but `requests_in_flight`."""


class Tally(msgspec.Struct, gc=False):
    """One request, from `begin` to `end`: filled in on the way by whoever knows. As it stands at the end it counts.

    `operation`: REFUSED until it is known; `status` as sent, CUT_OFF for an answer that broke off and CLIENT_LEFT for
    one that nobody waited for. `bytes_in` and `bytes_out`: payload of the bodies received and sent.
    """

    started_s: float
    operation: str = REFUSED
    status: int = CUT_OFF
    bytes_in: int = 0
    bytes_out: int = 0


class RequestMetrics:
    """Counts the requests of one front, and knows those of all fronts of the machine."""

    def __init__(
        self,
        slots: Slots,
        name: str,
        *,
        save: Save,
        now_ms: Callable[[], int],
        sample: Sample = dict,
    ) -> None:
        """`name`: of this front. What `slots` have counted before is somebody else's, and was saved or is lost."""
        self.name: Final = name
        self.layout: Final[Layout] = slots.layout
        self._slots = slots
        self._view = slots.view
        self._operation_at = slots.layout.operation_at
        self._in_flight_at = slots.layout.gauge_at["requests_in_flight"]
        self._save = save
        self._now_ms = now_ms
        self._sample = sample
        self._flushing = asyncio.Lock()
        self._flushed = slots.read()
        self._since_ms = now_ms()

    # -- every request -----------------------------------------------------------------------------------------

    def begin(self) -> Tally:
        """A request has come; hand the tally to `end` whatever becomes of it."""
        self._view[self._in_flight_at] += 1
        return Tally(perf_counter())

    def end(self, tally: Tally) -> None:
        """The request's answer is over. Operations that the layout does not have raise KeyError: a fault of ours."""
        us = int((perf_counter() - tally.started_s) * 1e6)
        view = self._view
        at = self._operation_at[tally.operation]
        view[self._in_flight_at] -= 1
        view[at + SUM_US] += us
        view[at + STATUS_OFFSETS[tally.status]] += 1
        view[at + LATENCY_AT + bucket_of(us)] += 1
        if tally.bytes_in:
            view[at + BYTES_IN] += tally.bytes_in
        if tally.bytes_out:
            view[at + BYTES_OUT] += tally.bytes_out

    # -- the catalog's group commits -------------------------------------------------------------------------------

    def count_commit(self, writes: int, seconds: float) -> None:
        """A group commit of so many requests is durable, and its sync took so long."""
        view, layout = self._view, self.layout
        us = int(seconds * 1e6)
        view[layout.commit_sum_us_at] += us
        view[layout.commit_sum_writes_at] += writes
        view[layout.commit_us_at + bucket_of(us)] += 1
        view[layout.commit_writes_at + bucket_of(writes)] += 1

    # -- what others read --------------------------------------------------------------------------------------

    def sample_gauges(self) -> None:
        """Write the gauges as they are now; other fronts see them so until the next sample."""
        view = self._view
        for name, value in self._sample().items():
            view[self.layout.gauge_at[name]] = max(0, value)

    def read_all(self) -> list[Reading]:
        """The slots of all fronts of the machine, ours with its gauges as of now."""
        self.sample_gauges()
        return read_all(self._slots, self.name)

    # -- the history -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Samples gauges and flushes every FLUSH_S and at the end of each minute. Ends by cancellation only."""
        due = time.monotonic() + FLUSH_S
        while True:
            left_s = (MINUTE_MS - self._now_ms() % MINUTE_MS) / 1000
            await asyncio.sleep(min(_SAMPLE_S, left_s))
            self.sample_gauges()
            minute_over = self._now_ms() // MINUTE_MS != self._since_ms // MINUTE_MS
            if minute_over or time.monotonic() >= due:
                due = time.monotonic() + FLUSH_S
                try:
                    await self.flush_now()
                except CatalogError as error:
                    log.warning("the figures of the last seconds are saved later: %s", error)
                except Exception:  # a minute that can't be read: a front must not fail because of its figures
                    log.exception("the figures of the last seconds are lost")

    async def flush_now(self) -> None:
        """Add to the catalog's history what this front did since the last time; other fronts do so by themselves,
        every FLUSH_S. Raises CatalogError, and then nothing is lost: the next flush adds it.
        """
        async with self._flushing:
            now = self._slots.read()
            before, since_ms = self._flushed, self._since_ms
            self._since_ms = self._now_ms()
            if now == before:
                return
            figures = self._difference(before, now)
            # First: a caller that is cancelled below changes nothing about what becomes of the write.
            self._flushed = now
            if not figures:
                return
            try:
                await self._save(since_ms // MINUTE_MS * MINUTE_MS, figures)
            except CatalogError:
                self._flushed, self._since_ms = before, since_ms
                raise

    def _difference(self, before: list[int], now: list[int]) -> dict[str, Figures]:
        counted = [late - early if late > early else 0 for late, early in zip(now, before, strict=True)]
        found = {name: self.layout.figures(counted, name) for name in self.layout.operations}
        return {name: figures for name, figures in found.items() if figures.count}
