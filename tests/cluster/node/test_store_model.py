"""Random operations, crashes and disk faults against a dictionary.

Kept: everything acknowledged is there byte-exact; what was deleted stays deleted; a block is what was put or
missing, never anything else. Where nothing was acknowledged the model allows both outcomes.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cluster.node.group import Write
from cluster.wire import Appended, Status
from codec.block import pack_key
from tests.cluster.node.memory_disk import Trap
from tests.cluster.node.node_bench import NodeBench, delete_write, key_of, payload_of, put_write

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # the index file's syncs take most of the time
COUNT = 8
KEYS = st.integers(0, COUNT - 1)
State = int | None  # which of two payloads a block has, None: no block


def payload(number: int, variant: int) -> bytes:
    return payload_of(number + COUNT * variant, 50 + 700 * (number % 3))


class StoreModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="trivet-model-", dir=MEMORY))
        self.bench = NodeBench(self.folder, segment_bytes=1 << 16)
        self.visible: list[State] = [None] * COUNT  # what a read finds
        # What a crash or a failed sync may leave: the durable state, and all that was tried since.
        self.could: list[set[State]] = [{None} for _ in range(COUNT)]
        # Refused, but maybe whole in the file: may come back until the next answer about that block.
        self.refused: list[set[State]] = [set() for _ in range(COUNT)]
        self.at = [0] * COUNT  # position behind the last record of each
        self.last: Appended | None = None  # covers everything appended so far

    # -- requests ------------------------------------------------------------------------------------------

    @rule(
        operations=st.lists(
            st.tuples(
                KEYS, st.sampled_from(["put", "append", "repair", "delete"]), st.sampled_from([0, 0, 0, 1])
            ),
            min_size=1,
            max_size=6,
        )
    )
    def batch(self, operations: list[tuple[int, str, int]]) -> None:
        writes = [self.write(*operation) for operation in operations]
        statuses = self.bench.commit(*writes)
        trouble = bool({Status.FAILED, Status.READ_ONLY} & set(statuses))
        expected = list(self.visible)
        for (number, what, variant), status in zip(operations, statuses, strict=True):
            wanted = None if what == "delete" else variant
            self.could[number].add(wanted)
            if status in (Status.FAILED, Status.READ_ONLY):
                self.refused[number].add(wanted)
            conflict = wanted is not None and expected[number] not in (None, wanted)
            if not trouble:
                assert status == (Status.CONFLICT if conflict else Status.OK)
            if not conflict:
                expected[number] = wanted
        covered = 0
        for (number, what, _), write in zip(operations, writes, strict=True):
            if isinstance(write.answer, Appended):
                self.at[number] = max(self.at[number], write.answer.position)
                self.cover(write.answer)
                if what != "append":
                    covered = max(covered, write.answer.position)
        if trouble:
            self.believe_what_is_seen()
        else:
            self.visible = expected
            self.settle(covered)
        for number, state in self.acknowledged(operations, statuses).items():
            assert self.visible[number] == state
            self.could[number] = {state}
            self.refused[number].clear()

    def write(self, number: int, what: str, variant: int) -> Write:
        if what == "delete":
            return delete_write((key_of(number), 0))
        return put_write(
            key_of(number), payload(number, variant), sync=what != "append", repair=what == "repair"
        )

    def cover(self, answer: Appended) -> None:
        if self.last is None or (answer.incarnation, answer.position) > (
            self.last.incarnation,
            self.last.position,
        ):
            self.last = answer

    @staticmethod
    def acknowledged(operations: list[tuple[int, str, int]], statuses: list[Status]) -> dict[int, State]:
        """State of the blocks whose last operation was acknowledged as durable."""
        found: dict[int, State] = {}
        for (number, what, variant), status in zip(operations, statuses, strict=True):
            found.pop(number, None)
            if status == Status.OK and what != "append":
                found[number] = None if what == "delete" else variant
        return found

    def settle(self, position: int) -> None:
        """A sync covered everything before `position`."""
        for number in range(COUNT):
            if self.at[number] <= position:
                self.could[number] = {self.visible[number]} | self.refused[number]

    def believe_what_is_seen(self) -> None:
        self.visible = self.seen()
        for state, possible in zip(self.visible, self.could, strict=True):
            assert state in possible, (self.visible, self.could)

    @rule()
    def sync(self) -> None:
        if self.last is None:
            return
        status = self.bench.sync(self.last.incarnation, self.last.position)
        if status == Status.OK:
            self.settle(self.last.position)
        else:
            assert status in (Status.FAILED, Status.STALE_INCARNATION)
            self.believe_what_is_seen()
            self.last = None

    @rule()
    def checkpoint(self) -> None:
        incarnation = self.bench.store.incarnation
        self.bench.checkpoint()
        if self.bench.store.incarnation == incarnation:
            self.settle(max(self.at))
        else:
            self.believe_what_is_seen()

    @rule(steps=st.integers(1, 12))
    def compact(self, steps: int) -> None:
        """A part of what there is to do: crashes and requests come between."""
        incarnation = self.bench.store.incarnation
        for _ in range(steps):
            self.bench.store.compactor.step(self.bench.store.move)
        if self.bench.store.incarnation != incarnation:
            self.believe_what_is_seen()

    @rule(rounds=st.integers(1, 3))
    def compact_and_store(self, rounds: int) -> None:
        incarnation = self.bench.store.incarnation
        self.bench.compact(rounds)
        if self.bench.store.incarnation == incarnation:
            self.settle(max(self.at))
        else:
            self.believe_what_is_seen()

    @rule()
    def sweep(self) -> None:
        """Time passes: the compaction will look for tombstones that nobody needs."""
        self.bench.now += 100.0

    # -- crashes and faults ------------------------------------------------------------------------------

    def after_start(self) -> None:
        self.believe_what_is_seen()
        for states in self.refused:
            states.clear()
        self.settle(max(self.at))  # a start makes durable what it found
        self.last = None

    @rule()
    def kill(self) -> None:
        self.bench.disk.traps.clear()
        self.bench.kill()
        self.after_start()

    @rule(seed=st.integers(0, 1 << 30))
    def power_cut(self, seed: int) -> None:
        self.bench.disk.traps.clear()
        self.bench.power_cut(seed)
        self.after_start()

    @rule()
    def restart(self) -> None:
        self.bench.disk.traps.clear()
        self.bench.restart()
        self.after_start()

    @rule()
    def lose_index(self) -> None:
        self.bench.disk.traps.clear()
        self.bench.lose_index()
        self.after_start()

    @rule(skip=st.integers(0, 2))
    def sync_will_fail(self, skip: int) -> None:
        self.bench.disk.traps.append(Trap("fdatasync", errno.EIO, ".seg", skip=skip))

    @rule()
    def unlink_will_fail(self) -> None:
        self.bench.disk.traps.append(Trap("unlink", errno.EIO, ".seg"))

    @rule(short=st.one_of(st.none(), st.integers(1, 3000)), code=st.sampled_from([errno.ENOSPC, errno.EIO]))
    def append_will_fail(self, short: int | None, code: int) -> None:
        self.bench.disk.traps.append(Trap("pwritev", code, ".seg", short=short))

    # -- what always holds -------------------------------------------------------------------------------

    def seen(self) -> list[State]:
        found: list[State] = []
        for number in range(COUNT):
            data = self.bench.read(number)
            known = {payload(number, variant): variant for variant in (0, 1)}
            found.append(None if data is None else known[data])
        return found

    @invariant()
    def reads_and_counts_match(self) -> None:
        assert self.seen() == self.visible
        held = [number for number in range(COUNT) if self.visible[number] is not None]
        assert list(self.bench.held()) == [pack_key(key_of(n)) for n in held]
        status = self.bench.store.status()
        assert status.blocks == len(held)
        assert status.live_bytes == sum(len(payload(n, 0)) for n in held)
        self.bench.check_usage()

    def teardown(self) -> None:
        self.bench.store.abandon()
        shutil.rmtree(self.folder)


StoreModel.TestCase.settings = settings(max_examples=200, stateful_step_count=30)
TestStoreModel = StoreModel.TestCase
