"""The compaction: gives back the space of blocks that were deleted or covered.

A segment with little alive in it is emptied: its live records are appended again through the writer, with the
sequences they have (S3), and left out of the next checkpoint once nothing in it counts. Only when the index is
durable without it its file is removed (S7). At every moment each record is in one of both places, so a crash
anywhere costs the work since the last checkpoint and nothing else; of two copies with one sequence recovery
takes the first.

A tombstone is moved while another segment may hold what it covers, else it is dropped with its segment. As
segments go, tombstones elsewhere become useless; a sweep over the index finds those.

What can't be read whole is listed as damaged and its segment stays: the block is still known, reads of it fail
loudly, and when repair has covered it the segment goes. A segment that was left without a key table goes early,
and before the one behind it, whose header tells where it ends (S2).

Small segments, as each restart leaves one, are emptied into the active one when there are many.

No thread of its own: `step` prepares a bounded piece, has it written, and says how long to rest.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator
from typing import Final, NamedTuple

import lmdb

from cluster.log_names import index_key
from cluster.node.config import NodeConfig
from cluster.node.files import FileLayer
from cluster.node.identity import SEGMENT_DIR
from cluster.node.index import Index, IndexReader
from cluster.node.index_entry import TOMBSTONE, Entry, covered, is_needed, older_of, pack_older, unpack_entry
from cluster.node.log import NodeLog
from cluster.node.records import BlockUnreadable, Records, check_record
from cluster.node.scan import LISTED_TYPES, Record, scan
from cluster.node.segment import PLAIN_RECORD_BYTES, read_table, segment_path, unpack_entries
from cluster.node.verify import Checker
from cluster.node.victims import Choice
from codec.block import BlockCorrupt, Buffer, RecordType, pack_key, parse_header, record_bytes

log = logging.getLogger("trivet.node")

LOOK_S: Final = 1.0  # between two looks for something to do
_WINDOW_BYTES: Final = 1 << 20  # read and appended at once; a larger record by itself
_LOOKUPS: Final = 200  # in the index, before something else has its turn
_RECORD_COST_BYTES: Final = 4096  # what a record counts against the rate besides its bytes: its share of CPU
_LOOKUP_COST_BYTES: Final = 64  # the same of an index entry that is looked up
_GARBAGE_MAX: Final = 0.7  # dead bytes, as a share of the live ones, above which the rate is let go
_SWEEP_S: Final = 60.0
_SWEEP_ENTRIES: Final = 1000


class Move(NamedTuple):
    """A live record, to be appended again if `raw` is still its index entry."""

    key: bytes
    raw: bytes
    record: Buffer
    older: bytes  # what the index keeps beside the new place


class Batch(NamedTuple):
    """A piece of work for the writer."""

    moves: list[Move]
    forgets: list[tuple[bytes, bytes]]  # tombstones that nobody needs: key and packed entry
    cost: int  # what it counts against the rate

    @property
    def nbytes(self) -> int:
        """What it takes in the log."""
        return PLAIN_RECORD_BYTES + sum(len(move.record) for move in self.moves)


class _Found(NamedTuple):
    """A record that counts, where the segment being emptied has it."""

    key: bytes
    raw: bytes
    entry: Entry
    offset_end: int


class Compactor:
    """`step` belongs to one thread, `wants_roll` and `take_emptied` to the writer's."""

    def __init__(
        self,
        config: NodeConfig,
        files: FileLayer,
        index: Index,
        log_: NodeLog,
        *,
        records: Records,
        checker: Checker,
        cluster_id: bytes,
        clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._segments = config.directory / SEGMENT_DIR
        self._files = files
        self._index = index
        self._reader = IndexReader(index)
        self._log = log_
        self._records = records
        self._checker = checker
        self._cluster_id = cluster_id
        self._clock = clock
        self._emptied: set[int] = set()
        self._choice = Choice(config, files, index, log_, clock=clock)
        self._work: Generator[Batch, None, None] = self._pass()
        self._moved_bytes = 0
        self._moved_bytes_settled = 0  # as of the last segment that went
        self._removed_bytes = 0
        self._removed = 1  # segments since the last sweep; a crash may have left some unswept
        self._sweep_due = clock() + _SWEEP_S

    def step(self, write: Callable[[Batch], bool]) -> float:
        """Do a bounded piece of work; `write` has `Store.move` called in the writer thread.

        Returns the seconds to wait before the next call: as the rate says; when space is running out, as
        long as this piece took, so that others get at least every other turn.
        """
        if self._index.recent_entries > self._config.index_recent_max // 2:
            return LOOK_S  # the index file must keep up first
        began = self._clock()
        try:
            batch = next(self._work, None)
            done = batch is not None and (not (batch.moves or batch.forgets) or write(batch))
        except (OSError, lmdb.Error) as error:
            log.warning("compaction interrupted: %s", error)
            done = False
        finally:
            self._reader.release()
        if batch is None or not done:
            self._work = self._pass()
            return LOOK_S
        self._moved_bytes += sum(len(move.record) for move in batch.moves)
        if self._is_hurried():
            return self._clock() - began
        return batch.cost / self._config.compact_bytes_per_s

    def close(self) -> None:
        """Let go of the segment at hand, after the last `step`."""
        self._work.close()

    @property
    def reclaimed_bytes(self) -> int:
        """Given back since the start: what removed segments had, less what was moved out of them."""
        return max(0, self._removed_bytes - self._moved_bytes)

    def reclaimed(self, nbytes: int) -> None:
        """A dropped segment of that size is durably gone."""
        self._moved_bytes_settled = self._moved_bytes
        self._removed_bytes += nbytes
        self._removed += 1

    # -- for the writer thread -------------------------------------------------------------------------------

    @property
    def has_emptied(self) -> bool:
        """Whether there is something to take."""
        return bool(self._emptied)

    def take_emptied(self) -> set[int]:
        """Segments that have nothing alive in them, to be dropped; each is told once."""
        emptied, self._emptied = self._emptied, set()
        return emptied

    def wants_roll(self) -> bool:
        """Whether the active segment should be sealed early."""
        return self._choice.wants_roll()

    # -- what to do ------------------------------------------------------------------------------------------

    def _pass(self) -> Generator[Batch, None, None]:
        for number in self._choice.victims(self._emptied):
            if self._must_wait():
                return
            yield from self._empty(number)
        if self._is_sweep_due():
            yield from self._sweep()

    def _must_wait(self) -> bool:
        """What was moved takes its place twice until its segment is gone: that must stay bounded."""
        if not self._emptied and not self._index.usage.leaving:
            return False
        twice_bytes = self._moved_bytes - self._moved_bytes_settled
        return twice_bytes > (0 if self._choice.is_nearly_full else self._config.segment_bytes)

    def _is_hurried(self) -> bool:
        live = self._index.live_bytes
        dead = self._log.total_bytes - live
        return self._choice.is_nearly_full or dead > live * _GARBAGE_MAX + self._config.segment_bytes

    # -- one segment -----------------------------------------------------------------------------------------

    def _empty(self, number: int) -> Iterator[Batch]:
        use = self._index.usage.of(number)
        if use is not None and use.live_bytes:
            try:
                yield from self._move_all(number)
            except OSError as error:
                log.warning("segment %08x can't be emptied: %s", number, error)
        use = self._index.usage.of(number)
        if use is None:
            return
        if use.live_bytes:
            self._choice.hold(number, use)
        else:
            self._emptied.add(number)

    def _move_all(self, number: int) -> Iterator[Batch]:
        window: list[_Found] = []
        forgets: list[tuple[bytes, bytes]] = []
        lookups = 0
        for key, offset, length in self._contents(number):
            lookups += 1
            raw = self._reader.get(key)
            entry = unpack_entry(raw) if raw is not None else None
            if raw is not None and entry is not None and (entry.segment, entry.offset) == (number, offset):
                end = offset + record_bytes(length)
                if window and end - window[0].entry.offset > _WINDOW_BYTES:
                    yield self._batch(number, window, forgets, lookups)
                    window, forgets, lookups = [], [], 0
                if entry.payload_length == TOMBSTONE and not is_needed(raw, self._index.usage.is_there):
                    forgets.append((key, raw))
                else:
                    window.append(_Found(key, raw, entry, end))
            if lookups >= _LOOKUPS:
                yield self._batch(number, window, forgets, lookups)
                window, forgets, lookups = [], [], 0
        yield self._batch(number, window, forgets, lookups)

    def _contents(self, number: int) -> Iterator[tuple[bytes, int, int]]:
        """Index key, offset and payload length of the records of a segment, in their order."""
        path = segment_path(self._segments, number)
        size = self._files.size(path)
        fd = self._files.open(path)
        try:
            sealed = read_table(self._files, fd, size, self._cluster_id)
            if sealed is not None:
                for entry in sorted(unpack_entries(sealed[0]), key=lambda entry: entry.offset):
                    yield index_key(entry.type, entry.key), entry.offset, entry.payload_length
                return
            for found in scan(self._files, fd, size, self._cluster_id):
                if isinstance(found, Record) and found.header.type in LISTED_TYPES:
                    key = index_key(found.header.type, pack_key(found.header.key))
                    yield key, found.offset, found.header.payload_length
        finally:
            self._files.close(fd)

    def _batch(
        self, number: int, window: list[_Found], forgets: list[tuple[bytes, bytes]], lookups: int
    ) -> Batch:
        """Read the records of a window and check every byte; bad ones are told and left out."""
        moves = self._read(number, window) if window else []
        nbytes = sum(len(move.record) for move in moves)
        time.sleep(0)  # let the other threads have the GIL
        return Batch(moves, forgets, nbytes + len(window) * _RECORD_COST_BYTES + lookups * _LOOKUP_COST_BYTES)

    def _read(self, number: int, window: list[_Found]) -> list[Move]:
        start = window[0].entry.offset
        try:
            content = memoryview(self._records.read_disk(number, start, window[-1].offset_end - start))
        except BlockUnreadable:
            # One by one: what can be read is moved.
            return (
                [move for one in window for move in self._read(number, [one])]
                if window[1:]
                else self._bad(window)
            )
        moves = []
        for found in window:
            record = content[found.entry.offset - start : found.offset_end - start]
            try:
                _check(record, found)
            except BlockCorrupt:
                self._bad([found])
                continue
            moves.append(Move(found.key, found.raw, record, self._older(number, found)))
        return moves

    def _bad(self, window: list[_Found]) -> list[Move]:
        for found in window:
            self._checker.check(found.key, deep=True)
        return []

    def _older(self, number: int, found: _Found) -> bytes:
        """Where covered records of the key may lie once the record is moved.

        The old place of a block is one of them. That of a tombstone is not: there it is together with what
        it covers.
        """
        usage = self._index.usage
        if found.entry.payload_length != TOMBSTONE:
            return covered(found.raw, usage.is_there)
        return pack_older(other for other in older_of(found.raw) if other != number and usage.is_there(other))

    # -- tombstones ------------------------------------------------------------------------------------------

    def _is_sweep_due(self) -> bool:
        if not self._removed or not self._index.usage.tombstones:
            return False
        return self._removed >= max(8, self._log.segments // 4) or self._clock() >= self._sweep_due

    def _sweep(self) -> Iterator[Batch]:
        """Forget the tombstones whose covered records are all gone, or would come back only with them."""
        began, removed = self._clock(), self._removed
        after: bytes | None = b""
        while after is not None:
            found, after = self._index.tombstones(after, _SWEEP_ENTRIES)
            forgets = [(key, raw) for key, raw in found if not is_needed(raw, self._index.usage.is_there)]
            yield Batch([], forgets, _SWEEP_ENTRIES * _LOOKUP_COST_BYTES)
        self._removed -= removed
        self._sweep_due = self._clock() + max(_SWEEP_S, 20 * (self._clock() - began))


def _check(record: memoryview, found: _Found) -> None:
    """Raises BlockCorrupt unless these are the bytes of the record that the index means."""
    if found.entry.payload_length != TOMBSTONE:
        check_record(record, found.key, found.entry)
        return
    header = parse_header(record)
    if (header.type, pack_key(header.key), header.sequence) != (
        RecordType.TOMBSTONE,
        found.key,
        found.entry.sequence,
    ):
        raise BlockCorrupt("another record where a tombstone was expected")
