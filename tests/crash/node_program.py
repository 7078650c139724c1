"""What the node's crash test records: puts, deletes, syncs, repair puts, checkpoints and compaction of one store.

    python -m tests.crash.node_program DIRECTORY MARKS SEED

One thread, so that the marks stand in order among the calls; everything below it is the node's own code.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from random import Random

from cluster.node.config import NodeConfig
from cluster.node.files import RealFiles
from cluster.node.group import Write
from cluster.node.identity import initialise
from cluster.node.store import Store
from cluster.wire import Appended, Op, Status, Sync
from tests.cluster.node.node_bench import CLUSTER, NODE, SECRET, delete_write, key_of, payload_of, put_write

KEYS = 24
ROUNDS = 90
SEGMENT_BYTES = 1 << 16


def config_of(directory: Path) -> NodeConfig:
    """Small segments, so that many of them are begun, sealed and compacted."""
    return NodeConfig(
        directory=directory,
        cluster_id=CLUSTER,
        secret=SECRET,
        segment_bytes=SEGMENT_BYTES,
        index_map_bytes=1 << 24,
        reserve_bytes=0,
    )


def payload(key: int, version: int) -> bytes:
    """What a key holds in one of its lives. Versions of one key alternate with deletes: a block never changes."""
    return payload_of(key * 1000 + version, 200 + 1500 * (key % 4))


class Program:
    """A store under random requests, and the marks of how far each was acknowledged."""

    def __init__(self, directory: Path, marks: int, random: Random) -> None:
        self._marks = marks
        self._random = random
        self._held: dict[int, int] = {}  # key -> version
        self._next = dict.fromkeys(range(KEYS), 1)
        self._unsynced: list[tuple[int, int]] = []  # appended, not covered by a sync yet
        self._position = 0
        initialise(
            directory,
            cluster_id=CLUSTER,
            name="node-1",
            region="r",
            zone="z",
            files=RealFiles(),
            node_id=NODE,
        )
        self.store = Store.open(config_of(directory), RealFiles())
        self._mark("made")

    def run(self) -> None:
        for _ in range(ROUNDS):
            choice = self._random.random()
            if choice < 0.75:
                self._commit()
            elif choice < 0.82:
                self._sync()
            elif choice < 0.9:
                self._checkpoint()
            else:
                self._compact()
        self.store.close()
        self._mark("closed")

    def _mark(self, text: str) -> None:
        os.write(self._marks, text.encode() + b"\n")

    def _commit(self) -> None:
        """A batch; what asks for a sync is done when the batch is answered."""
        wanted: list[tuple[int, int, bool, Write]] = []
        for key in self._random.sample(range(KEYS), self._random.randint(1, 5)):
            held = self._held.get(key)
            sync = self._random.random() < 0.7
            if held is not None and self._random.random() < 0.6:
                wanted.append((key, 0, True, delete_write((key_of(key), 0))))
            else:
                version = held or self._next[key]
                write = put_write(key_of(key), payload(key, version), sync=sync)
                wanted.append((key, version, sync, write))
        for key, version, _, _ in wanted:
            self._mark(f"try {key} {version}")
        self.store.commit([write for *_, write in wanted])
        for key, version, sync, write in wanted:
            assert write.status == Status.OK, write.answer
            self._unsynced = [each for each in self._unsynced if each[0] != key]
            if version:
                self._held[key] = version
            elif self._held.pop(key, None) is not None:
                self._next[key] += 1
            if sync:
                self._mark(f"done {key} {version}")
            else:
                self._unsynced.append((key, version))
            if isinstance(write.answer, Appended):
                self._position = write.answer.position

    def _sync(self) -> None:
        write = Write(Op.SYNC, Sync(self.store.incarnation, self._position))
        self.store.commit([write])
        assert write.status == Status.OK, write.answer
        self._done()

    def _done(self) -> None:
        for key, version in self._unsynced:
            self._mark(f"done {key} {version}")
        self._unsynced.clear()

    def _compact(self) -> None:
        """Some steps of the compaction; the checkpoint behind them drops the segments that it emptied."""
        for _ in range(self._random.randint(1, 6)):
            self.store.compactor.step(self.store.move)
        self._checkpoint()

    def _checkpoint(self) -> None:
        checkpoint = self.store.begin_checkpoint()
        if checkpoint is not None:
            self.store.store_checkpoint(checkpoint)


if __name__ == "__main__":
    descriptor = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT, 0o600)
    Program(Path(sys.argv[1]), descriptor, Random(int(sys.argv[3]))).run()
