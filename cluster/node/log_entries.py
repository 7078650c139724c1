"""The catalog's log as a node keeps it (S17): entries among the records of its segments, under names of their own.

An entry is replaced by a newer one of its name, and goes when the log is trimmed. Trimming leaves no tombstones: a
single record, the mark, says which name is the first that still counts. It is live for ever, moves with the
compaction, and outlives what it takes away: an index that is made anew finds all records first, and then leaves out
what lies before the mark. An append of such an entry is answered as done, for the snapshot that made it superfluous is
stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cluster.log_names import (
    MARK_INDEX_KEY,
    MARK_KEY,
    LogEntryName,
    index_key,
    is_log_key,
    pack_name,
    unpack_name,
)
from cluster.node.group import Group, Write
from cluster.node.index import Index, IndexReader
from cluster.node.index_entry import TOMBSTONE, Entry, unpack_entry
from cluster.node.log import NodeLog
from cluster.node.records import BlockUnreadable, Records
from cluster.node.segment import SegmentWriter
from cluster.wire import TRIM_LOG_MAX, Appended, AppendLog, LogTrimmed, TrimLog
from codec.block import (
    KEY_BYTES,
    BlockCorrupt,
    Buffer,
    RecordType,
    header_bytes,
    page_checksums,
    record_bytes,
    unpack_key,
    verify_log,
)

_LOG: Final = int(RecordType.CATALOG_LOG)
MARK_RECORD_BYTES: Final = record_bytes(KEY_BYTES)


class LogMissing(Exception):
    """No entry of that name here."""


def appended_bytes(write: Write) -> int:
    """What an APPEND_LOG takes in a segment, at most."""
    message = write.message
    assert isinstance(message, AppendLog)
    return sum(header_bytes(entry[4]) + entry[4] + 8 for entry in message.entries)


class LogEntries:
    """`append`, `trim` and `settle` belong to the writer thread; `read` and `page` to any."""

    def __init__(self, index: Index, log_: NodeLog, records: Records, *, cluster_id: bytes) -> None:
        self._index = index
        self._log = log_
        self._records = records
        self._cluster_id = cluster_id
        self._mark = b""  # packed; what comes before it is trimmed
        self._reader = IndexReader(index)

    def release_reader(self) -> None:
        """Call about once a second; see IndexReader."""
        self._reader.release()

    def settle(self) -> None:
        """After recovery: what lies before the mark does not count, wherever it was found."""
        raw = self._index.get(MARK_INDEX_KEY)
        if raw is None:
            return
        entry = unpack_entry(raw)
        try:
            mark = verify_log(
                self._records.read(entry, 0, entry.payload_length, 0, False), unpack_key(MARK_KEY)
            )
        except (BlockCorrupt, BlockUnreadable):
            # Nothing is lost: what was trimmed may be seen again, until the next trim makes a new mark.
            self._records.is_bad(MARK_INDEX_KEY, entry, "rotten")
            return
        self._mark = bytes(mark[1])
        while doomed := self._before(self._mark, TRIM_LOG_MAX):
            self._index.drop_log(doomed)

    def may_join(self, group: Group, write: Write) -> bool:
        """Whether the write can be decided while what `group` does to the log is not yet to be seen."""
        if not any(map(is_log_key, group.entries)):
            return True
        if isinstance(write.message, TrimLog):
            return False
        return not any(index_key(_LOG, packed) in group.entries for packed, _, _ in _entries(write))

    def append(self, group: Group, active: SegmentWriter, write: Write) -> None:
        """Store entries; those under known names take their places."""
        sequence = 0
        for packed, payload, pages in _entries(write):
            key = index_key(_LOG, packed)
            if packed < self._mark:
                continue
            raw = self._reader.get(key)
            if raw is not None and key not in group.entries:
                before = unpack_entry(raw)
                if before.payload_length != TOMBSTONE:
                    group.drop_log(key, before)
            sequence = self._log.take_sequence()
            group.add_log(active, packed, payload, pages, sequence=sequence, cluster_id=self._cluster_id)
        if sequence:
            group.add_answered(write, active, sequence)
        else:
            write.accept(Appended(group.incarnation, self._log.end, 0))

    def trim(self, group: Group, active: SegmentWriter, write: Write) -> None:
        """Drop some of what comes before the name to keep."""
        message = write.message
        assert isinstance(message, TrimLog)
        keep = pack_name(LogEntryName(*message.keep))
        doomed = self._before(keep, TRIM_LOG_MAX + 1)
        more = len(doomed) > TRIM_LOG_MAX
        if doomed or keep > self._mark:
            raw = self._reader.get(MARK_INDEX_KEY)
            if raw is not None:
                group.drop_log(MARK_INDEX_KEY, unpack_entry(raw))
            for key, entry in doomed[:TRIM_LOG_MAX]:
                group.drop_log(key, entry)
            self._mark = max(self._mark, keep)
            sequence = self._log.take_sequence()
            group.add_log(
                *(active, MARK_KEY, self._mark, page_checksums(self._mark)),
                sequence=sequence,
                cluster_id=self._cluster_id,
            )
            group.appended.append(write)
        write.accept(LogTrimmed(len(doomed) - more, more))
        group.waiting.append(write)

    def _before(self, keep: bytes, limit: int) -> list[tuple[bytes, Entry]]:
        found, _ = self._index.log_page(b"", limit)
        return [(key, entry) for key, entry in found if key[:KEY_BYTES] < keep]

    # -- reading -------------------------------------------------------------------------------------------

    def read(self, name: LogEntryName, room: int) -> bytearray:
        """The record of that entry, behind `room` free bytes; unverified: the asker checks it, as of a block.

        Raises LogMissing and BlockUnreadable."""
        key = index_key(_LOG, pack_name(name))
        raw = self._index.get(key)
        while raw is not None:
            entry = unpack_entry(raw)
            if entry.payload_length == TOMBSTONE:
                break
            try:
                return self._records.read(entry, 0, entry.payload_length, room, False)
            except BlockUnreadable:
                again = self._index.get(key)
                if again == raw:
                    self._records.is_bad(key, entry, "unreadable")
                    raise
                raw = again  # moved by the compaction, or replaced, since it was looked up
        raise LogMissing

    def page(self, after: bytes, limit: int) -> tuple[list[tuple[int, int, int, int, int]], bool]:
        """Names behind the packed name `after` in the order of the log, with payload lengths, and whether more may
        follow."""
        if not limit:
            return [], self._index.log_entries > 0
        found, more = self._index.log_page(index_key(_LOG, after) if after else b"", limit)
        names = [(*unpack_name(key), entry.payload_length) for key, entry in found if key != MARK_INDEX_KEY]
        return names, more


def _entries(write: Write) -> Iterator[tuple[bytes, Buffer, bytes]]:
    """(packed name, payload, page checksums) of what an APPEND_LOG brings."""
    message = write.message
    assert isinstance(message, AppendLog)
    view, at = memoryview(write.payload), 0
    for kind, term, batch, chunk, length, pages in message.entries:
        yield pack_name(LogEntryName(kind, term, batch, chunk)), view[at : at + length], pages
        at += length
