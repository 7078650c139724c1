"""The wire between fronts, steward and nodes: frames and messages. Sans-I/O; loaded by nodes.

A frame, all integers little-endian. The payload stays outside the msgpack header so that no serializer
ever copies it:

     0        4            8    9        10              12            16
    +--------+------------+----+--------+---------------+-------------+----------------+---------+
    | length | request id | op | status | header length | deadline ms | msgpack header | payload |
    +--------+------------+----+--------+---------------+-------------+----------------+---------+

`length` counts the bytes after itself. `deadline ms` is how long the asker will still wait when it sends
(clocks are never compared), 0 = no limit. A request's status is 0; a reply carries the request's id and op.
A reply that is not OK carries `Fault`. How a connection begins is in cluster/handshake.py.
"""

from __future__ import annotations

import enum
import struct
from typing import Final, NamedTuple

import msgspec

Buffer = bytes | bytearray | memoryview

MAX_FRAME_BYTES: Final = (4 << 20) + (64 << 10)
HANDSHAKE_FRAME_BYTES: Final = 4096
RECEIVE_BYTES: Final = 256 << 10  # the reusable buffer of one connection
OWN_BUFFER_BYTES: Final = 16 << 10  # an incomplete frame larger than this gets a buffer of its own
HEADER_BYTES_MAX: Final = 65535  # of the msgpack header; the two below fit into it
DELETE_BLOCKS_MAX: Final = 1000  # blocks in one DELETE_BLOCKS
INVENTORY_MAX: Final = 1000  # entries in one INVENTORY or DAMAGED page
VERIFY_BLOCKS_MAX: Final = 1000  # keys in one VERIFY_BLOCKS
APPEND_LOG_MAX: Final = 500  # entries in one APPEND_LOG
TRIM_LOG_MAX: Final = 1000  # entries that one TRIM_LOG drops
LOG_STATUS_MAX: Final = 1000  # names in one LOG_STATUS page
# Release N speaks N and N-1 (S25), and 1, which costs nothing. 2 added VERIFY_BLOCKS, DAMAGED, PutBlock.repair; 3 the
# catalog's log.
VERSION_MIN: Final = 1
VERSION_LOG: Final = 3  # from here on APPEND_LOG, READ_LOG, TRIM_LOG and LOG_STATUS are served
VERSION_MAX: Final = 3

_PREFIX: Final = struct.Struct("<IIBBHI")
PREFIX_BYTES: Final = _PREFIX.size
_LENGTH_BYTES: Final = 4


class Op(enum.IntEnum):
    """What a frame asks for. Numbers are part of the protocol and never reused."""

    HELLO = 1
    PROVE = 2
    PUT_BLOCK = 16
    READ_BLOCK = 17
    DELETE_BLOCKS = 18
    SYNC = 19
    FENCE = 20
    INVENTORY = 21
    STATUS = 22
    APPEND_LOG = 23
    VERIFY_BLOCKS = 24
    DAMAGED = 25
    READ_LOG = 26
    TRIM_LOG = 27
    LOG_STATUS = 28


class Status(enum.IntEnum):
    """How a request ended."""

    OK = 0
    NOT_FOUND = 1
    CORRUPT = 2  # the record could not be read whole
    CONFLICT = 3  # other bytes lie under that key (S5)
    STALE_INCARNATION = 4  # the position belongs to an earlier incarnation (S1)
    FENCED = 5  # another catalog, or a lower term (S18)
    READ_ONLY = 6  # the disk is full
    DEADLINE = 7  # the asker has stopped waiting; nothing was done
    BAD_REQUEST = 8
    NOT_SUPPORTED = 9
    FAILED = 10  # the disk failed; nothing may be concluded
    BUSY = 11


class Role(enum.StrEnum):
    """Who speaks."""

    FRONT = "front"
    STEWARD = "steward"
    CLI = "cli"
    NODE = "node"


class FrameError(Exception):
    """The peer's byte stream can't be followed any further; close the connection."""


class FrameTooLarge(FrameError):
    """A frame claims more bytes than allowed. Raised before anything is allocated for it."""


