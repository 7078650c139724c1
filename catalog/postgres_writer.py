"""Group commit on PostgreSQL (S11, S12, S13, S27).

A thread evaluates the requests of a batch one after another in one SERIALIZABLE transaction, each in a savepoint, and
commits it. Other processes do the same at the same time: a batch that met another is evaluated again from its first
request, and so is one whose connection was lost before its commit. Answers, refusals too, wait for the commit. When
the connection is lost during the commit its outcome is not known: the callers hear so, and their blobs are left to
orphan collection.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from catalog import postgres
from catalog.errors import CatalogBusy, CatalogFull, CommitUnknown
from catalog.model import NewBlob
from catalog.postgres import Cursor, Link
from catalog.transaction import Transaction
from catalog.write_queue import ABANDONED_PAUSE_S, QueueSettings, WriteQueue
from catalog.write_request import WriteRequest, batch_error, clearing

log = logging.getLogger(__name__)

_PAUSE_S = 0.002
_PAUSE_S_MAX = 0.1
_DUPLICATES_MAX = 3


def _tells_nobody(_writes: int, _seconds: float) -> None:
    """Nobody wants to hear of commits."""


class _Again(Exception):
    """The transaction can't stand: evaluate its requests again."""


class _Full(Exception):
    """The server's disk is full."""


class _Unknown(Exception):
    """The connection was lost during the commit."""


class _Batch:
    """The requests of one transaction, and what became of them. The thread's while it works on it."""

    def __init__(self, requests: list[WriteRequest], garbage: list[WriteRequest], deadline: float) -> None:
        self.requests = requests
        self.garbage = garbage
        self.cleared: list[WriteRequest] = []
        self.deadline = deadline
        self.transaction: Transaction | None = None
        self.committed = False
        self.unknown = False
        self.full = False
        self.wrote = False
        self.duplicates = 0
        self.commit_s = 0.0

    def refuse(self, error: Exception) -> None:
        """Nothing of it was committed, and no answer stands."""
        for request in self.requests:
            request.value, request.error = None, error
        self.cleared.clear()


