"""Group commit (S11, S12, S16, S27).

The event loop evaluates the requests of a batch one after another inside one transaction, each in a savepoint;
a side thread waits for the file lock and makes the commit and the checkpoints, the calls that take time. Answers,
refusals too, go out when the commit is durable. What a request becomes is decided here alone: a caller that is
cancelled changes nothing, and a blob handed over with its request is committed or queued as garbage.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from catalog import sqlite
from catalog.ballast import Ballast
from catalog.errors import CatalogBusy, CatalogFull, CommitUnknown
from catalog.lock import FileLock
from catalog.model import NewBlob
from catalog.recording import RecordingTransaction
from catalog.replication import Replication
from catalog.side_thread import SideThread
from catalog.transaction import Transaction
from catalog.write_queue import ABANDONED_PAUSE_S, QueueSettings, WriteQueue
from catalog.write_request import WriteRequest, batch_error, clearing

log = logging.getLogger(__name__)

_HAND_OVER_S = 0.005
_LEND_S = 0.0001
_LEND_EVERY_S = 0.002


def _tells_nobody(_writes: int, _seconds: float) -> None:
    """Nobody wants to hear of commits."""


class _State(Enum):
    IDLE = auto()
    LOCKING = auto()
    COMMITTING = auto()
    CHECKPOINTING = auto()
    DEAD = auto()


class _TransactionLost(Exception):
    """SQLite has undone the whole batch, or must."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class Writer:
    """Owned by the loop it was made on."""

    def __init__(
        self,
        *,
        connection: Any,
        lock: FileLock,
        ballast: Ballast,
        settings: QueueSettings,
        wal_bytes_max: int,
        begin: Callable[[Any], Transaction],
        data_version: Callable[[], int],
        on_fatal: Callable[[BaseException], None],
        replication: Callable[[Callable[[], None]], Replication] | None = None,
        side_thread: Callable[[str, asyncio.AbstractEventLoop], SideThread] = SideThread,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._cursor = connection.cursor()
        self._lock = lock
        self._ballast = ballast
        self._settings = settings
        self._wal_bytes_max = wal_bytes_max
        self._begin = begin
        self._data_version = data_version
        self._on_fatal = on_fatal
        self._replication = None if replication is None else replication(self._pump_soon)
        self._loop = asyncio.get_running_loop()
        self._monotonic = monotonic
        self._thread = side_thread("catalog-writer", self._loop)
        self._queue = WriteQueue(
            settings, too_late="the catalog's lock was not had in time", monotonic=monotonic
        )
        self._abandoned = self._queue.abandoned
        self._state = _State.IDLE
        self._pumping = False
        self._version_before = 0
        self._lent = 0.0
        self._idle_waiter: asyncio.Future[None] | None = None
        self._batch: list[WriteRequest] = []
        self._transaction: Transaction | None = None
        self._queued_as_garbage = 0
        self._checkpoint_due = False
        self._wrote = False
        self._commit_s = 0.0
        self.batches = 0
        self.on_commit: Callable[[int, float], None] = _tells_nobody

    @property
    def waiting(self) -> int:
        """Requests that no batch has taken up yet."""
        return len(self._queue)

    @property
    def at_work(self) -> bool:
        """Whether the side thread has a call under way."""
        return self._state is not _State.IDLE

    @property
    def replication(self) -> Replication | None:
        """What it does for the storage nodes' sake, if anything (S17)."""
        return self._replication

    def submit(
        self,
        function: Callable[[Transaction], Any],
        blob: NewBlob | None,
        frees: bool,
        unshipped: bool = False,
    ) -> asyncio.Future[Any]:
        """Queue a request; the future has its outcome once that is durable. Raises CatalogBusy (P8)."""
        if self._state is _State.DEAD:
            self._abandoned.add(blob)
            raise CatalogBusy("the catalog takes no writes any more")
        request = self._queue.add(function, blob, frees=frees, unshipped=unshipped)
        if self._state is _State.IDLE:
            self._pump_soon()
        else:
            self._queue.watch()
        return request.future

    def abandon(self, blob: NewBlob) -> None:
        """Queue a blob as garbage with the next batch. What does not fit is left to orphan collection."""
        self._abandoned.add(blob)
        self._pump_soon()

    def settle(self, version: int | None = None) -> None:
        """To be called often by what runs on the loop: lets the side thread come back when its call is over,
        which on a busy loop it could not by itself (side_thread.py). `version`: the data version as just
        read, if it was."""
        if self._state is _State.IDLE:
            return
        if self._state is _State.COMMITTING:
            now_at = self._data_version() if version is None else version
            # We hold the lock while committing: if the version moved since, it was our commit that moved it.
            if now_at != self._version_before:
                self._thread.settle(_HAND_OVER_S)
                return
        now = time.perf_counter()
        if now - self._lent > _LEND_EVERY_S:
            self._thread.settle(_LEND_S)
            self._lent = time.perf_counter()

    async def finish(self) -> bool:
        """Answer what waits, end the thread and take the lock, which the caller then has; False when it was
        not to be had in time, or the writer is dead. Submit nothing any more."""
        while self._state is not _State.DEAD and (self._is_wanted() or self.at_work or self._travels()):
            self._idle_waiter = self._loop.create_future()
            await self._idle_waiter
        self._queue.close()
        if self._replication is not None:
            self._replication.close()
        if self._state is _State.DEAD:
            return False
        if not self._lock.try_acquire():
            locked = self._loop.create_future()
            self._state = _State.LOCKING
            self._thread.start(self._lock.acquire, lambda _: locked.set_result(None))
            if not (await asyncio.wait([locked], timeout=self._settings.wait_s))[0]:
                return False  # the thread is a daemon: it keeps nobody waiting
        self._thread.close()
        return True

    def _pump_soon(self) -> None:
        # One turn later, so that all requests of this turn share the batch.
        if not self._pumping and self._state is _State.IDLE:
            self._pumping = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._pumping = False
        if self._state is not _State.IDLE:
            return
        if not self._is_wanted():
            self._wake_finish()
            return
        if self._waits_for_nodes():
            return
        if self._lock.try_acquire():
            self._run_batch()
            return
        self._state = _State.LOCKING
        self._queue.watch()
        self._thread.start(self._lock.acquire, self._locked)

    def _waits_for_nodes(self) -> bool:
        """Whether the next batch must. That has limits of its own: only what comes after it counts as waiting for the
        lock."""
        behind = self._replication is not None and self._replication.is_behind
        self._queue.hold(behind)
        return behind

    def _is_wanted(self) -> bool:
        """Whether there is something for a batch to do."""
        tidy = self._replication is not None and self._replication.tidy
        return bool(self._queue) or tidy or self._abandoned.are_due

    def _travels(self) -> bool:
        return self._replication is not None and self._replication.at_work

    def _wake_finish(self) -> None:
        if self._idle_waiter is not None and not self._idle_waiter.done():
            self._idle_waiter.set_result(None)

    def _locked(self, error: Exception | None) -> None:
        if error is not None:
            self._die(error)
        elif self._is_wanted():
            self._run_batch()
        else:
            self._lock.release()
            self._rest()

    def _run_batch(self) -> None:
        """With the lock: evaluate what waits and hand the commit to the thread."""
        self._batch, self._queued_as_garbage = [], 0
        full = not self._ballast.present() and not self._ballast.restore()
        try:
            self._checkpoint_due = full or sqlite.wal_bytes(self._cursor) > self._wal_bytes_max
            self._cursor.execute("BEGIN IMMEDIATE")
        except sqlite.DriverError as error:
            self._not_begun(error)
            return
        changes = self._connection.total_changes
        try:
            self._version_before = self._data_version()
            transaction = self._transaction = self._begin(self._cursor)
            if self._replication is not None:
                self._replication.begin()
            while self._queue and len(self._batch) < self._settings.batch_writes_max:
                request = self._queue.take()
                self._batch.append(request)
                if full and not request.frees:
                    self._fail(request, CatalogFull("the catalog's disk is full"))
                else:
                    self._evaluate(transaction, request)
            self._queue_garbage(transaction)
            transaction.before_commit()
            if self._replication is not None:
                assert isinstance(transaction, RecordingTransaction)
                awaited = any(not request.unshipped for request in self._batch)
                self._replication.end(transaction, awaited=awaited)
        except _TransactionLost as lost:
            self._undo(lost.error)
        except sqlite.DriverError as error:
            self._undo(error)
        else:
            self._end_batch(wrote=self._connection.total_changes != changes)

    def _end_batch(self, *, wrote: bool) -> None:
        self._state = _State.COMMITTING
        self._wrote = wrote
        if wrote:
            self._thread.start(self._commit, self._committed)
            return
        # Nothing to sync, and nothing would tell `settle` when it is over.
        try:
            self._commit()
        except sqlite.DriverError as error:
            self._committed(error)
        else:
            self._committed(None)

    def _not_begun(self, error: Exception) -> None:
        if sqlite.is_busy(error):
            # Some program that knows nothing of our lock is writing: what waits too long is refused meanwhile.
            self._state = _State.LOCKING
            self._queue.watch()
            self._thread.start(self._outwait, lambda _: self._locked(None))
            return
        log.error("the catalog's database fails", exc_info=error)
        for request in self._queue.take_all():
            self._fail(request, batch_error(error, full=False))
            request.deliver()
        self._lock.release()
        self._rest()

    def _outwait(self) -> None:
        """In the thread."""
        try:
            self._cursor.execute(f"PRAGMA busy_timeout = {int(self._settings.wait_s * 1000)}").fetchall()
            self._cursor.execute("BEGIN IMMEDIATE")
            self._cursor.execute("ROLLBACK")
        finally:
            self._cursor.execute("PRAGMA busy_timeout = 0").fetchall()

    def _fail(self, request: WriteRequest, error: Exception) -> None:
        """Refuse a request of which nothing will be committed; its blob is ours to clear away (S11)."""
        request.error = error
        self._abandoned.add(request.blob)
        request.blob = None

    def _evaluate(self, transaction: Transaction, request: WriteRequest) -> None:
        cursor = self._cursor
        cursor.execute("SAVEPOINT request")
        try:
            request.value = request.function(transaction)
        except Exception as error:
            if isinstance(error, sqlite.DriverError):
                if sqlite.is_full(error) or not self._connection.in_transaction:
                    raise _TransactionLost(error) from error
                log.exception("a statement of a catalog transaction failed")
                error = batch_error(error, full=False)
            cursor.execute("ROLLBACK TO request")
            transaction.rolled_back()
            self._fail(request, error)
        else:
            transaction.kept()
        cursor.execute("RELEASE request")

    def _queue_garbage(self, transaction: Transaction) -> None:
        """What failed, in this batch too, is queued in the same transaction."""
        blobs = self._abandoned.first()
        for blob in blobs:
            request = clearing(blob, self._loop.create_future())
            self._evaluate(transaction, request)
            if request.error is not None:
                log.error("blob %s is left to orphan collection", blob.id.hex(), exc_info=request.error)
        self._queued_as_garbage = len(blobs)

    def _commit(self) -> None:
        """In the thread."""
        began_s = time.perf_counter()
        self._cursor.execute("COMMIT")
        self._commit_s = time.perf_counter() - began_s
        if not self._checkpoint_due:
            self._lock.release()

    def _committed(self, error: Exception | None) -> None:
        if error is not None:
            if sqlite.is_full(error):
                self._undo(error)
            else:
                self._die(error)
            return
        assert self._transaction is not None
        self._transaction.committed()
        self.batches += 1
        if self._wrote:
            self.on_commit(len(self._batch), self._commit_s)
        self._abandoned.cleared(self._queued_as_garbage)
        self._deliver_batch()
        if self._checkpoint_due:
            self._state = _State.CHECKPOINTING
            self._thread.start(self._checkpoint, self._checkpointed)
        else:
            self._rest()

    def _deliver_batch(self) -> None:
        batch, self._batch = self._batch, []
        if self._replication is not None:
            self._replication.committed(batch)
            return
        for request in batch:
            request.deliver()

    def _rest(self) -> None:
        self._state = _State.IDLE
        # After the callbacks of the answers just given: what they ask for next shares the next batch.
        self._pumping = True
        self._loop.call_soon(self._pump)

    def _checkpoint(self) -> None:
        """In the thread."""
        try:
            sqlite.checkpoint(self._cursor)
        finally:
            self._lock.release()

    def _checkpointed(self, error: Exception | None) -> None:
        if error is not None:
            log.error("checkpoint of the catalog failed, the next batch tries again", exc_info=error)
        self._rest()

    def _undo(self, error: Exception) -> None:
        """The batch failed as a whole, before its commit: a known rollback (S11)."""
        full = sqlite.is_full(error)
        if self._replication is not None:
            self._replication.undone()
        try:
            if self._connection.in_transaction:
                self._cursor.execute("ROLLBACK")
        except sqlite.DriverError as second:
            self._die(second)
            return
        if not full:
            log.error("a group commit of the catalog was rolled back", exc_info=error)
        elif self._ballast.free():
            log.error("the catalog's disk is full: its ballast is freed, only requests that free space pass")
        self._fail_batch(error, full=full)
        self._abandoned.pause()
        self._loop.call_later(ABANDONED_PAUSE_S, self._pump_soon)
        if full:
            # A complete checkpoint lets the log begin anew in the room it has.
            self._state = _State.CHECKPOINTING
            self._thread.start(self._checkpoint, self._checkpointed)
        else:
            self._lock.release()
            self._rest()

    def _fail_batch(self, error: Exception, *, full: bool) -> None:
        """No answer of the batch stands, no refusal either: it may rest on what was undone (S12)."""
        if not self._batch and not full:  # it failed before it took any up: they would only fail again
            self._batch = self._queue.take_all()
        again = [request for request in self._batch if full and request.frees and not request.retried]
        for request in self._batch:
            request.value = None
            if request not in again:
                self._fail(request, batch_error(error, full=full))
                request.deliver()
        for request in again:
            request.retried, request.error = True, None
        self._queue.put_back(again)
        self._batch.clear()

    def _die(self, error: Exception) -> None:
        """The outcome of a commit is unknown: only a restart, which reads the log, can tell (S11)."""
        log.critical("the catalog cannot say whether it committed: ending the process", exc_info=error)
        self._on_fatal(error)
        self._state = _State.DEAD
        for request in [*self._batch, *self._queue.take_all()]:
            request.error = CommitUnknown(str(error))
            request.deliver()
        self._batch.clear()
        self._wake_finish()
