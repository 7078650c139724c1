"""A store on a MemoryDisk with short words for what tests do to it."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

from cluster.node.compaction import LOOK_S
from cluster.node.config import NodeConfig
from cluster.node.group import Write
from cluster.node.identity import NodeIdentity, initialise
from cluster.node.index_entry import GONE, TOMBSTONE, unpack_entry
from cluster.node.segment import segment_path
from cluster.node.store import BlockMissing, Store
from cluster.wire import (
    Appended,
    DeleteBlocks,
    Fence,
    Message,
    Op,
    PutBlock,
    Status,
    Sync,
)
from codec.block import BlockKey, pack_key, page_checksums, record_bytes, verify
from tests.cluster.node.memory_disk import MemoryDisk

CLUSTER = b"c" * 16
NODE = b"n" * 16
CATALOG = b"k" * 16
SECRET = b"s" * 32


def key_of(number: int) -> BlockKey:
    return BlockKey(number.to_bytes(16, "big"), 0, 1)


def payload_of(number: int, size: int = 100) -> bytes:
    return random.Random(number).randbytes(size)


def put_write(
    key: BlockKey, payload: bytes, *, sync: bool = True, deadline: float = 0.0, repair: bool = False
) -> Write:
    message = PutBlock(*key, 2, 1, 1, 2 * len(payload), page_checksums(payload), sync, repair)
    return Write(Op.PUT_BLOCK, message, payload, deadline=deadline)


def delete_write(*blocks: tuple[BlockKey, int], catalog: bytes = CATALOG, term: int = 1) -> Write:
    return Write(
        Op.DELETE_BLOCKS, DeleteBlocks(catalog, term, [(pack_key(key), copy) for key, copy in blocks])
    )


class NodeBench:
    """One node's directory through starts, crashes and faults."""

    def __init__(self, directory: Path, disk: MemoryDisk | None = None, **settings: object) -> None:
        self.directory = directory
        self.disk = disk if disk is not None else MemoryDisk()
        self.now = 100.0
        arguments: dict[str, object] = {"index_map_bytes": 1 << 24, "reserve_bytes": 0} | settings
        self.config = NodeConfig(
            directory=directory,
            cluster_id=CLUSTER,
            secret=SECRET,
            **arguments,  # type: ignore[arg-type]
        )
        directory.mkdir(exist_ok=True)
        self.identity: NodeIdentity = initialise(
            directory,
            cluster_id=CLUSTER,
            node_id=NODE,
            name="node-1",
            region="r",
            zone="z",
            files=self.disk,
        )
        self._incarnations = itertools.count(1)
        self.open()

    def open(self) -> Store:
        self.store = Store.open(
            self.config,
            self.disk,
            clock=lambda: self.now,
            new_incarnation=lambda: next(self._incarnations),
        )
        return self.store

    # -- ends of a process -------------------------------------------------------------------------------

    def kill(self) -> None:
        """SIGKILL and start again."""
        self.store.abandon()
        self.disk.kill()
        self.open()

    def power_cut(self, seed: int = 0) -> None:
        """Power fails and comes back."""
        self.store.abandon()
        self.disk.power_cut(random.Random(seed))
        self.open()

    def restart(self) -> None:
        """A clean stop and a start."""
        self.store.close()
        self.open()

    def lose_index(self) -> None:
        """Stop as a crash would, delete the index, start again."""
        self.store.abandon()
        for path in (self.directory / "index").iterdir():
            path.unlink()
        self.disk.kill()
        self.open()

    # -- requests ------------------------------------------------------------------------------------------

    def commit(self, *writes: Write) -> list[Status]:
        self.store.commit(list(writes))
        return [write.status for write in writes]

    def ask(self, op: Op, message: Message) -> Write:
        write = Write(op, message)
        self.commit(write)
        return write

    def put(self, number: int, payload: bytes | None = None, *, sync: bool = True) -> Status:
        (status,) = self.commit(put_write(key_of(number), self.data(number, payload), sync=sync))
        return status

    def append(
        self, number: int, payload: bytes | None = None, *, sync: bool = False, repair: bool = False
    ) -> Appended:
        write = put_write(key_of(number), self.data(number, payload), sync=sync, repair=repair)
        self.commit(write)
        assert isinstance(write.answer, Appended), write.answer
        return write.answer

    @staticmethod
    def data(number: int, payload: bytes | None) -> bytes:
        return payload_of(number) if payload is None else payload

    def delete(self, number: int, copy: int = 0) -> Status:
        (status,) = self.commit(delete_write((key_of(number), copy)))
        return status

    def sync(self, incarnation: int, position: int) -> Status:
        return self.ask(Op.SYNC, Sync(incarnation, position)).status

    def fence(self, catalog: bytes, term: int) -> Status:
        return self.ask(Op.FENCE, Fence(catalog, term)).status

    def read(self, number: int) -> bytes | None:
        """The verified payload, or None when the node has no such block."""
        try:
            record, first_page = self.store.read(pack_key(key_of(number)), 0, 0, 0, False)
        except BlockMissing:
            return None
        assert first_page == 0
        return bytes(verify(record, key_of(number)).payload)

    def held(self) -> dict[bytes, int]:
        """Key -> sequence of all blocks, as an inventory tells."""
        found: dict[bytes, int] = {}
        after = b""
        while True:
            page = self.store.inventory(after, 3)
            found.update((key, sequence) for key, sequence, _ in page.entries)
            if not page.more:
                return found
            after = page.entries[-1][0]

    def checkpoint(self) -> None:
        checkpoint = self.store.begin_checkpoint()
        if checkpoint is not None:
            self.store.store_checkpoint(checkpoint)

    def compact(self, rounds: int = 4) -> None:
        """Let the compaction come to its end. A round drops what the one before it emptied."""
        for _ in range(rounds):
            self.compact_pass()
            self.checkpoint()

    def compact_pass(self) -> None:
        """Up to where the compaction finds nothing more to do before the next checkpoint."""
        while self.store.compactor.step(self.store.move) != LOOK_S:
            pass

    def check_usage(self) -> None:
        """The accounts of the segments, in memory and in the index file, against the entries themselves."""
        index = self.store._index
        expected: dict[int, tuple[int, int, int]] = {}
        for raw in self.entries().values():
            entry = unpack_entry(raw)
            blocks, nbytes, tombstones = expected.get(entry.segment, (0, 0, 0))
            if entry.payload_length == TOMBSTONE:
                tombstones += 1
            else:
                blocks, nbytes = blocks + 1, nbytes + record_bytes(entry.payload_length)
            expected[entry.segment] = blocks, nbytes, tombstones
        found = {}
        for number in index.usage.numbers():
            use = index.usage.of(number)
            assert use is not None
            if use.live_bytes:
                found[number] = use.blocks, use.nbytes, use.tombstones
        assert found == expected

    def entries(self) -> dict[bytes, bytes]:
        """All packed entries that the node knows, tombstones too."""
        index = self.store._index
        with index.begin() as txn:
            keys = {bytes(key) for db in (index._blocks, index._log) for key, _ in txn.cursor(db)}
        for layer in (index._unsynced, index._recent, index._flushing):
            keys |= layer.keys()
        entries = {key: index.get(key) for key in sorted(keys)}
        return {key: raw for key, raw in entries.items() if raw is not None and raw != GONE}

    def damage(self) -> dict[str, int]:
        return self.store.status().damage

    # -- the disk ------------------------------------------------------------------------------------------

    def segment(self, number: int) -> Path:
        return segment_path(self.directory / "segments", number)

    def segments(self) -> list[Path]:
        return sorted(path for path in self.disk.files if path.suffix == ".seg")

    def place(self, number: int) -> tuple[Path, int]:
        """Segment file and offset of the newest record of a block."""
        blob = key_of(number).blob
        for path in reversed(self.segments()):
            content = self.disk.files[path].live
            at = content.rfind(blob)
            while at >= 32:
                if content[at - 32 : at - 26] == b"TRVR\x01\x01":
                    return path, at - 32
                at = content.rfind(blob, 0, at + 15)
        raise AssertionError("no record of that block")

    def place_of(self, number: int) -> int:
        """The segment that the index names for a block."""
        raw = self.store._index.get(pack_key(key_of(number)))
        assert raw is not None
        return unpack_entry(raw).segment

    def rot(self, number: int, at: int = 80, bit: int = 1) -> None:
        """Flip a bit of a block's record, on the disk and in the cache."""
        path, offset = self.place(number)
        file = self.disk.files[path]
        file.settle()
        for content in (file.live, file.durable):
            content[offset + at] ^= bit