class FrameCorrupt(FrameError):
    """Lengths within a frame contradict each other."""


class Frame(NamedTuple):
    """One decoded frame. `payload` is bytes, or a memoryview of a buffer that belongs to it alone."""

    request_id: int
    op: int
    status: int
    deadline_ms: int
    header: bytes
    payload: Buffer


def encode_frame(  # noqa: PLR0917 - hot path: positional calls are cheaper
    request_id: int, op: int, status: int, deadline_ms: int, header: bytes, payload_length: int
) -> bytes:
    """Prefix and header; the caller sends `payload_length` payload bytes right behind, uncopied."""
    length = PREFIX_BYTES - _LENGTH_BYTES + len(header) + payload_length
    return _PREFIX.pack(length, request_id, op, status, len(header), deadline_ms) + header


class FrameDecoder:
    """Bytes in, frames out, for asyncio.BufferedProtocol.

    Small frames arrive in one reusable buffer and are copied out. An incomplete larger frame gets an exactly
    sized buffer of its own, into which the rest is received directly. Lengths are checked against
    `max_frame_bytes` first; after a FrameError the decoder must not be used again.
    """

    __slots__ = ("_filled", "_own", "_view", "max_frame_bytes")

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self.max_frame_bytes = max_frame_bytes
        self._view = memoryview(bytearray(RECEIVE_BYTES))
        self._own: memoryview | None = None
        self._filled = 0  # bytes received into _own, or into _view when there is none

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the transport shall receive to; never empty. `sizehint` is ignored."""
        return (self._view if self._own is None else self._own)[self._filled :]

    def buffer_updated(self, nbytes: int) -> list[Frame]:
        """The frames completed by `nbytes` more received bytes. Raises FrameTooLarge, FrameCorrupt."""
        self._filled += nbytes
        own = self._own
        if own is None:
            return self._split()
        if self._filled < len(own):
            return []
        self._own = None
        self._filled = 0
        _, request_id, op, status, header_length, deadline_ms = _PREFIX.unpack_from(own)
        middle = PREFIX_BYTES + header_length
        return [
            Frame(request_id, op, status, deadline_ms, bytes(own[PREFIX_BYTES:middle]), own[middle:]),
        ]

    def _split(self) -> list[Frame]:
        view, end, at = self._view, self._filled, 0
        frames: list[Frame] = []
        while end - at >= PREFIX_BYTES:
            length, request_id, op, status, header_length, deadline_ms = _PREFIX.unpack_from(view, at)
            stop = at + _LENGTH_BYTES + length
            middle = at + PREFIX_BYTES + header_length
            if stop - at > self.max_frame_bytes:
                raise FrameTooLarge(f"a frame of {length} bytes; the limit is {self.max_frame_bytes}")
            if middle > stop:
                raise FrameCorrupt(f"a frame of {length} bytes claims a header of {header_length}")
            if stop > end:
                if stop - at > OWN_BUFFER_BYTES:
                    self._own = memoryview(bytearray(stop - at))
                    self._own[: end - at] = view[at:end]
                    self._filled = end - at
                    return frames
                break
            header = bytes(view[at + PREFIX_BYTES : middle])
            frames.append(Frame(request_id, op, status, deadline_ms, header, bytes(view[middle:stop])))
            at = stop
        if at:
            view[: end - at] = view[at:end]
            self._filled = end - at
        return frames


# -- messages ---------------------------------------------------------------------------------------------
# array_like: fields travel by position, so a later version may only add fields with defaults at the end.


class Message(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Base of all frame headers."""


class Fault(Message, frozen=True):
    """Why a request was not done; for logs, never parsed."""

    message: str


class PutBlock(Message, frozen=True):
    """Store one shard, the frame's payload. `pages` is `page_checksums` of it, computed by the front (S6)."""

    blob: bytes
    stripe: int
    shard: int
    k: int
    m: int
    codec: int
    stripe_length: int
    pages: bytes
    sync: bool  # answer only when it is durable
    repair: bool = False  # append a new copy whatever is there (S20); it covers the old one under this key
    trace: bytes = b""  # context of the span that asks, as cluster.tracing has it


