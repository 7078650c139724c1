"""What the bytes of a segment file hold, whole or not (S4).

A bad record does not end the scan: the next one is found by its aligned magic. Damage is told from a torn tail
by the position that later batch headers know as synced.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from cluster.node.files import FileLayer
from cluster.node.segment import TableEntry, align, offset_of, pack_table_entry, read_exactly, segment_of
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

_HEADER_BYTES_MAX: Final = header_bytes(PAYLOAD_BYTES_MAX)
_CHUNK_BYTES: Final = 4 << 20
_SECTOR_BYTES: Final = 4096
LISTED_TYPES: Final = (RecordType.SHARD, RecordType.TOMBSTONE, RecordType.CATALOG_LOG)
"""Records that key table and index name."""


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
    rotten: list[TableEntry] = field(default_factory=list)  # below it, and in the table all the same


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
    Rotten shards and log entries below the synced offset keep their entry, so that a read finds them and repair
    replaces them (S5).
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
        elif header.type in LISTED_TYPES:
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
            contents.rotten.append(entry)
    for gap in gaps:
        (contents.damage if gap.offset < contents.synced else contents.torn).append(gap)
    return contents
