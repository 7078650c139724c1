"""The two threads behind a node's log: the writer, who alone changes it, and the flusher.

The writer takes everything that waits (bounded), commits it as one group and hands the batch back. While it
waits for the disk the next group gathers: group commit without a timer. About once a second the flusher asks
it for a checkpoint and stores that beside it, so that no append waits for the index file.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

import lmdb

from cluster.node.config import NodeConfig
from cluster.node.group import Write
from cluster.node.index import Checkpoint
from cluster.node.store import Store

log = logging.getLogger("trivet.node")

_STOP: Final[list[Write]] = []
_PATIENCE_S: Final = 1.0  # between looks whether the writer is still there
_CheckpointWanted = Future[Checkpoint | None]


class Writer:
    """Owns both threads. Bytes waiting are bounded by the caller (P8)."""

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
        self._queue: queue.SimpleQueue[list[Write] | _CheckpointWanted] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._dead = threading.Event()
        self._writer = threading.Thread(target=self._guard, args=(self._write,), name="writer", daemon=True)
        self._flusher = threading.Thread(target=self._guard, args=(self._flush,), name="flusher", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._writer.start()
        self._flusher.start()

    def submit(self, writes: list[Write]) -> None:
        """Queue writes that arrived together; they are committed in order. Must not be empty."""
        self._queue.put(writes)

    def stop(self) -> None:
        """Commit what is queued, end both threads, close the store. Blocks; nothing is submitted after."""
        self._stopping.set()
        self._flusher.join()
        self._queue.put(_STOP)
        self._writer.join()
        self._store.close()

    def abandon(self) -> None:
        """End what is left of the threads after one of them died, and give the directory back as it is."""
        self._dead.set()
        self._stopping.set()
        self._queue.put(_STOP)
        self._flusher.join()
        self._writer.join()
        self._store.abandon()

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            log.critical("a thread of the node ended", exc_info=True)
            self._dead.set()
            self._on_dead(error)

    def _write(self) -> None:
        while True:
            item = self._queue.get()
            if isinstance(item, Future):
                item.set_result(self._store.begin_checkpoint())
                continue
            if item is _STOP:
                return
            batch, following = self._gather(item)
            self._store.commit(batch)
            self._on_done(batch)
            if following is not None:
                if following is _STOP:
                    return
                assert isinstance(following, Future)
                following.set_result(self._store.begin_checkpoint())

    def _gather(self, first: list[Write]) -> tuple[list[Write], list[Write] | _CheckpointWanted | None]:
        """All that waits behind `first`, up to a full batch, and a message that ends it."""
        batch = first
        nbytes = sum(len(write.payload) for write in batch)
        bytes_max, records_max = self._config.batch_bytes_max, self._config.batch_records_max
        with contextlib.suppress(queue.Empty):
            while nbytes < bytes_max and len(batch) < records_max:
                item = self._queue.get_nowait()
                if isinstance(item, Future) or item is _STOP:
                    return batch, item
                batch += item
                nbytes += sum(len(write.payload) for write in item)
        return batch, None

    def _flush(self) -> None:
        failing = False
        while not self._stopping.wait(self._config.index_flush_s):
            wanted: _CheckpointWanted = Future()
            self._queue.put(wanted)
            checkpoint = self._wait_for(wanted)
            if checkpoint is None:
                continue
            try:
                self._store.store_checkpoint(checkpoint)
                failing = False
            except (lmdb.Error, OSError) as error:
                if not failing:
                    log.warning("index not stored, trying again: %s", error)
                failing = True

    def _wait_for(self, wanted: _CheckpointWanted) -> Checkpoint | None:
        while not self._dead.is_set():
            with contextlib.suppress(TimeoutError):
                return wanted.result(_PATIENCE_S)
        return None