class Appended(Message, frozen=True):
    """Durable once a SYNC of (incarnation, position) succeeded, or at once if sync was asked for (S1)."""

    incarnation: int
    position: int
    sequence: int  # names this copy (S20); 0 when nothing needed to be written


class ReadBlock(Message, frozen=True):
    """Payload bytes start..stop of a shard; stop = 0 means all of it."""

    blob: bytes
    stripe: int
    shard: int
    start: int
    stop: int
    trace: bytes = b""


class BlockRead(Message, frozen=True):
    """The payload is header, page table and the pages from `first_page` on, as `verify_pages` takes it."""

    first_page: int


class DeleteBlocks(Message, frozen=True):
    """Drop copies by (21-byte key, record sequence; 0 = any copy), under a fence (S18, S20); synced."""

    catalog_id: bytes
    term: int
    blocks: list[tuple[bytes, int]]


class Sync(Message, frozen=True):
    """Make everything up to `position` durable; refused when the incarnation has changed (S1)."""

    incarnation: int
    position: int


class Synced(Message, frozen=True):
    """Everything before `position` is durable."""

    incarnation: int
    position: int


class Fence(Message, frozen=True):
    """From now on accept deletes of this catalog at this term or a higher one only (S18)."""

    catalog_id: bytes
    term: int


class Fenced(Message, frozen=True):
    """The fence that is now stored durably."""

    catalog_id: bytes
    term: int


class Inventory(Message, frozen=True):
    """One page of the blocks held, in key order, after the 21-byte key `after` (b"" = from the first)."""

    after: bytes
    limit: int


class InventoryPage(Message, frozen=True):
    """Entries (key, sequence, payload length); `more` when another page may follow."""

    entries: list[tuple[bytes, int, int]]
    more: bool


class VerifyBlocks(Message, frozen=True):
    """How each of these blocks (packed keys) lies on the node. `deep`: read again from the disk itself, past
    the page cache, and every page checked (S2, STYLE 12); else only what the index says."""

    keys: list[bytes]
    deep: bool


class BlocksVerified(Message, frozen=True):
    """(state, sequence, payload length) in the order asked; state is Status OK, NOT_FOUND or CORRUPT."""

    blocks: list[tuple[int, int, int]]


class Damaged(Message, frozen=True):
    """One page of the blocks that the node found bad itself, in key order, after the packed key `after`."""

    after: bytes
    limit: int


class DamagedPage(Message, frozen=True):
    """Entries (packed key, sequence, kind of damage); `more` when another page may follow."""

    entries: list[tuple[bytes, int, str]]
    more: bool


class AppendLog(Message, frozen=True):
    """Store entries of the catalog's log (S17), their payloads one behind the other; answered with Appended when they
    are synced. Under a fence, as deletes are (S18): `term` is the catalog's term as the sender knows it, which may be
    higher than that of an entry. An entry under a name that exists takes its place.

    An entry is (kind, term, batch, chunk, payload length, page checksums of its payload)."""

    catalog_id: bytes
    term: int
    entries: list[tuple[int, int, int, int, int, bytes]]


class ReadLog(Message, frozen=True):
    """The entry of that name; answered as READ_BLOCK answers for a whole block."""

    kind: int
    term: int
    batch: int
    chunk: int


class TrimLog(Message, frozen=True):
    """Drop entries whose names come before `keep` (kind, term, batch, chunk) in the order (term, batch, kind, chunk),
    under a fence (S18); synced. At most TRIM_LOG_MAX at once: ask again while there are more."""

    catalog_id: bytes
    term: int
    keep: tuple[int, int, int, int]


class LogTrimmed(Message, frozen=True):
    """So many were dropped; `more` are to be."""

    entries: int
    more: bool


class LogStatusRequest(Message, frozen=True):
    """Asks for LogStatus, with at most `limit` names behind the packed name `after` (b"" = from the first), in the
    order (term, batch, kind, chunk)."""

    after: bytes
    limit: int


