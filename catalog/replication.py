"""What the writer of an embedded catalog does for the storage nodes' sake (S17): each batch that changes something gets
a number and a record in the outbox, records are shipped, and what the nodes have is dropped from the outbox.

A record travels while its batch is being committed, so that the two disks work at the same time; the answer waits for
both. When the commit fails, the nodes hold a record that is no part of the catalog. Nobody takes it for one: its number
is not used again, and the next record names the one before it (`log_chain.py`). For that, only who has committed the
batch before, and so knows that there is no other such record, sends ahead; everybody else commits first, and steps over
the number that somebody else may have used. A record that was sent ahead and is the newest when the catalog is lost
comes back by a restore: a write that was not answered, as any commit may be that was cut short.

Without a sink (commands, founding) records stay in the outbox until a process with one finds them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from catalog import outbox, sqlite
from catalog.errors import CatalogBusy
from catalog.log_records import LogRecord, LogSink
from catalog.outbox import Outbox, Position
from catalog.recording import RecordingTransaction
from catalog.shipping import Shipping
from catalog.statement import Reader
from catalog.transaction import Transaction
from catalog.write_request import WriteRequest

log = logging.getLogger(__name__)

BATCHES_AHEAD = 1
"""Batches that wait for the nodes before the next one does, too. What gathers meanwhile shares that one: more of them,
and smaller, cost a store that is busy more than they gain it."""
_GAP = "the nodes need a snapshot of the catalog before anything is answered"
_TOGETHER_S = 0.2
_TIDY_S = 0.05
_TIDY_AGAIN_S = 1.0
_LOOK_S = 0.5
_READY_LOOK_S = 0.02


class Replication:
    """One process's part. `look` reads beside the writer, on the loop's own connection; `pump` makes the writer look
    for work."""

    def __init__(self, cursor: Any, dialect: Any, look: Reader, pump: Callable[[], None]) -> None:
        self._outbox = Outbox(cursor, dialect)
        self._look_reader = look
        self._pump = pump
        self._loop = asyncio.get_running_loop()
        self._shipping: Shipping | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._stood = 0
        self._gap = False
        self._tidy = False
        self._dropped = 0
        self._kept_rows = 0
        self._kept_bytes = 0
        self._sized = False
        self._last = -1  # the number of the newest batch, if it is ours
        # Of the batch that is being made:
        self._waits_on: Shipping | None = None
        self._before: Position
        self._previous_term = 0
        self._found: list[LogRecord] = []
        self._number = 0
        self._record: LogRecord | None = None
        self._ahead = False  # the record was sent before the commit
        self._dropping = 0
        self._overflowed = False

    def replicate_to(self, sink: LogSink, catalog_id: bytes) -> None:
        """From now on answers wait for the nodes."""
        assert self._shipping is None, "a catalog has one log"
        self._shipping = Shipping(sink, catalog_id, self._progressed)
        self._gap = outbox.has_gap(self._look_reader)
        self._later("look", _LOOK_S, self._look)

    @property
    def ready(self) -> bool:
        """Whether what is written now can be answered."""
        return self._shipping is None or (not self._gap and self._shipping.ready)

    async def wait_ready(self, seconds: float) -> None:
        """Until it can: a node that was started again is linked within a moment. Raises CatalogBusy when it takes
        longer than that."""
        give_up_at = self._loop.time() + seconds
        while not self.ready and self._loop.time() < give_up_at:  # noqa: ASYNC110 - no event says it of all nodes
            await asyncio.sleep(_READY_LOOK_S)
        if self._gap:
            raise CatalogBusy(_GAP)
        if not self.ready:
            raise CatalogBusy("too few nodes are there for the catalog's log")

    @property
    def tidy(self) -> bool:
        """Whether a batch is wanted that drops what the nodes have."""
        return self._tidy

    @property
    def is_behind(self) -> bool:
        """Whether the next batch must wait for the nodes."""
        return self._shipping is not None and self._shipping.waiting >= BATCHES_AHEAD

    @property
    def at_work(self) -> bool:
        """Whether answers wait, or records travel."""
        return self._shipping is not None and (self._shipping.at_work or self._shipping.waiting > 0)

    # -- in a batch ------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """The batch's transaction is open."""
        before = self._before = self._outbox.position()
        self._previous_term = self._outbox.previous_term(before)
        self._found, self._number, self._record, self._ahead = [], before.batch, None, False
        self._dropping, self._overflowed = 0, False
        if not self._sized:
            self._kept_rows, self._kept_bytes = self._outbox.size()
            self._sized = True
        shipping = self._waits_on = self._shipping
        if shipping is not None and shipping.known < before.batch:
            self._found = self._outbox.after(shipping.known)
            self._gap = self._outbox.has_gap()

    def end(self, transaction: RecordingTransaction, *, awaited: bool) -> None:
        """All requests of the batch are evaluated, the commit is next. `awaited`: whether some wait for the nodes."""
        wanted = self._tidy or transaction.changed
        if wanted and self._waits_on is not None and self._waits_on.shipped > self._dropped:
            self._dropping = self._waits_on.shipped
            self._outbox.drop(self._dropping)
        if not transaction.changed:
            return
        if self._is_full():
            self._overflow(transaction)
            return
        before = self._before
        ours = before.batch == self._last
        step = 1 if ours or before.batch == 0 else outbox.STEP_OVER
        if self._previous_term != before.term:
            outbox.want_snapshot(transaction, before.batch + step)
        self._record = self._outbox.write(transaction, before, self._previous_term, step)
        self._number = self._record.batch
        if ours and awaited and self._may_go_ahead(self._record):
            assert self._waits_on is not None
            self._ahead = True
            self._waits_on.learn(self._number, [self._record])
            self._waits_on.ship()

    def _may_go_ahead(self, record: LogRecord) -> bool:
        """Not before what others left. And not under a new term, which the nodes would obey from then on, also if it
        was not committed."""
        return self._waits_on is not None and not self._found and record.term == self._before.term

    def committed(self, requests: Sequence[WriteRequest]) -> None:
        """The batch is durable here: answer its requests, now or when the nodes have it."""
        shipping, number = self._waits_on, self._number
        self._tidy = self._ahead = False
        if self._dropping:
            self._dropped = self._dropping
            self._kept_rows, self._kept_bytes = max(0, self._before.batch - self._dropped), 0
        if self._record is not None:
            self._kept_rows += 1
            self._kept_bytes += len(self._record.payload)
            self._found.append(self._record)
            self._last = self._number
        if shipping is None:
            for request in requests:
                request.deliver()
            return
        for request in requests:
            if request.unshipped:
                request.deliver()
        held = [request for request in requests if not request.unshipped]
        if self._overflowed:
            self._gap = True
            shipping.forget(number)
        else:
            # A look in the meantime may have come upon some of them.
            shipping.learn(number, [record for record in self._found if record.batch > shipping.known])
        if held and not self._gap:
            shipping.answer(number, held)
            shipping.ship()
        else:
            for request in held:
                request.lose(CatalogBusy(_GAP))
            shipping.ship_by(_TOGETHER_S)
        self._progressed()

    def undone(self) -> None:
        """The batch was rolled back."""
        self._tidy = False
        self._last = -1
        self._sized = False  # of an overflow, too
        if self._ahead:
            assert self._waits_on is not None
            self._waits_on.retract(self._number)
        if self._shipping is not None:
            self._later("tidy", _TIDY_AGAIN_S, self._want_tidy)

    def _is_full(self) -> bool:
        if self._kept_rows < outbox.ROWS_MAX and self._kept_bytes < outbox.BYTES_MAX:
            return False
        self._kept_rows, self._kept_bytes = self._outbox.size()
        return self._kept_rows >= outbox.ROWS_MAX or self._kept_bytes >= outbox.BYTES_MAX

    def _overflow(self, transaction: Transaction) -> None:
        """No node was to be had for long: what waits is dropped, and a snapshot must make up for it."""
        log.error("the catalog's outbox is full: the nodes need a snapshot before anything else is answered")
        number = self._number = self._outbox.skip()
        self._outbox.drop(number)
        outbox.note_gap(transaction, number)
        self._overflowed, self._found = True, []
        self._kept_rows = self._kept_bytes = 0

    # -- between batches -------------------------------------------------------------------------------------

    def close(self) -> None:
        """What is not shipped stays in the outbox."""
        for timer in self._timers.values():
            timer.cancel()
        if self._shipping is not None:
            self._shipping.close()

    def _later(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        if name not in self._timers:
            self._timers[name] = self._loop.call_later(seconds, self._fire, name, call)

    def _fire(self, name: str, call: Callable[[], None]) -> None:
        del self._timers[name]
        call()

    def _progressed(self) -> None:
        assert self._shipping is not None
        if self._shipping.shipped > self._dropped:
            self._later("tidy", _TIDY_S, self._want_tidy)
        self._pump()

    def _want_tidy(self) -> None:
        assert self._shipping is not None
        self._tidy = self._shipping.shipped > self._dropped and not self._shipping.at_work
        if self._tidy:
            self._pump()

    def _look(self) -> None:
        """Ship what others have committed and not shipped for a while: they may be gone."""
        shipping = self._shipping
        assert shipping is not None
        self._later("look", _LOOK_S, self._look)
        reader = self._look_reader
        try:
            stood, self._stood = self._stood, outbox.newest(reader)
            if self._stood > shipping.known and self._stood == stood:
                shipping.find(outbox.records_after(reader, shipping.known))
            # Last: what was found may be behind a gap that was made meanwhile.
            self._gap = outbox.has_gap(reader)
        except sqlite.DriverError as error:
            log.info("the catalog's outbox can't be looked into now: %s", error)
