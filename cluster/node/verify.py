"""How single blocks lie on this node: what VERIFY_BLOCKS answers, and what the scrub asks about a suspect.

The one place that calls a block bad. A record that was looked up may be moved by the compaction or covered by
a newer copy before it is read, so a failed check counts only while the index still says the same.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Final, NamedTuple

from cluster.node.damage import DamageList
from cluster.node.index_entry import TOMBSTONE, Entry, unpack_entry
from cluster.node.records import BlockUnreadable, Records
from cluster.wire import Status
from codec.block import BlockCorrupt, record_bytes

SLICE_BYTES: Final = 4 << 20  # read for one request before another one has its turn
SLICE_KEYS: Final = 100
QUEUE_MAX: Final = 64  # requests under way; more are answered BUSY


class BlockState(NamedTuple):
    """One block as BLOCKS_VERIFIED tells it: state is Status OK, NOT_FOUND or CORRUPT."""

    state: int
    sequence: int
    payload_length: int

    @property
    def record_bytes(self) -> int:
        """What a deep check read for it."""
        return 0 if self.state == Status.NOT_FOUND else record_bytes(self.payload_length)


MISSING = BlockState(Status.NOT_FOUND, 0, 0)


class Checker:
    """For any thread. `find` gives the packed index entry of a packed key."""

    def __init__(self, find: Callable[[bytes], bytes | None], records: Records, damaged: DamageList) -> None:
        self._find = find
        self._records = records
        self._damaged = damaged

    def check(self, key: bytes, *, deep: bool) -> BlockState:
        """The state of the block that the index names now, and which copy of it that is.

        Deep: its record is read from the disk itself and every page checked; what is found is remembered.
        Else it is what is known: the index has it, and nobody found it bad.
        """
        raw = self._find(key)
        while raw is not None:
            entry = unpack_entry(raw)
            if entry.payload_length == TOMBSTONE:
                break
            status = self._look(key, entry, raw) if deep else self._known(key, entry)
            if status is not None:
                return BlockState(status, entry.sequence, entry.payload_length)
            raw = self._find(key)
        return MISSING

    def _known(self, key: bytes, entry: Entry) -> Status:
        return Status.CORRUPT if self._damaged.lists(key, entry.sequence) else Status.OK

    def _look(self, key: bytes, entry: Entry, raw: bytes) -> Status | None:
        """What the disk says; None when the index says something else meanwhile."""
        try:
            self._records.check(key, entry)
        except BlockCorrupt:
            kind = "rotten"
        except BlockUnreadable:
            kind = "unreadable"
        else:
            if self._damaged.lists(key, entry.sequence):
                self._damaged.settled(key)
            return Status.OK
        if self._find(key) != raw:
            return None
        self._records.is_bad(key, entry, kind)
        if self._find(key) != raw:
            self._damaged.settled(key)
            return None
        return Status.CORRUPT


class Verification:
    """A VERIFY_BLOCKS under way. `answer` is cancelled when `is_wanted` says no any more."""

    def __init__(
        self,
        keys: list[bytes],
        deep: bool,
        is_wanted: Callable[[], bool],
        answer: asyncio.Future[list[BlockState]],
    ) -> None:
        self.is_wanted = is_wanted
        self.answer = answer
        self.states: list[BlockState] = []
        self._keys = keys
        self._deep = deep

    @property
    def is_done(self) -> bool:
        """All keys were looked at."""
        return len(self.states) == len(self._keys)

    def step(self, checker: Checker) -> None:
        """Look at the next few of them. In a thread of the pool."""
        nbytes = 0
        for key in self._keys[len(self.states) :][:SLICE_KEYS]:
            state = checker.check(key, deep=self._deep)
            self.states.append(state)
            nbytes += state.record_bytes
            if self._deep and nbytes >= SLICE_BYTES:
                return


class VerifyQueue:
    """Requests to verify blocks. Lives on the event loop.

    A deep one may read gigabytes, so each is done in slices that take turns, and at most `slots` slices are in
    the read pool at once: a read waits for one slice at most.
    """

    def __init__(self, checker: Checker, pool: Executor, slots: int) -> None:
        self._checker = checker
        self._pool = pool
        self._free = slots
        self._loop = asyncio.get_running_loop()
        self._waiting: collections.deque[Verification] = collections.deque()
        self._count = 0

    def add(
        self, keys: list[bytes], *, deep: bool, is_wanted: Callable[[], bool]
    ) -> asyncio.Future[list[BlockState]] | None:
        """The states of `keys` in their order, or None when too many requests are under way.

        The future is cancelled when the answer is not wanted any more, seen between two slices.
        """
        if self._count >= QUEUE_MAX:
            return None
        self._count += 1
        verification = Verification(keys, deep, is_wanted, self._loop.create_future())
        self._waiting.append(verification)
        self._go_on()
        return verification.answer

    def _go_on(self) -> None:
        while self._free and self._waiting:
            verification = self._waiting.popleft()
            if verification.is_done:
                self._count -= 1
                verification.answer.set_result(verification.states)
            elif not verification.is_wanted():
                self._count -= 1
                verification.answer.cancel()
            else:
                self._free -= 1
                slice_ = self._pool.submit(verification.step, self._checker)
                slice_.add_done_callback(functools.partial(self._tell, verification))

    def _tell(self, verification: Verification, slice_: Future[None]) -> None:
        """In a thread of the pool."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._slice_done, verification, slice_)

    def _slice_done(self, verification: Verification, slice_: Future[None]) -> None:
        self._free += 1
        error = slice_.exception()
        if error is None:
            self._waiting.append(verification)
        else:
            self._count -= 1
            verification.answer.set_exception(error)
        self._go_on()