class LogStatus(Message, frozen=True):
    """What a node holds of the catalog's log: the fence it obeys (no id while it knows none), entries, bytes of their
    payloads, those of them that it knows to be bad, and a page of (kind, term, batch, chunk, payload length)."""

    catalog_id: bytes
    term: int
    entries: int
    nbytes: int
    damaged: int
    names: list[tuple[int, int, int, int, int]]
    more: bool


class StatusRequest(Message, frozen=True):
    """Asks for NodeStatus."""


class NodeStatus(Message, frozen=True):
    """What a node knows of itself; sizes in bytes, damage counted by kind since it started.

    `failing`: the last write or sync failed with an I/O error, so new blocks are better put elsewhere.
    `scrubbed_bytes`, `scrub_passes`, `reclaimed_bytes` (given back by compaction) count since the start;
    `damaged_blocks` is the number of blocks that DAMAGED would list. `capacity_bytes` is the size of its file
    system, `queued_bytes` what was received and is not yet answered, `peers` its connections. `stored_…` and
    `read_…` count since the start. `sync_us` (microseconds of each sync) and `group_writes` (requests that one
    append served) are histograms as codec.histogram has them, by bucket, since the start. `log_entries` and
    `log_bytes` are of the catalog's log (S17); `blocks`, `live_bytes` and `damaged_blocks` leave it out.
    """

    node_id: bytes
    incarnation: int
    blocks: int
    segment_bytes: int
    live_bytes: int
    free_bytes: int
    damage: dict[str, int]
    read_only: bool
    failing: bool = False
    segments: int = 0
    damaged_blocks: int = 0
    scrubbed_bytes: int = 0
    scrub_passes: int = 0
    reclaimed_bytes: int = 0
    release: str = ""
    uptime_s: float = 0.0
    capacity_bytes: int = 0
    queued_bytes: int = 0
    peers: int = 0
    stored_blocks: int = 0
    stored_bytes: int = 0
    read_blocks: int = 0
    read_bytes: int = 0
    sync_us: dict[int, int] = {}
    group_writes: dict[int, int] = {}
    log_entries: int = 0
    log_bytes: int = 0


encode = msgspec.msgpack.Encoder().encode  # any message -> header bytes
decode_fault = msgspec.msgpack.Decoder(Fault).decode
decode_put_block = msgspec.msgpack.Decoder(PutBlock).decode
decode_appended = msgspec.msgpack.Decoder(Appended).decode
decode_read_block = msgspec.msgpack.Decoder(ReadBlock).decode
decode_block_read = msgspec.msgpack.Decoder(BlockRead).decode
decode_delete_blocks = msgspec.msgpack.Decoder(DeleteBlocks).decode
decode_sync = msgspec.msgpack.Decoder(Sync).decode
decode_synced = msgspec.msgpack.Decoder(Synced).decode
decode_fence = msgspec.msgpack.Decoder(Fence).decode
decode_fenced = msgspec.msgpack.Decoder(Fenced).decode
decode_inventory = msgspec.msgpack.Decoder(Inventory).decode
decode_inventory_page = msgspec.msgpack.Decoder(InventoryPage).decode
decode_verify_blocks = msgspec.msgpack.Decoder(VerifyBlocks).decode
decode_blocks_verified = msgspec.msgpack.Decoder(BlocksVerified).decode
decode_damaged = msgspec.msgpack.Decoder(Damaged).decode
decode_damaged_page = msgspec.msgpack.Decoder(DamagedPage).decode
decode_node_status = msgspec.msgpack.Decoder(NodeStatus).decode
decode_append_log = msgspec.msgpack.Decoder(AppendLog).decode
decode_read_log = msgspec.msgpack.Decoder(ReadLog).decode
decode_trim_log = msgspec.msgpack.Decoder(TrimLog).decode
decode_log_trimmed = msgspec.msgpack.Decoder(LogTrimmed).decode
decode_log_status_request = msgspec.msgpack.Decoder(LogStatusRequest).decode
decode_log_status = msgspec.msgpack.Decoder(LogStatus).decode
