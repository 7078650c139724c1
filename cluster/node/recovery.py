"""What a start finds in the log, and how it goes on (S4).

Recovery never throws away what may have been acknowledged: nothing is truncated, a bad record does not end
the scan, the next one is found by its aligned magic. The last segment is sealed and a new one is begun by
the first append. Damage is told from a torn tail by the position that later batch headers know as synced.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import lmdb

from cluster.node.files import FileLayer
from cluster.node.identity import NodeIdentity, NodeRefused
from cluster.node.index import (
    DAMAGE,
    TOMBSTONE,
    Index,
    IndexState,
    covered,
    older_of,
    pack_entry,
    pack_older,
    unpack_entry,
)
from cluster.node.records import DamageReport
from cluster.node.segment import (
    PLAIN_RECORD_BYTES,
    TableEntry,
    align,
    offset_of,
    pack_table,
    pack_table_entry,
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
from codec.block import (
    MAGIC,
    PAYLOAD_BYTES_MAX,
    BlockCorrupt,
    BlockHeader,
    RecordType,
    check_payload,
    header_bytes,
    pack_key,
    parse_header,
)

log = logging.getLogger("trivet.node")

_HEADER_BYTES_MAX: Final = header_bytes(PAYLOAD_BYTES_MAX)
_CHUNK_BYTES: Final = 4 << 20
_SECTOR_BYTES: Final = 4096
_WRITE_ENTRIES: Final = 50_000  # entries replayed in one index transaction


class Record(NamedTuple):
    """A record whose header is good; `whole` when its payload is, too."""

    offset: int
    header: BlockHeader
    whole: bool


class Gap(NamedTuple):
    """Bytes that are no record."""

    offset: int
    length: int


@dataclass(slots=True)
class Contents:
    """What a scan found in one segment."""

    table: bytearray = field(default_factory=bytearray)  # packed entries of what counts
    sequence: int = 0  # the highest seen
    synced: int = 0  # offset known to have been synced
    damage: list[Gap] = field(default_factory=list)  # below it
    torn: list[Gap] = field(default_factory=list)  # above it


class Recovered(NamedTuple):
    """Where the node goes on."""

    position: int  # synced; the end of the last segment
    next_segment: int
    sequence: int  # the first to use
    sizes: dict[int, int]  # of all segment files, those that are to go included


class _Window:
    """A file read in large pieces; unreadable sectors read as zeros, so that the scan goes on behind them."""

    def __init__(self, files: FileLayer, fd: int, size: int) -> None:
        self._files, self._fd, self._size = files, fd, size
        self._start = 0
        self._bytes = memoryview(b"")

    def view(self, offset: int, length: int) -> memoryview:
        """Up to `length` bytes at `offset`, fewer at the end of the file."""
        length = min(length, self._size - offset)
        begin = offset - self._start
        if begin < 0 or begin + length > len(self._bytes):
            self._start, begin = offset, 0
            self._bytes = self._read(offset, min(max(length, _CHUNK_BYTES), self._size - offset))
        return self._bytes[begin : begin + length]

    def _read(self, offset: int, length: int) -> memoryview:
        try:
            return read_exactly(self._files, self._fd, offset, length)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
        buffer = memoryview(bytearray(length))
        for at in range(0, length, _SECTOR_BYTES):
            try:
                part = read_exactly(self._files, self._fd, offset + at, min(_SECTOR_BYTES, length - at))
                buffer[at : at + len(part)] = part
            except OSError:
                continue
        return buffer

    def find_magic(self, offset: int) -> int:
        """The next aligned magic at or behind `offset`, or the end of the file."""
        at = align(offset)
        while at < self._size:
            chunk = bytes(self.view(at, _CHUNK_BYTES))
            found = chunk.find(MAGIC)
            while found >= 0 and found % 8:
                found = chunk.find(MAGIC, found + 1)
            if found >= 0:
                return at + found
            if len(chunk) < 8:  # the tail, or a file that is shorter than it said
                break
            at += len(chunk) & -8
        return self._size


def scan(files: FileLayer, fd: int, size: int, cluster_id: bytes) -> Iterator[Record | Gap]:
    """Every record of a segment file in order, and the gaps between them.

    Behind a record with a good header and a bad payload the scan goes on at its end if a record follows
    there, else at the next magic: the payload may have been torn and appended behind (never guess by
    length alone), but a stored object must not be searched for record look-alikes without need.
    """
    window = _Window(files, fd, size)
    at = 0
    while at < size:
        header = _header_at(window, at, cluster_id)
        if header is None:
            following = window.find_magic(at + 1)
            yield Gap(at, following - at)
            at = following
            continue
        whole = _payload_is_good(window, at, header)
        yield Record(at, header, whole)
        following = at + header.record_bytes
        if not whole and _header_at(window, following, cluster_id) is None:
            following = window.find_magic(at + 1)
        at = following


def _header_at(window: _Window, at: int, cluster_id: bytes) -> BlockHeader | None:
    try:
        header = parse_header(window.view(at, _HEADER_BYTES_MAX))
    except BlockCorrupt:
        return None
    return header if header.cluster_id == cluster_id else None


def _payload_is_good(window: _Window, at: int, header: BlockHeader) -> bool:
    try:
        check_payload(header, window.view(at + header.header_bytes, header.payload_length))
    except BlockCorrupt:
        return False
    return True


def read_contents(
    found_in_order: Iterator[Record | Gap], number: int, *, cut: int | None, synced: int
) -> Contents:
    """What counts in a segment without a key table, from a `scan` of it.

    `cut` is where the next segment says this one ends (S2); None for the last segment, where everything
    whole counts: it may have been acknowledged. `synced` is an offset known to be synced from elsewhere.
    Rotten shards below the synced offset keep their entry, so that a read finds them and repair replaces
    them (S5).
    """
    contents = Contents(synced=max(synced, cut or 0))
    rotten: list[tuple[TableEntry, Gap]] = []
    gaps: list[Gap] = []
    for found in found_in_order:
        if cut is not None and found.offset >= cut:
            break
        if isinstance(found, Gap):
            gaps.append(found)
            continue
        offset, header, whole = found
        if rotten and offset < rotten[-1][1].offset + rotten[-1][1].length:
            # Appended within the extent of the bad one: the node knew that one as torn and went on there.
            _, torn = rotten.pop()
            contents.torn.append(torn._replace(length=offset - torn.offset))
        contents.sequence = max(contents.sequence, header.sequence)
        if header.type == RecordType.BATCH and segment_of(header.aux) == number:
            contents.synced = max(contents.synced, offset_of(header.aux))
        elif header.type in (RecordType.SHARD, RecordType.TOMBSTONE):
            entry = TableEntry(
                pack_key(header.key), header.type, offset, header.payload_length, header.sequence
            )
            if whole:
                contents.table += pack_table_entry(*entry)
            else:
                rotten.append((entry, Gap(offset, header.record_bytes)))
    for entry, gap in rotten:
        gaps.append(gap)
        if gap.offset < contents.synced:
            contents.table += pack_table_entry(*entry)
    for gap in gaps:
        (contents.damage if gap.offset < contents.synced else contents.torn).append(gap)
    return contents


class _Recovery:
    def __init__(
        self,
        files: FileLayer,
        directory: Path,
        identity: NodeIdentity,
        index: Index,
        report: DamageReport,
        *,
        keep_max: int,
    ) -> None:
        self._files = files
        self._directory = directory
        self._identity = identity
        self._index = index
        self._report = report
        self._state = index.stored
        self._keep_max = keep_max
        self._unwritable: lmdb.Error | None = None
        self._numbers: list[int] = []
        self._changes: dict[bytes, bytes] = {}
        self._shares: Shares = {}
        self._blocks, self._live_bytes = index.stored.blocks, index.stored.live_bytes

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
        raw = self._changes.get(entry.key) or self._index.get(entry.key)
        older = b""
        if raw is not None:
            before = unpack_entry(raw)
            if (before.segment, before.offset) == (number, entry.offset):
                return  # replayed again
            if before.sequence >= entry.sequence:
                if number not in older_of(raw):
                    self._changes[entry.key] = pack_entry(*before) + pack_older((number, *older_of(raw)))
                return
            self._count(before.segment, before.payload_length, -1)
            older = covered(raw, self._is_there)
        length = TOMBSTONE if entry.type == RecordType.TOMBSTONE else entry.payload_length
        self._count(number, length, 1)
        self._changes[entry.key] = pack_entry(number, entry.offset, length, entry.sequence) + older

    def _is_there(self, number: int) -> bool:
        return number in self._numbers or self._index.usage.is_there(number)

    def _count(self, segment: int, payload_length: int, count: int) -> None:
        if payload_length == TOMBSTONE:
            count_tombstone(self._shares, segment, count)
        else:
            count_block(self._shares, segment, payload_length, count)
            self._blocks += count
            self._live_bytes += count * payload_length

    def _write(self, end: int, sequence: int) -> None:
        """Store what was found so far; where the index file has no room, remember it for a later checkpoint."""
        usage = self._index.usage
        usage.apply_synced(self._shares)
        old = self._state
        self._state = IndexState(old.format, old.node_id, end, sequence, self._blocks, self._live_bytes)
        rows = usage.take_rows()
        try:
            if self._unwritable is None:  # else the position would pass what the file lacks
                self._index.write(self._changes, self._state, rows)
        except lmdb.Error as error:
            if isinstance(error, DAMAGE):
                raise
            log.warning("the index can't be written, going on without: %s", error)
            self._unwritable = error
        if self._unwritable is not None:
            self._index.keep(self._changes, rows)
            if self._index.recent_entries > self._keep_max:
                raise self._unwritable
        self._index.blocks, self._index.live_bytes = self._blocks, self._live_bytes
        self._changes, self._shares = {}, {}


def recover(
    files: FileLayer,
    directory: Path,
    identity: NodeIdentity,
    index: Index,
    report: DamageReport,
    *,
    keep_max: int,
) -> Recovered:
    """Bring the index up to date with the segments in `directory` and seal the last one.

    Raises NodeRefused when the disk can't be trusted with a sync, OSError when it can't be read at all, and
    lmdb.Error when more than `keep_max` entries have no room in the index file.
    """
    return _Recovery(files, directory, identity, index, report, keep_max=keep_max).run()
