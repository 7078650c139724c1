"""What a start finds in the log, and how it goes on (S4).

Recovery never throws away what may have been acknowledged: nothing is truncated. The last segment is sealed and
a new one is begun by the first append. Rotten records that may have been acknowledged stay in the index and are
listed as damaged, so that repair replaces them.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final, NamedTuple

import lmdb

from cluster.log_names import index_key, is_log_key
from cluster.node.damage import DamageList
from cluster.node.files import FileLayer
from cluster.node.identity import NodeIdentity, NodeRefused
from cluster.node.index import Index, IndexState
from cluster.node.index_entry import (
    TOMBSTONE,
    Counts,
    covered,
    log_counts,
    older_of,
    pack_entry,
    pack_older,
    unpack_entry,
)
from cluster.node.records import DamageReport
from cluster.node.scan import Contents, read_contents, scan
from cluster.node.segment import (
    PLAIN_RECORD_BYTES,
    TableEntry,
    align,
    offset_of,
    pack_table,
    position,
    read_exactly,
    read_table,
    segment_numbers,
    segment_of,
    segment_path,
    unpack_entries,
    write_all,
)
from cluster.node.usage import Shares, count_block, count_tombstone
from codec.block import BlockCorrupt, RecordType, parse_header

log = logging.getLogger("trivet.node")

_WRITE_ENTRIES: Final = 50_000  # entries replayed in one index transaction


class Recovered(NamedTuple):
    """Where the node goes on."""

    position: int  # synced; the end of the last segment
    next_segment: int
    sequence: int  # the first to use
    sizes: dict[int, int]  # of all segment files, those that are to go included


class _Recovery:
    def __init__(
        self,
        files: FileLayer,
        directory: Path,
        identity: NodeIdentity,
        index: Index,
        report: DamageReport,
        *,
        damaged: DamageList,
        keep_max: int,
    ) -> None:
        self._files = files
        self._directory = directory
        self._identity = identity
        self._index = index
        self._report = report
        self._damaged = damaged
        self._rotten: list[tuple[int, TableEntry]] = []
        self._state = index.stored
        self._keep_max = keep_max
        self._unwritable: lmdb.Error | None = None
        self._numbers: list[int] = []
        self._changes: dict[bytes, bytes] = {}
        self._shares: Shares = {}
        stored = index.stored
        self._counts = Counts(stored.blocks, stored.live_bytes, stored.log_entries, stored.log_bytes)

    def run(self) -> Recovered:
        usage = self._index.usage
        numbers = segment_numbers(self._directory, self._files)
        sizes = {n: self._files.size(segment_path(self._directory, n)) for n in numbers}
        start = self._state.position
        first = segment_of(start)
        for number in numbers:
            if number < first and usage.of(number) is None:
                usage.drop(number)  # the crash came between the index without it and its unlinking
        self._numbers = [number for number in numbers if number not in usage.leaving]
        self._report_missing(sizes, start)
        for at, number in enumerate(self._numbers):
            use = usage.of(number)
            if number >= first or (use is not None and use.unread):
                follower = self._numbers[at + 1] if at + 1 < len(self._numbers) else None
                sizes[number] = self._replay(number, sizes[number], follower)
        self._list_damage()
        last = max([*numbers, *usage.numbers(), first])
        end = max(self._state.position, position(last, sizes.get(last, 0)))
        # The next block of 2**32: a sequence that a lost, unsynced record had is never given out again.
        sequence = (self._state.sequence >> 32) + 1 << 32
        return Recovered(end, last + 1, sequence, sizes)

    def _report_missing(self, sizes: dict[int, int], start: int) -> None:
        """The blocks of a segment whose file is gone stay in the index: reads and scrub find them damaged."""
        for number in self._index.usage.numbers():
            if number not in sizes:
                self._report("missing", number, 0, 0)
        size = sizes.get(segment_of(start), 1 << 32)
        if offset_of(start) > size:
            self._report("missing", segment_of(start), size, 0)

    def _list_damage(self) -> None:
        """The rotten records that count are known to repair at once; the scrub would come to them in time."""
        for number, record in self._rotten:
            key = index_key(record.type, record.key)
            raw = self._index.get(key)
            if raw is not None and unpack_entry(raw)[:2] == (number, record.offset):
                self._damaged.found(key, record.sequence, "rotten")

    def _replay(self, number: int, size: int, follower: int | None) -> int:
        """Bring one segment's entries into the index; returns the segment's size afterwards."""
        usage = self._index.usage
        use = usage.of(number)
        if use is None:
            usage.begin(number)
        start = self._state.position
        # Before it everything is in the index already, and was synced.
        first = offset_of(start) if segment_of(start) == number and (use is None or not use.unread) else 0
        try:
            fd = self._files.open(segment_path(self._directory, number))
        except OSError as error:
            log.warning("segment %08x can't be opened: %s", number, error)
            self._report("unreadable", number, 0, size)
            usage.mark(number, unread=True)  # it is left alone, and tried again at the next start
            self._store(number, size, b"", 0, first)
            return size
        try:
            table = read_table(self._files, fd, size, self._identity.cluster_id)
            usage.mark(number, sealed=table is not None)
            if table is None:
                cut = None if follower is None else self._cut(number, follower)
                contents = self._scan_unsealed(fd, number, size, cut, first)
                table = bytes(contents.table), contents.sequence
                if follower is None:
                    size = self._seal(fd, number, size, contents)
        finally:
            self._files.close(fd)
        self._store(number, size, *table, first)
        return size

    def _scan_unsealed(self, fd: int, number: int, size: int, cut: int | None, synced: int) -> Contents:
        if cut is None:
            self._settle(fd, number)
        found = scan(self._files, fd, size, self._identity.cluster_id)
        contents = read_contents(found, number, cut=cut, synced=synced)
        for gap in contents.damage:
            self._report("record", number, *gap)
        self._rotten += [(number, entry) for entry in contents.rotten if entry.type != RecordType.TOMBSTONE]
        for gap in contents.torn:
            self._report("torn", number, *gap)
        return contents

    def _settle(self, fd: int, number: int) -> None:
        """Before a segment that was being written is read: let memory and disk show the same bytes.

        After a failed sync the cache may show pages that the disk lacks (S2); what counts is what the
        disk gives back once the cache is dropped. A first failure may be an old one, told only now.
        """
        try:
            self._files.fdatasync(fd)
        except OSError as error:
            log.warning("segment %08x: an earlier write did not reach the disk (%s)", number, error)
            self._files.drop_cache(fd)
            try:
                self._files.fdatasync(fd)
            except OSError as again:
                raise NodeRefused(f"segment {number:08x} can't be synced: {again}") from again
        self._files.drop_cache(fd)

    def _cut(self, number: int, follower: int) -> int | None:
        try:
            fd = self._files.open(segment_path(self._directory, follower))
            try:
                header = parse_header(read_exactly(self._files, fd, 0, PLAIN_RECORD_BYTES))
            finally:
                self._files.close(fd)
        except (BlockCorrupt, OSError):
            return None
        known = header.type == RecordType.SEGMENT and segment_of(header.aux) == number
        return offset_of(header.aux) if known else None

    def _seal(self, fd: int, number: int, size: int, contents: Contents) -> int:
        offset = align(size)
        table = list(pack_table(contents.table, self._identity, offset, contents.sequence))
        try:
            size = write_all(self._files, fd, table, offset)
            self._files.fdatasync(fd)
            self._index.usage.mark(number, sealed=True)
        except OSError as error:
            # Without a table the segment is scanned again when the index is rebuilt; nothing is lost.
            log.warning("segment %08x: no key table written: %s", number, error)
            size = max(size, self._files.size(segment_path(self._directory, number)))
        return size

    def _store(self, number: int, size: int, table: bytes, sequence: int, first: int) -> None:
        """Apply a segment's entries from offset `first` on, highest sequence per key (S3), in transactions of
        bounded size."""
        sequence = max(sequence, self._state.sequence)
        for entry in unpack_entries(table):
            sequence = max(sequence, entry.sequence)
            if entry.offset < first:
                continue
            self._merge(number, entry)
            if len(self._changes) >= _WRITE_ENTRIES:
                # The position stays: a crash here replays the segment, and replaying twice is harmless.
                self._write(self._state.position, sequence)
        self._write(max(self._state.position, position(number, size)), sequence)

    def _merge(self, number: int, entry: TableEntry) -> None:
        """One record, whatever order they come in. Of two copies with one sequence the first one counts:
        the compaction wrote the other one, and had not come to the end of its work."""
        key = index_key(entry.type, entry.key)
        raw = self._changes.get(key) or self._index.get(key)
        older = b""
        if raw is not None:
            before = unpack_entry(raw)
            if (before.segment, before.offset) == (number, entry.offset):
                return  # replayed again
            if before.sequence >= entry.sequence:
                if number not in older_of(raw):
                    self._changes[key] = pack_entry(*before) + pack_older((number, *older_of(raw)))
                return
            self._count(key, before.segment, before.payload_length, -1)
            older = covered(raw, self._is_there)
        length = TOMBSTONE if entry.type == RecordType.TOMBSTONE else entry.payload_length
        self._count(key, number, length, 1)
        self._changes[key] = pack_entry(number, entry.offset, length, entry.sequence) + older

    def _is_there(self, number: int) -> bool:
        return number in self._numbers or self._index.usage.is_there(number)

    def _count(self, key: bytes, segment: int, payload_length: int, count: int) -> None:
        if payload_length == TOMBSTONE:
            count_tombstone(self._shares, segment, count)
        else:
            count_block(self._shares, segment, payload_length, count)
            counts = log_counts(key, payload_length) if is_log_key(key) else Counts(1, payload_length)
            self._counts = Counts(*(old + count * new for old, new in zip(self._counts, counts, strict=True)))

    def _write(self, end: int, sequence: int) -> None:
        """Store what was found so far; where the index file has no room, remember it for a later checkpoint."""
        usage = self._index.usage
        usage.apply_synced(self._shares)
        old = self._state
        self._state = IndexState(old.format, old.node_id, end, sequence, *self._counts)
        rows = usage.take_rows()
        try:
            if self._unwritable is None:  # else the position would pass what the file lacks
                self._index.write(self._changes, self._state, rows)
        except lmdb.Error as error:
            log.warning("the index can't be written, going on without: %s", error)
            self._unwritable = error
        if self._unwritable is not None:
            self._index.keep(self._changes, rows)
            if self._index.recent_entries > self._keep_max:
                raise self._unwritable
        self._index.recount(self._counts)
        self._changes, self._shares = {}, {}


def recover(
    files: FileLayer,
    directory: Path,
    identity: NodeIdentity,
    index: Index,
    report: DamageReport,
    *,
    damaged: DamageList,
    keep_max: int,
) -> Recovered:
    """Bring the index up to date with the segments in `directory`, seal the last one, fill `damaged`.

    Raises NodeRefused when the disk can't be trusted with a sync, OSError when it can't be read at all,
    IndexDamaged when the index must be made anew, and lmdb.Error when more than `keep_max` entries have no
    room in the index file.
    """
    return _Recovery(files, directory, identity, index, report, damaged=damaged, keep_max=keep_max).run()
