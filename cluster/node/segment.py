"""Segments: the append-only files of a node, and the positions in them.

A segment `segments/<number, 8 hex digits>.seg` is a sequence of records (codec/block.py), each at a
multiple of 8 bytes:

    +---------+-------+--------+-----------+-------+- - -+=======+=======+=======+
    | SEGMENT | BATCH | record | record …  | BATCH |     | TABLE | TABLE | TABLE |
    +---------+-------+--------+-----------+-------+- - -+=======+=======+=======+
                                                          parts 0 … n-1    closing

SEGMENT and BATCH headers carry the log position known to be synced when they were written (S4). What lies
in the segment before, at or beyond the SEGMENT header's position, was refused (a full disk) or withdrawn (S2)
and is not replayed.
A sealed segment ends with its key table (S7): parts of at most TABLE_ENTRIES entries, then a closing TABLE
record without payload, the last bytes of the file: stripe = number of parts, aux = offset of the first part,
sequence = the highest in the segment. A table entry, little-endian:

     0     21     22      26               30        38
    +-----+------+--------+----------------+----------+
    | key | type | offset | payload length | sequence |
    +-----+------+--------+----------------+----------+

A log position is segment number << 32 | offset. Numbers are never reused.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import struct
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from cluster.node.files import IOVEC_MAX, FileLayer
from cluster.node.identity import NodeIdentity
from codec.block import (
    BlockCorrupt,
    BlockHeader,
    BlockKey,
    Buffer,
    RecordType,
    check_payload,
    header_bytes,
    pack_header,
    page_checksums,
    parse_header,
    record_bytes,
    tail_pad,
)

log = logging.getLogger("trivet.node")

TABLE_ENTRIES: Final = 16384  # entries in one TABLE part
PLAIN_RECORD_BYTES: Final = record_bytes(0)  # a record without payload
_ENTRY: Final = struct.Struct("<21sBIIQ")
TABLE_ENTRY_BYTES: Final = _ENTRY.size
_PART_HEADER_BYTES: Final = header_bytes(TABLE_ENTRIES * _ENTRY.size)
_SUFFIX: Final = ".seg"


class TableEntry(NamedTuple):
    """One SHARD, TOMBSTONE or CATALOG_LOG of a segment; `key` packed."""

    key: bytes
    type: int
    offset: int
    payload_length: int
    sequence: int


pack_table_entry = _ENTRY.pack


def unpack_entries(table: Buffer) -> Iterator[TableEntry]:
    """The entries of a packed table; raises BlockCorrupt when it ends within one."""
    if len(table) % _ENTRY.size:
        raise BlockCorrupt("key table ends within an entry")
    return (TableEntry(*fields) for fields in _ENTRY.iter_unpack(table))


def position(segment: int, offset: int) -> int:
    """The log position of a place in a segment."""
    return segment << 32 | offset


def segment_of(where: int) -> int:
    """Segment number of a log position."""
    return where >> 32


def offset_of(where: int) -> int:
    """Offset within its segment of a log position."""
    return where & 0xFFFFFFFF


def segment_path(directory: Path, number: int) -> Path:
    """The file of a segment."""
    return directory / f"{number:08x}{_SUFFIX}"


def segment_numbers(directory: Path, files: FileLayer) -> list[int]:
    """Numbers of the segments there, rising. Files of another name are left alone."""
    stems = (name[: -len(_SUFFIX)] for name in files.list(directory) if name.endswith(_SUFFIX))
    return sorted(int(stem, 16) for stem in stems if len(stem) == 8)


def align(offset: int) -> int:
    """The next place where a record may begin."""
    return (offset + 7) & -8


def plain_header(
    kind: RecordType, key: BlockKey, cluster_id: bytes, *, sequence: int, aux: int, payload: Buffer = b""
) -> bytes:
    """Header of a record that is not a shard."""
    pages = page_checksums(payload)
    return pack_header(
        BlockHeader(kind, key, 0, 0, 0, 0, len(payload), sequence, cluster_id, aux, pages),
    )


def read_exactly(files: FileLayer, fd: int, offset: int, length: int) -> memoryview:
    """`length` bytes, or fewer where the file ends."""
    buffer = memoryview(bytearray(length))
    filled = 0
    while filled < length:
        got = files.preadv(fd, buffer[filled:], offset + filled)
        if not got:
            break
        filled += got
    return buffer[:filled]


class SegmentWriter:
    """The active segment. Used by the writer thread only."""

    def __init__(self, files: FileLayer, number: int, identity: NodeIdentity, fd: int) -> None:
        self.number = number
        self.end = 0  # where the next record goes; everything before was written, not necessarily synced
        self._files = files
        self._fd = fd
        self._identity = identity
        self._table = bytearray()

    @classmethod
    def create(
        cls,
        files: FileLayer,
        directory: Path,
        number: int,
        identity: NodeIdentity,
        *,
        sequence: int,
        synced_position: int,
    ) -> SegmentWriter:
        """A new segment whose header and directory entry are durable (S4).

        `synced_position` is the end of what counts in the segment before. Raises OSError; then nothing
        was promised and the number is spent.
        """
        path = segment_path(directory, number)
        segment = cls(files, number, identity, files.open(path, create=True))
        try:
            key = BlockKey(identity.node_id, number, 0)
            header = plain_header(
                RecordType.SEGMENT, key, identity.cluster_id, sequence=sequence, aux=synced_position
            )
            segment.append([header], len(header))
            segment.sync()
            files.fsync_dir(directory)
        except OSError:
            segment.close()
            with contextlib.suppress(OSError):
                files.unlink(path)
            raise
        return segment

    def batch_header(self, synced_position: int) -> bytes:
        """The record that opens a batch (S4)."""
        key = BlockKey(self._identity.node_id, self.number, 0)
        return plain_header(RecordType.BATCH, key, self._identity.cluster_id, sequence=0, aux=synced_position)

    def append(self, buffers: Sequence[Buffer], nbytes: int) -> None:
        """Write `buffers`, together `nbytes`, at the end.

        After an OSError some of them may lie behind `end`, even whole ones: append nothing more to this
        segment; the next one's header, written with a position of `end`, makes them not count (S2).
        """
        if write_all(self._files, self._fd, buffers, self.end) != self.end + nbytes:
            raise AssertionError("a batch has another length than announced")
        self.end += nbytes

    def note(self, entries: bytes) -> None:
        """Packed table entries of records that were appended."""
        self._table += entries

    def sync(self) -> None:
        """Make everything appended durable. An OSError is final for this segment (S2)."""
        self._files.fdatasync(self._fd)

    def seal(self, sequence: int) -> None:
        """Append the key table and sync: nothing more is appended afterwards. Raises OSError."""
        buffers = list(pack_table(self._table, self._identity, self.end, sequence))
        self.append(buffers, sum(map(len, buffers)))
        self.sync()

    def close(self) -> None:
        """Give the file back; does not sync."""
        self._files.close(self._fd)


def write_all(files: FileLayer, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
    """Write all `buffers` at `offset`, whatever their number; returns the offset behind them."""
    rest = list(buffers)
    while rest:
        written = files.pwritev(fd, rest[:IOVEC_MAX], offset)
        if written <= 0:
            raise OSError(errno.EIO, "the file takes no more bytes")
        offset += written
        done = 0
        while done < len(rest) and written >= len(rest[done]):
            written -= len(rest[done])
            done += 1
        del rest[:done]
        if written:
            rest[0] = memoryview(rest[0])[written:]
    return offset


def pack_table(table: Buffer, identity: NodeIdentity, offset: int, sequence: int) -> Iterator[bytes]:
    """The TABLE records, parts and closing one, for a packed table that shall lie at `offset`."""
    key = BlockKey(identity.node_id, 0, 0)
    part_bytes = TABLE_ENTRIES * _ENTRY.size
    parts = 0
    for at in range(0, len(table), part_bytes):
        payload = bytes(table[at : at + part_bytes])
        part_key = key._replace(stripe=parts)
        yield plain_header(
            RecordType.TABLE, part_key, identity.cluster_id, sequence=0, aux=0, payload=payload
        )
        yield payload + tail_pad(len(payload))
        parts += 1
    yield plain_header(
        RecordType.TABLE, key._replace(stripe=parts), identity.cluster_id, sequence=sequence, aux=offset
    )


def read_table(files: FileLayer, fd: int, size: int, cluster_id: bytes) -> tuple[bytes, int] | None:
    """(packed table, highest sequence) of a sealed segment, or None when it has no whole table."""
    try:
        closing = parse_header(read_exactly(files, fd, size - PLAIN_RECORD_BYTES, PLAIN_RECORD_BYTES))
        if closing.type != RecordType.TABLE or closing.cluster_id != cluster_id or closing.payload_length:
            return None
        table, at = bytearray(), closing.aux
        for part in range(closing.key.stripe):
            header = parse_header(read_exactly(files, fd, at, _PART_HEADER_BYTES))
            if header.type != RecordType.TABLE or header.key.stripe != part:
                return None
            payload = read_exactly(files, fd, at + header.header_bytes, header.payload_length)
            check_payload(header, payload)
            table += payload
            at += header.record_bytes
    except (BlockCorrupt, OSError):
        return None
    return bytes(table), closing.sequence


class SegmentHandle:
    """A segment open for reading. The fd is closed when the last user lets go of the handle."""

    __slots__ = ("_files", "fd")

    def __init__(self, files: FileLayer, path: Path) -> None:
        self._files = files
        self.fd = files.open(path)

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            self._files.close(self.fd)


class SegmentReaders:
    """A bounded number of segments open for reading, for any thread.

    Keep the handle, not its fd, while reading: handles are counted by their references, so an fd in use
    is never closed or given to another file (S7).
    """

    def __init__(self, files: FileLayer, directory: Path, open_max: int) -> None:
        self._files = files
        self._directory = directory
        self._open_max = open_max
        self._open: dict[int, SegmentHandle] = {}
        self._lock = threading.Lock()

    def get(self, number: int) -> SegmentHandle:
        """A handle of that segment; raises OSError when it can't be opened."""
        handle = self._open.get(number)
        return self._open_segment(number) if handle is None else handle

    def _open_segment(self, number: int) -> SegmentHandle:
        with self._lock:
            handle = self._open.get(number)
            if handle is None:
                while len(self._open) >= self._open_max:
                    del self._open[next(iter(self._open))]
                handle = SegmentHandle(self._files, segment_path(self._directory, number))
                self._open[number] = handle
            return handle

    def forget(self, number: int) -> None:
        """Call when the file of that segment is unlinked. Who holds a handle may go on reading."""
        with self._lock:
            self._open.pop(number, None)

    def close(self) -> None:
        """Let go of all handles."""
        with self._lock:
            self._open.clear()
