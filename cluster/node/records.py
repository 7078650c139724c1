"""Records where the index says they lie: for replies, and for telling a duplicate from a conflict (S5)."""

from __future__ import annotations

from collections.abc import Callable

from cluster.node.files import FileLayer
from cluster.node.index import Entry
from cluster.node.segment import SegmentReaders
from cluster.wire import PutBlock
from codec.block import BlockCorrupt, BlockKey, Buffer, header_bytes, record_bytes, verify

DamageReport = Callable[[str, int, int, int], None]  # kind, segment, offset, length


class BlockUnreadable(Exception):
    """The block is known, but its record can't be read from the disk."""


class Records:
    """Reads for any thread."""

    def __init__(self, files: FileLayer, readers: SegmentReaders, report: DamageReport) -> None:
        self._files = files
        self._readers = readers
        self._report = report

    def read(self, entry: Entry, begin: int, end: int, room: int, nowait: bool) -> bytearray:
        """`room` free bytes, then header, page table and the payload bytes begin..end, unverified.

        Raises BlockUnreadable, and with `nowait` BlockingIOError when not all of it is in memory.
        """
        head = header_bytes(entry.payload_length)
        buffer = bytearray(room + head + end - begin)
        target = memoryview(buffer)[room:] if room else memoryview(buffer)
        try:
            handle = self._readers.get(entry.segment)
            if begin == 0:
                got = self._files.preadv(handle.fd, target, entry.offset, nowait)
            else:
                got = self._files.preadv(handle.fd, target[:head], entry.offset, nowait)
                got += self._files.preadv(handle.fd, target[head:], entry.offset + head + begin, nowait)
        except BlockingIOError:
            raise
        except OSError as error:
            self._report("unreadable", entry.segment, entry.offset, end - begin)
            raise BlockUnreadable(str(error)) from error
        if got != len(target):
            if nowait:
                raise BlockingIOError  # a part of it is in the page cache
            self._report("unreadable", entry.segment, entry.offset, end - begin)
            raise BlockUnreadable(f"{got} of {len(target)} bytes are there")
        return buffer

    def holds(self, entry: Entry, key: BlockKey, message: PutBlock, payload: Buffer) -> bool | None:
        """Whether the record at `entry`, read again and verified, is this very block (S5).

        None when it fails its check: then it is rotten and must be superseded.
        """
        try:
            stored = verify(self.read(entry, 0, entry.payload_length, 0, nowait=False), key)
        except (BlockUnreadable, BlockCorrupt):
            self._report("rotten", entry.segment, entry.offset, record_bytes(entry.payload_length))
            return None
        header = stored.header
        return (
            (header.k, header.m, header.codec, header.stripe_length, header.pages)
            == (message.k, message.m, message.codec, message.stripe_length, message.pages)
        ) and bytes(stored.payload) == bytes(payload)
