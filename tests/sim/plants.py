"""Bugs planted on purpose, to see that the simulation finds them. Each replaces a method while it is in force."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any, Final

from catalog import work
from catalog.errors import CatalogBusy
from catalog.log_chain import Chain, Log
from cluster import wire
from cluster.catalog_log import CatalogLog
from cluster.errors import LinkError
from cluster.ledger import Ledger
from cluster.node.commit import Committer
from cluster.node.group import Write
from cluster.node.records import Records
from cluster.node.segment import segment_path
from cluster.steward.catalog_snapshots import CatalogSnapshots
from cluster.steward.mend import Mender
from codec.block import BlockKey, Buffer, pack_key
from tests.sim.catalogs import GRACE_MS


@contextmanager
def _replaced(owner: type | ModuleType, name: str, bad: Callable[..., Any]) -> Iterator[None]:
    good = getattr(owner, name)
    setattr(owner, name, bad)
    try:
        yield
    finally:
        setattr(owner, name, good)


@contextmanager
def ack_before_sync() -> Iterator[None]:
    """A node answers a put as durable without having synced it (P1)."""

    def no_sync(self: Committer, group: object, **_: object) -> None:
        return None

    with _replaced(Committer, "_sync_group", no_sync):
        yield


@contextmanager
def drop_first() -> Iterator[None]:
    """Repair deletes the copies that it will not need before it writes the new ones (P7)."""
    mend = Mender.mend

    async def drop_then_mend(self: Mender, blob: Any, stretches: Any, **kwargs: Any) -> bool:
        stretches = list(stretches)
        services = self._services
        meta = await services.catalog.meta()
        for stretch in stretches:
            for shard, node in set(stretch.old) - set(stretch.new):
                link = services.nodes.link(node)
                keys = [pack_key(BlockKey(blob.id, n, shard)) for n in range(stretch.first, stretch.stop)]
                order = wire.DeleteBlocks(meta.catalog_id, meta.term, [(key, 0) for key in keys])
                if link is not None and link.up:
                    try:
                        await link.call(int(wire.Op.DELETE_BLOCKS), wire.encode(order), None, 5.0)
                    except LinkError:
                        await asyncio.sleep(0)
        return await mend(self, blob, stretches, **kwargs)

    with _replaced(Mender, "mend", drop_then_mend):
        yield


@contextmanager
def trust_memory() -> Iterator[None]:
    """A node verifies what its page cache holds instead of what its disk holds (STYLE 12, S2)."""

    def read_cache(self: Records, segment: int, offset: int, length: int) -> Buffer:
        fd = self._files.open(segment_path(self._directory, segment))
        buffer = bytearray(length)
        got = self._files.preadv(fd, buffer, offset)
        self._files.close(fd)
        return buffer[:got]

    with _replaced(Records, "read_disk", read_cache):
        yield


@contextmanager
def forget_incarnation() -> Iterator[None]:
    """A restarted node syncs its tail, and the writer takes that for all it had acknowledged before (S1)."""
    acknowledged, want_sync = Ledger.acknowledged, Committer._want_sync

    def carry_on(self: Ledger, stripe: int, copy: Any, appended: wire.Appended, nbytes: int) -> None:
        log = self._logs.get(copy[1])
        if log is not None:
            log.incarnation = appended.incarnation
        acknowledged(self, stripe, copy, appended, nbytes)

    def keep(self: Ledger, node: int, incarnation: int) -> None:
        return None

    def believe(self: Ledger, node: int, incarnation: int, position: int) -> None:
        for entry in self._logs[node].unsynced:
            self.durable(entry.stripe, (entry.shard, node))
        self._logs[node].unsynced = []

    def accept(self: Committer, group: Any, write: Write) -> None:
        assert isinstance(write.message, wire.Sync)
        write.message = wire.Sync(self._tail.incarnation, min(write.message.position, self._log.end))
        want_sync(self, group, write)

    with (
        _replaced(Ledger, "acknowledged", carry_on),
        _replaced(Ledger, "lost", keep),
        _replaced(Ledger, "synced", believe),
        _replaced(Committer, "_want_sync", accept),
    ):
        yield


@contextmanager
def collect_early() -> Iterator[None]:
    """Garbage is collected before its grace is over, under those who still read it (S21)."""
    due_garbage = work.due_garbage

    def due_early(reader: Any, numbers: Any, *, now_ms: int, limit: int) -> Any:
        return due_garbage(reader, numbers, now_ms=now_ms + GRACE_MS // 2, limit=limit)

    with _replaced(work, "due_garbage", due_early):
        yield


@contextmanager
def answer_unshipped() -> Iterator[None]:
    """A group commit is answered before the nodes have its record (S17)."""
    append = CatalogLog.append

    async def append_later(self: CatalogLog, catalog_id: bytes, records: Any) -> None:
        async def later() -> None:
            await asyncio.sleep(2.0)
            with suppress(CatalogBusy):
                await append(self, catalog_id, records)

        asyncio.ensure_future(later()).add_done_callback(lambda _: None)

    with _replaced(CatalogLog, "append", append_later):
        yield


@contextmanager
def trim_early() -> Iterator[None]:
    """The log is trimmed as soon as one node has the snapshot that takes its place (S17)."""
    ship = CatalogSnapshots._ship

    async def ship_to_one(self: CatalogSnapshots, *arguments: Any) -> Any:
        sink = self._sink
        self._sink = CatalogLog(sink._nodes, 1, read_term=sink._read_term)
        try:
            return await ship(self, *arguments)
        finally:
            self._sink = sink

    with _replaced(CatalogSnapshots, "_ship", ship_to_one):
        yield


@contextmanager
def snapshot_alone() -> Iterator[None]:
    """A restore takes the newest snapshot without what follows it (S17)."""

    def only_snapshots(self: Log, *, past_gaps: bool) -> Chain:
        self._batches.clear()
        return chain(self, past_gaps=past_gaps)

    chain = Log.chain
    with _replaced(Log, "chain", only_snapshots):
        yield


PLANTS: Final = {
    "ack-before-sync": ack_before_sync,
    "drop-first": drop_first,
    "trust-memory": trust_memory,
    "forget-incarnation": forget_incarnation,
    "collect-early": collect_early,
    "answer-unshipped": answer_unshipped,
    "trim-early": trim_early,
    "snapshot-alone": snapshot_alone,
}