class PostgresWriter:
    """Owned by the loop it was made on. `begin` gives a transaction on a cursor; it is called in the thread. A batch
    that met others is refused, too, when `settings.wait_s` is over; what the server has not answered for
    `answer_wait_s` longer counts as lost."""

    def __init__(
        self,
        *,
        link: Link,
        settings: QueueSettings,
        answer_wait_s: float,
        begin: Callable[[Any], Transaction],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._link = link
        self._settings = settings
        self._answer_wait_s = answer_wait_s
        self._begin = begin
        self._monotonic = monotonic
        self._loop = asyncio.get_running_loop()
        self._queue = WriteQueue(
            settings, too_late="the catalog did not come to it in time", monotonic=monotonic
        )
        self._abandoned = self._queue.abandoned
        self._at_work = False
        self._pumping = False
        self._overdue_timer: asyncio.TimerHandle | None = None
        self._idle_waiter: asyncio.Future[None] | None = None
        self._batches: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self.batches = 0
        self.retries = 0
        self.on_commit: Callable[[int, float], None] = _tells_nobody
        self._thread = threading.Thread(target=self._serve, name="catalog-writer", daemon=True)
        self._thread.start()

    # -- on the loop -----------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Requests that no batch has taken up yet."""
        return len(self._queue)

    def submit(
        self, function: Callable[[Transaction], Any], blob: NewBlob | None, frees: bool
    ) -> asyncio.Future[Any]:
        """Queue a request; the future has its outcome once that is durable. Raises CatalogBusy (P8)."""
        request = self._queue.add(function, blob, frees=frees)
        self._queue.watch()
        self._pump_soon()
        return request.future

    def abandon(self, blob: NewBlob) -> None:
        """Queue a blob as garbage with the next batch. What does not fit is left to orphan collection."""
        self._abandoned.add(blob)
        self._pump_soon()

    async def finish(self) -> None:
        """Answer what waits and end the thread. Submit nothing any more."""
        self._abandoned.hurry()
        while self._queue or self._abandoned.are_due or self._at_work:
            self._idle_waiter = self._loop.create_future()
            self._pump_soon()
            await self._idle_waiter
        self._queue.close()
        self._batches.put(None)
        self._thread.join()

    def _pump_soon(self) -> None:
        # One turn later, so that all requests of this turn share the batch.
        if not self._pumping and not self._at_work:
            self._pumping = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._pumping = False
        if self._at_work:
            return
        if not self._queue and not self._abandoned.are_due:
            if self._idle_waiter is not None and not self._idle_waiter.done():
                self._idle_waiter.set_result(None)
            return
        count = min(len(self._queue), self._settings.batch_writes_max)
        requests = [self._queue.take() for _ in range(count)]
        garbage = [clearing(blob, self._loop.create_future()) for blob in self._abandoned.first()]
        self._at_work = True
        patience_s = self._settings.wait_s + self._answer_wait_s
        self._overdue_timer = self._loop.call_later(patience_s, self._link.sever)
        self._batches.put(_Batch(requests, garbage, self._monotonic() + self._settings.wait_s))

    def _done(self, batch: _Batch) -> None:
        assert self._overdue_timer is not None
        self._overdue_timer.cancel()
        self._at_work = False
        if batch.committed:
            assert batch.transaction is not None
            batch.transaction.committed()
            self.batches += 1
            if batch.wrote:
                self.on_commit(len(batch.requests), batch.commit_s)
            self._clear(batch.garbage)
        if batch.full or (batch.garbage and not batch.committed):
            self._abandoned.pause()
            self._loop.call_later(ABANDONED_PAUSE_S, self._pump_soon)
        for request in batch.requests:
            if request.error is not None and not batch.unknown and request not in batch.cleared:
                self._abandoned.add(request.blob)
            request.deliver()
        # After the callbacks of the answers just given: what they ask for next shares the next batch.
        self._pump_soon()

    def _clear(self, garbage: list[WriteRequest]) -> None:
        for blob, request in zip(self._abandoned.cleared(len(garbage)), garbage, strict=True):
            if request.error is not None:
                log.error("blob %s is left to orphan collection", blob.id.hex(), exc_info=request.error)

    # -- in the thread ---------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while (batch := self._batches.get()) is not None:
            try:
                self._decide(batch)
            except Exception as error:
                log.exception("a group commit of the catalog failed")
                batch.refuse(batch_error(error, full=False))
            try:
                self._loop.call_soon_threadsafe(self._done, batch)
            except RuntimeError:
                break  # the loop was closed under us: nobody waits any more
        self._link.drop()

    def _decide(self, batch: _Batch) -> None:
        """Bring the batch to an end, whatever it takes until its deadline."""
        pause_s = _PAUSE_S
        while True:
            try:
                self._attempt(batch)
            except CatalogBusy as error:
                batch.refuse(error)
            except _Unknown as error:
                log.exception(
                    "the connection to the catalog was lost during a commit: its outcome is not known"
                )
                batch.unknown = True
                batch.refuse(CommitUnknown(str(error.__cause__)))
            except _Full as error:
                if not batch.full:
                    batch.full = True
                    # What frees space passes alone; the queue of garbage takes some, and can wait.
                    batch.garbage = []
                    continue
                batch.refuse(CatalogFull("the disk of the catalog's database is full"))
                log.error("the disk of the catalog's database is full: %s", error.__cause__)  # noqa: TRY400
            except _Again as again:
                self.retries += 1
                pause = pause_s * random.uniform(0.5, 1.5)  # noqa: S311 - two that met must not meet again
                if self._monotonic() + pause < batch.deadline:
                    time.sleep(pause)
                    pause_s = min(2 * pause_s, _PAUSE_S_MAX)
                    continue
                batch.refuse(
                    CatalogBusy(f"the catalog's transaction did not come through: {again.__cause__}")
                )
            return

    def _attempt(self, batch: _Batch) -> None:
        """Evaluate and commit. Raises CatalogBusy without a connection, _Again, _Full and _Unknown."""
        cursor = self._link.cursor()
        try:
            self._evaluate_all(batch, cursor)
        except postgres.DriverError as error:
            self._undone(batch, error)
        self._commit(batch, cursor)

    def _undone(self, batch: _Batch, error: Exception) -> None:
        """The batch has failed before its commit: a known rollback."""
        if self._is_lost(error):
            self._link.drop()
            raise _Again from error
        self._link.cursor().control("ROLLBACK")
        if postgres.is_full(error):
            raise _Full from error
        if postgres.is_conflict(error) or self._is_news(batch, error):
            raise _Again from error
        raise error

    def _is_lost(self, error: Exception) -> bool:
        return self._link.is_lost(error) or postgres.is_standby(error)

    def _is_news(self, batch: _Batch, error: Exception) -> bool:
        """Whether a row that is there already may be so since a moment ago; a row that stays is an error."""
        if not postgres.is_duplicate(error):
            return False
        batch.duplicates += 1
        return batch.duplicates <= _DUPLICATES_MAX

    def _evaluate_all(self, batch: _Batch, cursor: Cursor) -> None:
        # A savepoint is left with the transaction; each request but the first saves a round trip that way.
        cursor.control("BEGIN ISOLATION LEVEL SERIALIZABLE; SAVEPOINT request")
        transaction = batch.transaction = self._begin(cursor)
        batch.cleared.clear()
        first = True
        for request in (*batch.requests, *batch.garbage):
            request.value, request.error = None, None
            if batch.full and not request.frees:
                request.error = CatalogFull("the disk of the catalog's database is full")
                continue
            if not first:
                cursor.control("RELEASE SAVEPOINT request; SAVEPOINT request")
            first = False
            self._evaluate(batch, transaction, cursor, request)
        for request in batch.requests if not batch.full else ():
            if request.error is not None and request.blob is not None:
                # In the same transaction: a caller that tries again with the blob must meet that it is garbage.
                garbage = clearing(request.blob, request.future)
                cursor.control("RELEASE SAVEPOINT request; SAVEPOINT request")
                self._evaluate(batch, transaction, cursor, garbage)
                if garbage.error is None:
                    batch.cleared.append(request)
        transaction.before_commit()

    def _evaluate(
        self, batch: _Batch, transaction: Transaction, cursor: Cursor, request: WriteRequest
    ) -> None:
        try:
            request.value = request.function(transaction)
        except Exception as error:
            if isinstance(error, postgres.DriverError):
                if self._concerns_all(batch, error):
                    raise
                log.exception("a statement of a catalog transaction failed")
                request.error = batch_error(error, full=False)
            else:
                request.error = error
            cursor.control("ROLLBACK TO SAVEPOINT request")
            transaction.rolled_back()
        else:
            transaction.kept()

    def _concerns_all(self, batch: _Batch, error: Exception) -> bool:
        return (
            self._is_lost(error)
            or postgres.is_conflict(error)
            or postgres.is_full(error)
            or (postgres.is_duplicate(error) and batch.duplicates < _DUPLICATES_MAX)
        )

    def _commit(self, batch: _Batch, cursor: Cursor) -> None:
        began_s = time.perf_counter()
        try:
            became = cursor.control("COMMIT")
        except postgres.DriverError as error:
            if self._is_lost(error) or postgres.leaves_unknown(error):
                self._link.drop()
                if cursor.wrote:
                    raise _Unknown from error
                raise _Again from error
            if postgres.is_full(error):
                raise _Full from error
            if postgres.is_conflict(error):
                raise _Again from error
            raise
        if became != "COMMIT":
            raise _Again from RuntimeError(f"COMMIT became {became}")
        batch.commit_s = time.perf_counter() - began_s
        batch.wrote = cursor.wrote
        batch.committed = True
