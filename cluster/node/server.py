"""A node process: what its connections share, and its life from start to stop."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from cluster.node.config import NodeConfig
from cluster.node.files import FileLayer, RealFiles
from cluster.node.group import Write
from cluster.node.store import Store
from cluster.node.writer import Writer
from cluster.wire import (
    BlockRead,
    Op,
    encode,
    encode_frame,
)

T = TypeVar("T")
log = logging.getLogger("trivet.node")

_KEY: Final = struct.Struct(">16sIB")
_WRITES: Final = frozenset({Op.PUT_BLOCK, Op.DELETE_BLOCKS, Op.SYNC, Op.FENCE})
_FIRST_PAGE: Final = encode(BlockRead(0))
_FLUSH_BYTES: Final = 1 << 20  # replies queued in one turn before they are given to the transport
_POOLED_READ_BYTES: Final = 512 << 10  # what a read under way counts against reply_bytes_max
_WRITE_OVERHEAD_BYTES: Final = 256  # what a queued request costs besides its bytes
_TICK_S: Final = 1.0
_READ_ROOM: Final = len(encode_frame(0, 0, 0, 0, _FIRST_PAGE, 0))


class NodeServer:
    """What all connections of a node share. Lives on one event loop."""

    def __init__(self, config: NodeConfig, store: Store) -> None:
        self.config = config
        self.store = store
        self.loop = asyncio.get_running_loop()
        self.dead: asyncio.Future[None] = self.loop.create_future()  # set when a thread of ours ended
        self.connections: set[Connection] = set()
        self.queued_bytes = 0  # of all connections: received, not yet answered
        self.pool = ThreadPoolExecutor(config.read_threads, thread_name_prefix="read")
        self.writer = Writer(store, config, self._committed, self._thread_ended)
        self.stopping = False
        self._waiting: collections.deque[Connection] = collections.deque()  # for queued_bytes to fall
        self._ticker = self.loop.call_later(_TICK_S, self._tick)

    def _tick(self) -> None:
        self.store.release_reader()
        self._ticker = self.loop.call_later(_TICK_S, self._tick)

    def _committed(self, batch: list[Write]) -> None:
        """Writer thread: hand the outcomes to the loop, once for the whole batch."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(self._answer, batch)

    def _answer(self, batch: list[Write]) -> None:
        touched: set[Connection] = set()
        for write in batch:
            connection = write.origin
            assert isinstance(connection, Connection)
            self.queued_bytes -= write.nbytes
            connection.answer_write(write)
            touched.add(connection)
        for connection in touched:
            connection.flush()
            connection.work()
        while self._waiting and self.queued_bytes <= self.config.queue_bytes_max:
            self._waiting.popleft().work()

    def wait_for_room(self, connection: Connection) -> None:
        """Call the connection's `work` when other connections' writes are done."""
        if connection not in self._waiting:
            self._waiting.append(connection)

    def stop(self) -> None:
        """Take no more requests; what was taken is still answered."""
        self.stopping = True
        for connection in self.connections:
            connection.stop()

    def finish(self) -> None:
        """After `stop`, in a thread: wait for reads and writes under way, close the store."""
        self.pool.shutdown()
        self.writer.stop()

    def close(self) -> None:
        """Close all connections, once their replies are out."""
        self._ticker.cancel()
        self.pool.shutdown(wait=False)
        for connection in tuple(self.connections):
            connection.close()

    def _thread_ended(self, error: BaseException) -> None:
        def tell() -> None:
            if not self.dead.done():
                self.dead.set_exception(RuntimeError(f"a thread of the node ended: {error!r}"))

        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(tell)


async def serve(
    config: NodeConfig, sock: socket.socket, on_ready: Callable[[], None], files: FileLayer | None = None
) -> None:
    """Run a node on the listening `sock` until cancelled; then finish, sync and close everything.

    `on_ready` is called once requests are served. Raises NodeRefused (S23) or OSError when the directory
    can't be served, RuntimeError when the node can't go on; the process must end then.
    """
    loop = asyncio.get_running_loop()
    store = await loop.run_in_executor(None, Store.open, config, files or RealFiles())
    server = NodeServer(config, store)
    server.writer.start()
    listener = await loop.create_server(lambda: Connection(server), sock=sock)
    log.info("node %s serves %d blocks", store.identity.name, store.status().blocks)
    on_ready()
    try:
        await server.dead
    except asyncio.CancelledError:
        listener.close()
        server.stop()
        await loop.run_in_executor(None, server.finish)
        log.info("node %s stopped", store.identity.name)
        raise
    finally:
        listener.close()
        server.close()
