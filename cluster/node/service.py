"""What all connections of a node share: store, threads, and the count of what is queued (P8)."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Final, Protocol, cast

from cluster.node.config import NodeConfig
from cluster.node.group import Write
from cluster.node.scrub import Scrubber
from cluster.node.store import Store
from cluster.node.verify import VerifyQueue
from cluster.node.writer import Writer
from cluster.wire import NodeStatus

log = logging.getLogger("trivet.node")

_TICK_S: Final = 1.0


class Client(Protocol):
    """What is asked of a connection from here."""

    def answer_write(self, write: Write) -> None: ...

    def flush(self) -> None: ...

    def work(self) -> None: ...

    def stop(self) -> None: ...

    def close(self) -> None: ...


class ScrubThread:
    """Owns the thread that scrubs.

    It has no lower priority in the kernel: it would then be made to wait while it holds the GIL. What it may
    cost is bounded by the rate and by the size of a step.
    """

    def __init__(self, scrub: Scrubber) -> None:
        self._scrub = scrub
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scrub", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the step under way; before the store is closed. Also when it was never started."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        rest_s = 0.0
        try:
            while not self._stopping.wait(rest_s):
                rest_s = self._scrub.step()
        except Exception:
            # Outermost edge: blocks are served without it, and NodeStatus shows that it stands still.
            log.critical("the scrub ended", exc_info=True)


class Service:
    """What all connections of a node share. Lives on one event loop."""

    def __init__(self, config: NodeConfig, store: Store, *, pool: Executor | None = None) -> None:
        """`pool` is where reads wait for the disk; by default one with threads."""
        self.config = config
        self.store = store
        self.loop = asyncio.get_running_loop()
        self.dead: asyncio.Future[None] = self.loop.create_future()  # set when a thread of ours ended
        self.connections: set[Client] = set()
        self.queued_bytes = 0  # of all connections: received, not yet answered
        self.pool = pool or ThreadPoolExecutor(config.read_threads, thread_name_prefix="read")
        self.writer = Writer(store, config, self._committed, self._thread_ended)
        self.verifying = VerifyQueue(store.checker, self.pool, max(1, config.read_threads // 2))
        self._scrub = ScrubThread(store.scrub)
        self.stopping = False
        self._waiting: collections.deque[Client] = collections.deque()  # for queued_bytes to fall
        self._ticker = self.loop.call_later(_TICK_S, self._tick)

    def start(self) -> None:
        """Begin to write and to scrub."""
        self.writer.start()
        if self.config.scrub_bytes_per_s:
            self._scrub.start()

    def _tick(self) -> None:
        self.store.release_reader()
        if self.store.index_damage:
            self._thread_ended(RuntimeError(f"the index is damaged: {self.store.index_damage}"))
        self._ticker = self.loop.call_later(_TICK_S, self._tick)

    def _committed(self, batch: list[Write]) -> None:
        """Writer thread: hand the outcomes to the loop, once for the whole batch."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(self._answer, batch)

    def _answer(self, batch: list[Write]) -> None:
        touched: dict[Client, None] = {}  # in the order of their writes
        for write in batch:
            connection = cast("Client", write.origin)
            self.queued_bytes -= write.nbytes
            connection.answer_write(write)
            touched[connection] = None
        for connection in touched:
            connection.flush()
            connection.work()
        while self._waiting and self.queued_bytes <= self.config.queue_bytes_max:
            self._waiting.popleft().work()

    def wait_for_room(self, connection: Client) -> None:
        """Call the connection's `work` when other connections' writes are done."""
        if connection not in self._waiting:
            self._waiting.append(connection)

    def status(self) -> NodeStatus:
        """Of the node as a whole."""
        return self.store.status(queued_bytes=self.queued_bytes, peers=len(self.connections))

    def stop(self) -> None:
        """Take no more requests; what was taken is still answered."""
        self.stopping = True
        for connection in self.connections:
            connection.stop()

    def finish(self) -> None:
        """After `stop`, in a thread: wait for reads and writes under way, close the store."""
        self._scrub.stop()
        self.pool.shutdown()
        self.writer.stop()

    def abandon(self) -> None:
        """Instead of `finish`, when a thread of ours died."""
        self._scrub.stop()
        self.pool.shutdown()
        self.writer.abandon()

    def close(self) -> None:
        """Close all connections, once their replies are out."""
        self._ticker.cancel()
        self.pool.shutdown(wait=False)
        for connection in tuple(self.connections):
            connection.close()

    def _thread_ended(self, error: BaseException) -> None:
        def tell() -> None:
            if not self.dead.done():
                self.dead.set_exception(RuntimeError(f"the node can't go on: {error!r}"))

        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(tell)
