"""Records where the index says they lie: for replies, for telling a duplicate from a conflict (S5), for checks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cluster.log_names import is_log_key
from cluster.node.damage import DamageList
from cluster.node.files import FileLayer
from cluster.node.index_entry import Entry
from cluster.node.segment import SegmentReaders, segment_path
from cluster.wire import PutBlock
from codec.block import (
    KEY_BYTES,
    BlockCorrupt,
    BlockKey,
    Buffer,
    header_bytes,
    pack_key,
    record_bytes,
    unpack_key,
    verify,
    verify_log,
)

DamageReport = Callable[[str, int, int, int], None]  # kind, segment, offset, length


class BlockUnreadable(Exception):
    """The block is known, but its record can't be read from the disk."""


class Records:
    """Reads for any thread."""

    def __init__(
        self,
        files: FileLayer,
        directory: Path,
        readers: SegmentReaders,
        report: DamageReport,
        damaged: DamageList,
    ) -> None:
        """`directory` is where the segments lie."""
        self._files = files
        self._directory = directory
        self._readers = readers
        self._report = report
        self._damaged = damaged

    def is_bad(self, key: bytes, entry: Entry, kind: str) -> None:
        """Tell of a record that does not hold its block: counted and logged once, listed for the steward.

        As a block may be moved or covered between look-up and read, see first that the index still says
        the same.
        """
        if self._damaged.found(key, entry.sequence, kind):
            self._report(kind, entry.segment, entry.offset, record_bytes(entry.payload_length))

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
            raise BlockUnreadable(str(error)) from error
        if got != len(target):
            if nowait:
                raise BlockingIOError  # a part of it is in the page cache
            raise BlockUnreadable(f"{got} of {len(target)} bytes are there")
        return buffer

    def read_disk(self, segment: int, offset: int, length: int) -> Buffer:
        """Bytes of a segment from the disk itself (S2); fewer at its end. Raises BlockUnreadable.

        The file is opened by its name: an open handle would still read one that is lost.
        """
        try:
            return self._files.read_disk(segment_path(self._directory, segment), offset, length)
        except OSError as error:
            raise BlockUnreadable(str(error)) from error

    def check(self, key: bytes, entry: Entry) -> None:
        """Read a record from the disk itself and check every byte of it.

        Raises BlockUnreadable, or BlockCorrupt when it is not the whole, undamaged record that the index
        means. Of a record that no sync has covered yet, only the cached bytes can be checked.
        """
        record = self.read_disk(entry.segment, entry.offset, record_bytes(entry.payload_length))
        check_record(record, key, entry)

    def holds(self, entry: Entry, key: BlockKey, message: PutBlock, payload: Buffer) -> bool | None:
        """Whether the record at `entry`, read again and verified, is this very block (S5).

        None when it fails its check: then it is rotten and must be superseded.
        """
        try:
            stored = verify(self.read(entry, 0, entry.payload_length, 0, nowait=False), key)
        except (BlockUnreadable, BlockCorrupt):
            self.is_bad(pack_key(key), entry, "rotten")
            return None
        header = stored.header
        return (
            (header.k, header.m, header.codec, header.stripe_length, header.pages)
            == (message.k, message.m, message.codec, message.stripe_length, message.pages)
        ) and bytes(stored.payload) == bytes(payload)


def check_record(record: Buffer, key: bytes, entry: Entry) -> None:
    """Verify the bytes of a record, a block's or a log entry's, which must be the one that the index means by `entry`.

    Raises BlockCorrupt on any wrong byte, and when it is another block, or another copy of this one (S6).
    """
    if is_log_key(key):
        header, _ = verify_log(record, unpack_key(key[:KEY_BYTES]))
    else:
        header = verify(record, unpack_key(key)).header
    if (header.sequence, header.payload_length) != (entry.sequence, entry.payload_length):
        raise BlockCorrupt(f"copy {header.sequence} where {entry.sequence} was expected")
