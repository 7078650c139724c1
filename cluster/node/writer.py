"""The threads behind a node's log: the writer, who alone changes it, the flusher and the compactor.

The writer takes everything that waits (bounded), commits it as one group and hands the batch back. While it
waits for the disk the next group gathers: group commit without a timer. About once a second the flusher asks
it for a checkpoint and stores that beside it, so that no append waits for the index file. The compactor reads
what is to be moved and lets the writer append it in pieces.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, TypeVar

import lmdb

from cluster.node.compaction import Batch
from cluster.node.config import NodeConfig
from cluster.node.group import Write
from cluster.node.store import Store

log = logging.getLogger("trivet.node")

T = TypeVar("T")
_STOP: Final[list[Write]] = []
_PATIENCE_S: Final = 1.0  # between looks whether the writer is still there


class _Call:
    """Something that the writer thread shall do between two groups."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.work = work


class Writer:
    """Owns the threads. Bytes waiting are bounded by the caller (P8)."""

    def __init__(
        self,
        store: Store,
        config: NodeConfig,
        on_done: Callable[[list[Write]], None],
        on_dead: Callable[[BaseException], None],
    ) -> None:
        """`on_done` gets each batch with its outcomes, `on_dead` what ended a thread; both are called in
        that thread."""
        self._store = store
        self._config = config
        self._on_done = on_done
        self._on_dead = on_dead
        self._queue: queue.SimpleQueue[list[Write] | _Call] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._dead = threading.Event()
        self._writer = threading.Thread(target=self._guard, args=(self._write,), name="writer", daemon=True)
        self._flusher = threading.Thread(target=self._guard, args=(self._flush,), name="flusher", daemon=True)
        self._compactor = threading.Thread(
            target=self._guard, args=(self._compact,), name="compactor", daemon=True
        )

    def start(self) -> None:
        """Begin."""
        self._writer.start()
        self._flusher.start()
        self._compactor.start()

    def submit(self, writes: list[Write]) -> None:
        """Queue writes that arrived together; they are committed in order. Must not be empty."""
        self._queue.put(writes)

    def stop(self) -> None:
        """Commit what is queued, end the threads, close the store. Blocks; nothing is submitted after."""
        self._stopping.set()
        self._compactor.join()
        self._flusher.join()
        self._queue.put(_STOP)
        self._writer.join()
        self._store.close()

    def abandon(self) -> None:
        """End what is left of the threads after one of them died, and give the directory back as it is."""
        self._dead.set()
        self._stopping.set()
        self._queue.put(_STOP)
        self._compactor.join()
        self._flusher.join()
        self._writer.join()
        self._store.abandon()

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            log.critical("a thread of the node ended", exc_info=True)
            if isinstance(error, Exception) and not isinstance(error, OSError):
                self._store.distrust_index(repr(error))  # it has no checksums: nonsense in it ends here
            self._dead.set()
            self._on_dead(error)

    def _write(self) -> None:
        while True:
            item = self._queue.get()
            if isinstance(item, _Call):
                item.work()
                continue
            if item is _STOP:
                return
            batch, following = self._gather(item)
            self._store.commit(batch)
            self._on_done(batch)
            if following is not None:
                if following is _STOP:
                    return
                assert isinstance(following, _Call)
                following.work()

    def _gather(self, first: list[Write]) -> tuple[list[Write], list[Write] | _Call | None]:
        """All that waits behind `first`, up to a full batch, and a message that ends it."""
        batch = first
        nbytes = sum(len(write.payload) for write in batch)
        bytes_max, records_max = self._config.batch_bytes_max, self._config.batch_records_max
        with contextlib.suppress(queue.Empty):
            while nbytes < bytes_max and len(batch) < records_max:
                item = self._queue.get_nowait()
                if isinstance(item, _Call) or item is _STOP:
                    return batch, item
                batch += item
                nbytes += sum(len(write.payload) for write in item)
        return batch, None

    def _flush(self) -> None:
        failing = False
        while not self._stopping.wait(self._config.index_flush_s):
            checkpoint = self._in_writer(self._store.begin_checkpoint)
            if checkpoint is None:
                continue
            try:
                self._store.store_checkpoint(checkpoint)
                failing = False
            except (lmdb.Error, OSError) as error:
                if not failing:
                    log.warning("index not stored, trying again: %s", error)
                failing = True

    def _compact(self) -> None:
        compactor = self._store.compactor
        rest_s = 0.0
        while not self._stopping.wait(rest_s):
            rest_s = compactor.step(self._move)

    def _move(self, batch: Batch) -> bool:
        return bool(self._in_writer(lambda: self._store.move(batch)))

    def _in_writer(self, work: Callable[[], T]) -> T | None:
        """Let the writer do something between two groups; None when it is dead."""
        done: Future[T] = Future()
        self._queue.put(_Call(lambda: done.set_result(work())))
        while not self._dead.is_set():
            with contextlib.suppress(TimeoutError):
                return done.result(_PATIENCE_S)
        return None
