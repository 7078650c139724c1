"""A storage node: the real store, log, index, recovery and connections, with a virtual disk and one thread.

What the node's threads do, the loop does here after a delay: the writer takes all that waits, commits it and
answers; the flusher stores the index. A power loss may come between any two system calls.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cluster.node.compaction import Batch
from cluster.node.config import NodeConfig
from cluster.node.connection import Connection
from cluster.node.group import Write
from cluster.node.identity import SEGMENT_DIR, NodeRefused, initialise
from cluster.node.index import Checkpoint
from cluster.node.index_entry import TOMBSTONE, Entry, unpack_entry
from cluster.node.segment import segment_path
from cluster.node.service import Service
from cluster.node.store import Store
from cluster.node.verify import VerifyQueue
from cluster.node.writer import Writer
from cluster.wire import DeleteBlocks, Op
from codec.block import BlockCorrupt, pack_key, record_bytes, unpack_key, verify
from tests.sim.disk import PowerLost, SimDisk
from tests.sim.loop import Process, SimLoop
from tests.sim.network import Address, Network

CLUSTER_ID = b"simulated-store."
SECRET = b"a secret of the simulated store."
_DOWN_RETRY_S = 0.5


class SimPool(ThreadPoolExecutor):
    """Reads that wait for the disk: done after a while, in the loop."""

    def __init__(self, loop: SimLoop, chance: random.Random) -> None:
        self._sim_loop = loop
        self._chance = chance

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._sim_loop.call_later(0.0005 + 0.003 * self._chance.random(), self._do, future, fn, args, kwargs)
        return future

    @staticmethod
    def _do(future: Future[Any], fn: Callable[..., Any], args: Any, kwargs: Any) -> None:
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - it belongs to the one who asked
            future.set_exception(error)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """There are no threads."""


class SimWriter(Writer):
    """The writer thread and the flusher, as callbacks."""

    def __init__(self, node: SimNode, store: Store, on_done: Callable[[list[Write]], None]) -> None:
        self._node = node
        self._store = store
        self._on_done = on_done
        self._waiting: list[Write] = []
        self._busy = False
        self._flush_soon()
        self._compact_soon(0.0)

    def submit(self, writes: list[Write]) -> None:
        self._waiting += writes
        if not self._busy:
            self._busy = True
            self._node.loop.call_later(self._node.disk_delay_s(), self._commit)

    def _commit(self) -> None:
        batch, self._waiting = self._waiting, []
        self._busy = False
        if not batch:
            return  # the compactor was faster
        with self._node.watching(batch):
            self._store.commit(batch)
        if not self._node.process.dead:
            self._on_done(batch)

    def _flush_soon(self) -> None:
        self._node.loop.call_later(self._node.config.index_flush_s, self._begin_checkpoint)

    def _begin_checkpoint(self) -> None:
        checkpoint = None
        with self._node.watching([]):
            checkpoint = self._store.begin_checkpoint()
        if checkpoint is None:
            self._flush_soon()
        else:
            self._node.loop.call_later(self._node.disk_delay_s(), self._store_checkpoint, checkpoint)

    def _store_checkpoint(self, checkpoint: Checkpoint) -> None:
        with self._node.watching([]):
            self._store.store_checkpoint(checkpoint)
        self._flush_soon()

    def _compact_soon(self, rest_s: float) -> None:
        self._node.loop.call_later(max(rest_s, 0.1), self._compact)

    def _compact(self) -> None:
        with self._node.watching([]):
            self._compact_soon(self._store.compactor.step(self._move))

    def _move(self, batch: Batch) -> bool:
        """What came in while the compactor was reading is committed first."""
        if self._waiting:
            self._commit()
        for move in batch.moves:
            self._node.moved[move.key] = unpack_entry(move.raw)
        return self._store.move(batch)


class SimService(Service):
    """What connections share, without threads."""

    def __init__(self, node: SimNode, store: Store) -> None:
        super().__init__(node.config, store)
        self._node = node
        self.pool = SimPool(node.loop, node.chance)
        self.writer = SimWriter(node, store, self._committed)
        self.verifying = VerifyQueue(store.checker, self.pool, 1)
        if node.config.scrub_bytes_per_s:
            self._scrub_soon(0.1)

    def _scrub_soon(self, rest_s: float) -> None:
        self._node.loop.call_later(max(rest_s, 0.1), self._scrub_on)

    def _scrub_on(self) -> None:
        with self._node.watching([]):
            self._scrub_soon(self.store.scrub.step())


class _Watch:
    """Around work of a store: a power loss in it ends the node; deletes are shown to the invariants."""

    def __init__(self, node: SimNode, batch: list[Write]) -> None:
        self._node = node
        self._doomed = [key for write in batch if write.op == Op.DELETE_BLOCKS for key in _keys(write)]

    def __enter__(self) -> None:
        if self._doomed:
            self._node.before_delete(self._node, self._doomed)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        if kind is PowerLost:
            self._node.crash(power=True)
        if self._doomed:
            self._node.after_delete(self._node, self._doomed)
        return kind is PowerLost


def _keys(write: Write) -> list[bytes]:
    message = write.message
    assert isinstance(message, DeleteBlocks)
    return [key for key, _ in message.blocks]


class SimNode:
    """One node and its machine. `config` and the directory outlive crashes, as does the disk."""

    before_delete: Callable[[SimNode, list[bytes]], None] = staticmethod(lambda node, keys: None)
    after_delete: Callable[[SimNode, list[bytes]], None] = staticmethod(lambda node, keys: None)

    def __init__(
        self,
        number: int,
        *,
        loop: SimLoop,
        network: Network,
        folder: Path,
        chance: random.Random,
        note: Callable[[str], None],
    ) -> None:
        self.number = number
        self.name = f"node-{number}"
        self.node_id = number.to_bytes(16, "big")
        self.address: Address = (self.name, 1)
        self.loop = loop
        self.network = network
        self.chance = chance
        self.disk = SimDisk()
        self.note = note
        self.process = Process(self.name)
        self.process.kill()
        self.store: Store | None = None
        self.down_since = 0.0
        self.slow_s = 0.0  # what each disk operation takes longer than usual
        self._incarnation = number << 32
        self.moved: dict[
            bytes, Entry
        ] = {}  # where the compaction took a block from last: it is there until synced
        self._left: dict[bytes, Entry] = {}  # what the index of a node that is down said last
        self.config = NodeConfig(
            directory=folder / self.name,
            cluster_id=CLUSTER_ID,
            secret=SECRET,
            node_id=self.node_id,
            segment_bytes=1 << 16,
            index_map_bytes=1 << 24,
            index_flush_s=3.0,
            reserve_bytes=0,
            scrub_bytes_per_s=1 << 16,
            scrub_pause_s=8.0,
        )
        self.config.directory.mkdir()
        initialise(
            self.config.directory,
            cluster_id=CLUSTER_ID,
            name=self.name,
            region=f"region-{number}",
            zone="",
            files=self.disk,
            node_id=self.node_id,
        )

    @property
    def alive(self) -> bool:
        """Whether its process runs (it may be frozen)."""
        return not self.process.dead

    @property
    def impaired(self) -> bool:
        """Whether it may be late or silent."""
        return self.process.dead or self.process.frozen or self.slow_s > 0

    def start(self) -> None:
        """Start the process; one that loses power in its recovery, or is refused, is started again later."""
        assert self.process.dead
        self.process = Process(self.name)
        self.process.context.run(self._open)

    def _open(self) -> None:
        try:
            self.store = Store.open(
                self.config, self.disk, clock=self.loop.time, new_incarnation=self._new_incarnation
            )
        except PowerLost:
            self.note(f"{self.name} lost power in its recovery")
            self._open_later(power=True)
        except (NodeRefused, OSError) as error:
            self.note(f"{self.name} refused to start: {error}")
            self._open_later(power=False)
        else:
            self._left = {}
            service = SimService(self, self.store)
            self.network.listeners[self.address] = _Door(self.process, service)
            self.note(f"{self.name} started")

    def _open_later(self, *, power: bool) -> None:
        if power:
            self.disk.power_cut(self.chance)
        else:
            self.disk.kill()
        self.process.kill()
        self.loop.call_later(_DOWN_RETRY_S, self._start_again, context=_nobody())

    def _start_again(self) -> None:
        if self.process.dead:
            self.start()

    def _new_incarnation(self) -> int:
        self._incarnation += 1
        return self._incarnation

    def crash(self, *, power: bool) -> None:
        """The process ends here and now; with `power` the page cache goes too."""
        if self.process.dead:
            return
        self.note(f"{self.name} {'loses power' if power else 'is killed'}")
        self.process.kill()
        self.down_since = self.loop.now
        self.network.listeners.pop(self.address, None)
        store, self.store = self.store, None
        assert store is not None
        self._left = dict(_entries(store))
        store.abandon()
        if power:
            self.disk.power_cut(self.chance)
        else:
            self.disk.kill()
        for path in self.network.paths_to(self.address):
            path.cut()

    def freeze(self) -> None:
        """SIGSTOP."""
        self.note(f"{self.name} freezes")
        self.down_since = self.loop.now
        self.process.freeze()

    def thaw(self) -> None:
        """SIGCONT."""
        if self.process.frozen:
            self.note(f"{self.name} thaws")
            self.process.thaw()

    def watching(self, batch: list[Write]) -> _Watch:
        """See _Watch."""
        return _Watch(self, batch)

    def disk_delay_s(self) -> float:
        """How long the next append and its sync take."""
        return 0.0002 + 0.002 * self.chance.random() + self.slow_s

    def entry(self, key: bytes) -> Entry | None:
        """Where the index says that a block lies; a node that is down: said."""
        if self.store is None:
            return self._left.get(key)
        raw = self.store._index.get(key)
        entry = unpack_entry(raw) if raw is not None else None
        return None if entry is None or entry.payload_length == TOMBSTONE else entry

    def file_of(self, entry: Entry) -> Path:
        """The segment that an entry points into."""
        return segment_path(self.config.directory / SEGMENT_DIR, entry.segment)

    def holds(self, key: bytes) -> bool:
        """Whether a good copy of a block is on the disk itself, past every cache."""
        entry = self.entry(key)
        if entry is None:
            return False
        if self._is_whole(key, entry):
            return True
        before = self.moved.get(key)
        return before is not None and before.sequence == entry.sequence and self._is_whole(key, before)

    def _is_whole(self, key: bytes, entry: Entry) -> bool:
        file = self.disk.files.get(self.file_of(entry))
        if file is None:
            return False
        length = record_bytes(entry.payload_length)
        try:
            verify(bytes(file.durable[entry.offset : entry.offset + length]), unpack_key(key))
        except BlockCorrupt:
            return False
        return True

    def listed(self) -> list[bytes]:
        """All blocks that it lists."""
        return [key for key, _ in _entries(self.store)] if self.store is not None else sorted(self._left)

    def close(self) -> None:
        """At the end of a schedule."""
        if self.store is not None:
            self.store.abandon()
            self.store = None


class _Door:
    """Listens for a node."""

    def __init__(self, process: Process, service: Service) -> None:
        self.process = process
        self._service = service

    def accept(self) -> asyncio.BufferedProtocol:
        return Connection(self._service)


def _entries(store: Store) -> list[tuple[bytes, Entry]]:
    found: list[tuple[bytes, Entry]] = []
    after, more = b"", True
    while more:
        page, more = store._index.page(after, 10_000)
        found += page
        after = page[-1][0] if page else b""
    return found


def _nobody() -> Any:
    from contextvars import Context

    return Context()


__all__ = ["CLUSTER_ID", "SECRET", "SimNode", "pack_key"]
