"""Records of committed batches on their way to the storage nodes, and the answers that wait for them (S17).

What need not be answered soon may gather, and travels together. Everything is in order, so that "shipped up to N" says
all.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from catalog.errors import CatalogBusy, CatalogError
from catalog.log_records import LogRecord, LogSink

log = logging.getLogger(__name__)

APPENDS_MAX = 2
_APPEND_RECORDS = 256
_APPEND_BYTES = 4 << 20
_AGAIN_S = 0.5


class Answer(Protocol):
    """What waits until the nodes have its batch."""

    def deliver(self) -> None:
        """They have it."""

    def lose(self, error: BaseException) -> None:
        """They may have it or not."""


class _Append:
    """Records that travel together."""

    __slots__ = ("error", "first", "journey", "last", "records", "stored")

    def __init__(self, records: list[LogRecord]) -> None:
        self.records = records
        self.first, self.last = records[0].batch, records[-1].batch
        self.stored = False
        self.error: BaseException | None = None
        self.journey: asyncio.Future[None]


class Shipping:
    """Belongs to the writer's loop. `progressed` is called whenever something was shipped or given up."""

    def __init__(self, sink: LogSink, catalog_id: bytes, progressed: Callable[[], None]) -> None:
        self._sink = sink
        self._catalog_id = catalog_id
        self._progressed = progressed
        self._loop = asyncio.get_running_loop()
        self._pending: deque[LogRecord] = deque()
        self._under_way: deque[_Append] = deque()
        self._answers: deque[tuple[int, Sequence[Answer]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._lost: tuple[int, BaseException] = (0, CatalogBusy())  # up to this number, for this reason
        self.known = 0

    @property
    def ready(self) -> bool:
        """Whether what is committed now can be answered."""
        return self._sink.ready

    @property
    def shipped(self) -> int:
        """Every batch up to this number is on the nodes."""
        if self._under_way:
            return self._under_way[0].first - 1
        return self._pending[0].batch - 1 if self._pending else self.known

    @property
    def waiting(self) -> int:
        """Batches whose answers wait."""
        return len(self._answers)

    @property
    def at_work(self) -> bool:
        """Whether records travel."""
        return bool(self._under_way)

    def learn(self, up_to: int, records: Sequence[LogRecord]) -> None:
        """Committed since `known`, or being so: batches up to that number, of which these may not be on the nodes."""
        self._pending.extend(records)
        self.known = max(self.known, up_to)

    def retract(self, number: int) -> None:
        """The newest batch was not committed after all. What the nodes may have of it leads nowhere."""
        if self._pending and self._pending[-1].batch == number:
            self._pending.pop()
        elif self._under_way and self._under_way[-1].last == number:
            self._under_way[-1].records = self._under_way[-1].records[:-1]

    def find(self, records: Sequence[LogRecord]) -> None:
        """Records behind `known` that nobody ships."""
        if records:
            self.learn(records[-1].batch, records)
            self.ship()

    def forget(self, up_to: int) -> None:
        """Records up to that number are in no outbox any more: the log has a gap."""
        self._pending.clear()
        self.known = up_to
        self._lose(up_to, CatalogBusy("the nodes need a snapshot of the catalog first"))

    def answer(self, number: int, answers: Sequence[Answer]) -> None:
        """Deliver them when everything up to that number, which is known and committed, is on the nodes."""
        lost_to, error = self._lost
        if number <= self.shipped:
            for answer in answers:
                answer.deliver()
        elif number <= lost_to:  # before it was committed
            for answer in answers:
                answer.lose(error)
        else:
            self._answers.append((number, answers))

    def ship(self) -> None:
        """Send what is pending, as soon as may be."""
        while self._pending and len(self._under_way) < APPENDS_MAX and not self._failed():
            append = _Append(self._next())
            self._under_way.append(append)
            append.journey = asyncio.ensure_future(self._sink.append(self._catalog_id, append.records))
            append.journey.add_done_callback(partial(self._arrived, append))

    def ship_by(self, seconds: float) -> None:
        """Send what is pending within so many seconds, with what comes until then."""
        if self._timer is None and self._pending:
            self._timer = self._loop.call_later(seconds, self._due)

    def close(self) -> None:
        """Nobody waits any more: the outbox keeps what is pending."""
        if self._timer is not None:
            self._timer.cancel()
        for append in self._under_way:
            append.journey.cancel()

    def _due(self) -> None:
        self._timer = None
        if self._sink.ready:
            self.ship()
        self.ship_by(_AGAIN_S)

    def _next(self) -> list[LogRecord]:
        records = [self._pending.popleft()]
        nbytes = len(records[0].payload)
        while self._pending and len(records) < _APPEND_RECORDS:
            nbytes += len(self._pending[0].payload)
            if nbytes > _APPEND_BYTES:
                break
            records.append(self._pending.popleft())
        return records

    def _arrived(self, append: _Append, journey: asyncio.Future[None]) -> None:
        if journey.cancelled():
            return  # nobody waits any more
        append.error = journey.exception()
        append.stored = append.error is None
        if append.error is not None and not isinstance(append.error, CatalogError):
            log.error("the catalog's log could not be written", exc_info=append.error)
        self._ended()

    def _failed(self) -> bool:
        return any(append.error is not None for append in self._under_way)

    def _ended(self) -> None:
        while self._under_way and self._under_way[0].stored:
            self._under_way.popleft()
        self._deliver(self.shipped)
        if self._failed():
            if all(append.stored or append.error is not None for append in self._under_way):
                self._give_up()
        else:
            self.ship()
        self._progressed()

    def _deliver(self, shipped: int) -> None:
        while self._answers and self._answers[0][0] <= shipped:
            for answer in self._answers.popleft()[1]:
                answer.deliver()

    def _give_up(self) -> None:
        """None of what travelled is certain, from the first on; it is sent again, later."""
        error = next(append.error for append in self._under_way if append.error is not None)
        lost = [record for append in self._under_way for record in append.records]
        up_to = self._under_way[-1].last
        self._under_way.clear()
        self._pending.extendleft(reversed(lost))
        self._lose(up_to, error)
        self.ship_by(_AGAIN_S)

    def _lose(self, up_to: int, error: BaseException) -> None:
        self._lost = up_to, error
        log.warning("group commits of the catalog are not on the nodes, up to number %d: %s", up_to, error)
        while self._answers and self._answers[0][0] <= up_to:
            for answer in self._answers.popleft()[1]:
                answer.lose(error)
