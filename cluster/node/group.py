"""A write request, and the group of them that one append and one sync serve."""

from __future__ import annotations

from typing import Final

from cluster.log_names import index_key, is_log_key
from cluster.node.index_entry import GONE, TOMBSTONE, Counts, Entry, log_counts, pack_entry
from cluster.node.segment import PLAIN_RECORD_BYTES, SegmentWriter, pack_table_entry, position
from cluster.node.usage import Shares, count_block, count_tombstone
from cluster.wire import Appended, Fault, Message, Op, PutBlock, Status
from codec.block import (
    KEY_BYTES,
    BlockHeader,
    BlockKey,
    Buffer,
    RecordType,
    pack_header,
    page_checksums,
    page_count,
    tail_pad,
    unpack_key,
)

_SHARD: Final = int(RecordType.SHARD)
_TOMBSTONE: Final = int(RecordType.TOMBSTONE)
_LOG: Final = int(RecordType.CATALOG_LOG)


def check_put(message: PutBlock, payload: Buffer) -> str | None:
    """Why a block must not be stored, or None. Verifies the pages the front computed (S6)."""
    if len(message.blob) != 16 or not 0 <= message.stripe < 1 << 32 or not 0 <= message.shard < 256:
        return "not a block key"
    if not (1 <= message.k <= 255 and 0 <= message.m <= 255 and 0 <= message.codec <= 255):
        return "not a code"
    if not 0 < len(payload) <= message.stripe_length < 1 << 32:
        return "payload and stripe length disagree"
    if len(message.pages) != 4 * page_count(len(payload)) or page_checksums(payload) != message.pages:
        return "payload does not match its page checksums"
    return None


class Write:
    """One request that changes the log, and what came of it.

    `origin`, `request_id` and `nbytes` (what it counts against the queue limits) are the caller's business.
    `deadline` is on the store's clock, 0 = none. The outcome is `status` and `answer`.
    """

    __slots__ = ("answer", "deadline", "message", "nbytes", "op", "origin", "payload", "request_id", "status")

    def __init__(
        self,
        op: Op,
        message: Message,
        payload: Buffer = b"",
        *,
        deadline: float = 0.0,
        origin: object = None,
        request_id: int = 0,
        nbytes: int = 0,
    ) -> None:
        self.op = op
        self.message = message
        self.payload = payload
        self.deadline = deadline
        self.origin = origin
        self.request_id = request_id
        self.nbytes = nbytes
        self.status = Status.FAILED
        self.answer: Message = _UNDECIDED

    def accept(self, answer: Message) -> None:
        """Done, as far as the sync that it may wait for succeeds."""
        self.status = Status.OK
        self.answer = answer

    def refuse(self, status: Status, message: str) -> None:
        """Not done."""
        self.status = status
        self.answer = Fault(message)


_UNDECIDED: Final = Fault("not decided")


class Group:
    """Records to append together, with the index entries and key table entries they lead to."""

    __slots__ = (
        "appended",
        "blocks",
        "buffers",
        "entries",
        "header_bytes",
        "incarnation",
        "live_bytes",
        "log_bytes",
        "log_entries",
        "nbytes",
        "shares",
        "stored_blocks",
        "stored_bytes",
        "table",
        "waiting",
    )

    def __init__(self, incarnation: int) -> None:
        self.incarnation = incarnation
        self.header_bytes = PLAIN_RECORD_BYTES  # a BATCH record goes first (S4)
        self.forget_appended()
        self.waiting: list[Write] = []  # answered OK only after a sync

    def forget_appended(self) -> None:
        """Nothing of it was appended."""
        self.buffers: list[Buffer] = []
        self.nbytes = self.header_bytes
        self.entries: dict[bytes, bytes] = {}
        self.table = bytearray()
        self.appended: list[Write] = []
        self.blocks = 0
        self.live_bytes = 0
        self.log_entries = 0
        self.log_bytes = 0
        self.stored_blocks = 0  # as they came, whatever they replace
        self.stored_bytes = 0
        self.shares: Shares = {}

    @property
    def counts(self) -> Counts:
        """What it does to the node's counters."""
        return Counts(self.blocks, self.live_bytes, self.log_entries, self.log_bytes)

    def replaces(self, entry: Entry) -> None:
        """That entry will be covered by the next record."""
        if entry.payload_length == TOMBSTONE:
            count_tombstone(self.shares, entry.segment, -1)
            return
        self.blocks -= 1
        self.live_bytes -= entry.payload_length
        count_block(self.shares, entry.segment, entry.payload_length, -1)

    def add_shard(
        self,
        active: SegmentWriter,
        write: Write,
        key: BlockKey,
        packed: bytes,
        *,
        sequence: int,
        cluster_id: bytes,
        older: bytes,
    ) -> None:
        """Append a block; the put is answered with the position behind it. `older` as the index wants it."""
        message, payload = write.message, write.payload
        assert isinstance(message, PutBlock)
        length = len(payload)
        header = pack_header(
            BlockHeader(
                _SHARD,
                key,
                message.k,
                message.m,
                message.codec,
                message.stripe_length,
                length,
                sequence,
                cluster_id,
                0,
                message.pages,
            )
        )
        offset = active.end + self.nbytes
        self.buffers.append(header)
        self.buffers.append(payload)
        if length & 7:
            self.buffers.append(tail_pad(length))
        self.nbytes += len(header) + (length + 7 & -8)
        self.entries[packed] = pack_entry(active.number, offset, length, sequence) + older
        self.table += pack_table_entry(packed, _SHARD, offset, length, sequence)
        count_block(self.shares, active.number, length)
        self.blocks += 1
        self.live_bytes += length
        self.stored_blocks += 1
        self.stored_bytes += length
        end = position(active.number, active.end + self.nbytes)
        write.accept(Appended(self.incarnation, end, sequence))
        self.appended.append(write)
        if message.sync:
            self.waiting.append(write)

    def add_log(
        self,
        active: SegmentWriter,
        packed: bytes,
        payload: Buffer,
        pages: bytes,
        *,
        sequence: int,
        cluster_id: bytes,
    ) -> None:
        """Append an entry of the catalog's log, or the mark."""
        length = len(payload)
        header = pack_header(
            BlockHeader(_LOG, unpack_key(packed), 0, 0, 0, 0, length, sequence, cluster_id, 0, pages)
        )
        offset = active.end + self.nbytes
        self.buffers += [header, payload, tail_pad(length)]
        self.nbytes += len(header) + (length + 7 & -8)
        self.entries[index_key(_LOG, packed)] = pack_entry(active.number, offset, length, sequence)
        self.table += pack_table_entry(packed, _LOG, offset, length, sequence)
        count_block(self.shares, active.number, length)
        self._count_log(index_key(_LOG, packed), length, 1)

    def drop_log(self, key: bytes, entry: Entry) -> None:
        """That log entry does not count any more: a newer one, or a mark, is appended with this group. `key` as the
        index has it."""
        self.entries[key] = GONE
        count_block(self.shares, entry.segment, entry.payload_length, -1)
        self._count_log(key, entry.payload_length, -1)

    def _count_log(self, key: bytes, payload_length: int, count: int) -> None:
        counts = log_counts(key, payload_length)
        self.log_entries += count * counts.log_entries
        self.log_bytes += count * counts.log_bytes

    def add_answered(self, write: Write, active: SegmentWriter, sequence: int) -> None:
        """All records of a write are in; it is answered when they are synced."""
        write.accept(Appended(self.incarnation, position(active.number, active.end + self.nbytes), sequence))
        self.appended.append(write)
        self.waiting.append(write)

    def add_tombstone(
        self,
        active: SegmentWriter,
        packed: bytes,
        copy: int,
        *,
        sequence: int,
        cluster_id: bytes,
        older: bytes,
    ) -> None:
        """Append the deletion of one copy (0 = any)."""
        key = unpack_key(packed)
        header = pack_header(BlockHeader(_TOMBSTONE, key, 0, 0, 0, 0, 0, sequence, cluster_id, copy, b""))
        offset = active.end + self.nbytes
        self.buffers.append(header)
        self.nbytes += len(header)
        self.entries[packed] = pack_entry(active.number, offset, TOMBSTONE, sequence) + older
        self.table += pack_table_entry(packed, _TOMBSTONE, offset, 0, sequence)
        count_tombstone(self.shares, active.number)

    def add_moved(
        self, active: SegmentWriter, packed: bytes, entry: Entry, record: Buffer, *, older: bytes
    ) -> None:
        """Append a record as it is, with the sequence it has (S3): it lies in a segment that is to go. `packed` as the
        index has it."""
        offset = active.end + self.nbytes
        self.buffers.append(record)
        self.nbytes += len(record)
        self.entries[packed] = pack_entry(active.number, offset, entry.payload_length, entry.sequence) + older
        if entry.payload_length == TOMBSTONE:
            self.table += pack_table_entry(packed, _TOMBSTONE, offset, 0, entry.sequence)
            count_tombstone(self.shares, entry.segment, -1)
            count_tombstone(self.shares, active.number)
        else:
            kind = _LOG if is_log_key(packed) else _SHARD
            self.table += pack_table_entry(
                packed[:KEY_BYTES], kind, offset, entry.payload_length, entry.sequence
            )
            count_block(self.shares, entry.segment, entry.payload_length, -1)
            count_block(self.shares, active.number, entry.payload_length)
