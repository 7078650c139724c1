"""A block: one shard on a node's disk, with identity and page checksums (S6, S8).

The same record is the unit of a node's log and of a READ_BLOCK reply, so both ends of the wire check
the same bytes. All integers are little-endian; a record begins at a multiple of 8 bytes in its file.

     0      4   5   6   7   8         16           32        48      52  53  54    56
    +------+---+---+---+---+---------+------------+---------+-------+---+---+-----+
    | TRVR |fmt|typ| k | m | sequence| cluster id | blob id |stripe |shd|cdc|flags|
    +------+---+---+---+---+---------+------------+---------+-------+---+---+-----+
    56        60        64      72     76
    +---------+---------+-------+------+----------------------+-----+---------+-----+
    | stripe  | payload | aux   |header| page table: a crc32c | pad | payload | pad |
    | length  | length  |       |crc32c| per 64 KiB page      | to 8|         | to 8|
    +---------+---------+-------+------+----------------------+-----+---------+-----+

The header checksum covers bytes 0-71 and the page table; each page entry covers its page. So every byte
but the two pads is covered. The payload of a SHARD is the raw shard, never liberasurecode's fragment (S8).

What a field means by record type:

    SHARD        blob, stripe, shard = block key; aux = 0
    TOMBSTONE    key as above, no payload; aux = sequence of the copy it deletes, 0 = any (S20)
    CATALOG_LOG  an entry of the catalog's log (S17): its name stands in the key, see cluster/log_names.py; aux = 0
    BATCH        aux = log position known to be synced before this batch (S4)
    SEGMENT      first record of a segment: blob = node id, stripe = segment number, aux as BATCH
    TABLE        key table that ends a sealed segment (S7); see cluster/node/segment.py
"""

from __future__ import annotations

import enum
import struct
from typing import Final, NamedTuple

from awscrt.checksums import crc32c

Buffer = bytes | bytearray | memoryview

PAGE_BYTES: Final = 65536
ALIGN_BYTES: Final = 8
MAGIC: Final = b"TRVR"
FORMAT: Final = 1
CODEC_ISA_L_RS_CAUCHY: Final = 1
PAYLOAD_BYTES_MAX: Final = 4 << 20  # checked before anything is allocated or read
KEY_BYTES: Final = 21

_HEADER: Final = struct.Struct("<4sBBBBQ16s16sIBBHIIQI")
_COVERED: Final = struct.Struct("<4sBBBBQ16s16sIBBHIIQ")
_KEY: Final = struct.Struct(">16sIB")
_U32: Final = struct.Struct("<I")
FIXED_BYTES: Final = _HEADER.size
_COVERED_BYTES: Final = _COVERED.size
_PAD: Final = tuple(bytes(-n % ALIGN_BYTES) for n in range(ALIGN_BYTES))


class RecordType(enum.IntEnum):
    """What a record is. Numbers are part of the format and never reused."""

    SHARD = 1
    TOMBSTONE = 2
    CATALOG_LOG = 3
    BATCH = 4
    SEGMENT = 5
    TABLE = 6


_TYPES: Final = frozenset(int(t) for t in RecordType)


class BlockCorrupt(Exception):
    """The bytes are not a whole, undamaged record of this format."""


class BlockMisdirected(BlockCorrupt):
    """A whole record, but of another block than the one asked for."""


class BlockKey(NamedTuple):
    """Names a block for ever: 16 bytes of blob id, stripe number (u32), shard number (u8)."""

    blob: bytes
    stripe: int
    shard: int


class BlockHeader(NamedTuple):
    """A parsed record header. `pages` is the packed page table (u32 each, little-endian)."""

    type: int
    key: BlockKey
    k: int
    m: int
    codec: int
    stripe_length: int
    payload_length: int
    sequence: int
    cluster_id: bytes
    aux: int
    pages: bytes
    flags: int = 0

    @property
    def header_bytes(self) -> int:
        """Bytes before the payload: fixed header, page table and its pad."""
        return (FIXED_BYTES + len(self.pages) + 7) & -8

    @property
    def record_bytes(self) -> int:
        """Bytes of the whole record in its file, both pads included."""
        return (self.header_bytes + self.payload_length + 7) & -8


class VerifiedBlock:
    """Payload bytes that were checked against their header, and the header against the key asked for.

    Only `verify` and `verify_pages` make one: the decoder accepts nothing else (P3, STYLE 10), because
    pyeclib does not notice a flipped byte in a data shard. `start` is the payload offset of `payload[0]`.
    """

    __slots__ = ("header", "payload", "start")

    def __init__(self, header: BlockHeader, start: int, payload: memoryview, proof: object) -> None:
        if proof is not _PROOF:
            raise TypeError("a VerifiedBlock is made by verify() or verify_pages() only")
        self.header = header
        self.start = start
        self.payload = payload

    @property
    def is_whole(self) -> bool:
        """True when `payload` is the complete shard."""
        return self.start == 0 and len(self.payload) == self.header.payload_length


_PROOF: Final = object()


def pack_key(key: BlockKey) -> bytes:
    """21 bytes whose order as bytes is the order of (blob, stripe, shard)."""
    return _KEY.pack(*key)


def unpack_key(packed: Buffer) -> BlockKey:
    """Inverse of `pack_key`; raises BlockCorrupt when it is not 21 bytes."""
    if len(packed) != KEY_BYTES:
        raise BlockCorrupt(f"a block key has {KEY_BYTES} bytes, not {len(packed)}")
    return BlockKey(*_KEY.unpack(packed))


def page_count(payload_length: int) -> int:
    """Pages (checksums) of a payload of that many bytes."""
    return (payload_length + PAGE_BYTES - 1) // PAGE_BYTES


def header_bytes(payload_length: int) -> int:
    """Bytes before the payload in a record with a payload of that length."""
    return (FIXED_BYTES + 4 * page_count(payload_length) + 7) & -8


def record_bytes(payload_length: int) -> int:
    """Bytes of a whole record with a payload of that length."""
    return (header_bytes(payload_length) + payload_length + 7) & -8


def tail_pad(payload_length: int) -> bytes:
    """The zero bytes that follow a payload of that length in its file."""
    return _PAD[payload_length & 7]


def page_checksums(payload: Buffer) -> bytes:
    """The packed page table of a payload: one crc32c per 64 KiB page, the last page as short as it is."""
    if len(payload) <= PAGE_BYTES:
        return _U32.pack(crc32c(payload)) if len(payload) else b""
    view = memoryview(payload)
    sums = [crc32c(view[at : at + PAGE_BYTES]) for at in range(0, len(view), PAGE_BYTES)]
    return struct.pack(f"<{len(sums)}I", *sums)


def pack_header(header: BlockHeader) -> bytes:
    """Header, page table and pad: everything of a record before its payload.

    `header.pages` must be `page_checksums` of the payload that will follow; the caller has checked (S6).
    """
    kind, key, k, m, codec, stripe_length, length, sequence, cluster_id, aux, pages, flags = header
    blob, stripe, shard = key
    assert len(pages) == 4 * page_count(length), "page table and payload length disagree"
    assert len(blob) == len(cluster_id) == 16, "ids are 16 bytes"
    covered = _COVERED.pack(
        *(MAGIC, FORMAT, kind, k, m, sequence, cluster_id, blob),
        *(stripe, shard, codec, flags, stripe_length, length, aux),
    )
    crc = _U32.pack(crc32c(pages, crc32c(covered)))
    return covered + crc + pages + _PAD[(FIXED_BYTES + len(pages)) & 7]


def parse_header(buf: Buffer, offset: int = 0) -> BlockHeader:
    """The header at `offset`, checked by its checksum.

    Raises BlockCorrupt on anything else: too short, another magic, an unknown format or type, a payload
    length over PAYLOAD_BYTES_MAX, a wrong checksum. Says nothing about the payload.
    """
    if len(buf) - offset < FIXED_BYTES:
        raise BlockCorrupt("record header cut short")
    (
        magic,
        fmt,
        kind,
        k,
        m,
        sequence,
        cluster_id,
        blob,
        stripe,
        shard,
        codec,
        flags,
        stripe_length,
        length,
        aux,
        crc,
    ) = _HEADER.unpack_from(buf, offset)
    if magic != MAGIC:
        raise BlockCorrupt("no record begins here")
    if fmt != FORMAT or kind not in _TYPES:
        raise BlockCorrupt(f"record format {fmt}, type {kind} is not known")
    if length > PAYLOAD_BYTES_MAX:
        raise BlockCorrupt(f"record claims {length} payload bytes")
    table = offset + FIXED_BYTES
    pages = bytes(buf[table : table + 4 * ((length + PAGE_BYTES - 1) // PAGE_BYTES)])
    if len(pages) != 4 * page_count(length):
        raise BlockCorrupt("page table cut short")
    if crc32c(pages, crc32c(buf[offset : offset + _COVERED_BYTES])) != crc:
        raise BlockCorrupt("record header fails its checksum")
    key = BlockKey(blob, stripe, shard)
    return BlockHeader(kind, key, k, m, codec, stripe_length, length, sequence, cluster_id, aux, pages, flags)


def check_payload(header: BlockHeader, payload: Buffer) -> None:
    """Raises BlockCorrupt unless `payload` is the whole payload that the (checked) header describes."""
    if len(payload) != header.payload_length:
        raise BlockCorrupt(f"payload has {len(payload)} of {header.payload_length} bytes")
    if page_checksums(payload) != header.pages:
        raise BlockCorrupt("a payload page fails its checksum")


def verify(record: Buffer, key: BlockKey) -> VerifiedBlock:
    """A whole shard record (its tail pad may be missing) that must be the block `key`.

    Raises BlockCorrupt when any covered byte is wrong or missing, BlockMisdirected when it is a good
    record of another block (S6). The result refers to `record`; the caller must not change it afterwards.
    """
    header, view = _parse_shard(record, key)
    start = header.header_bytes
    payload = view[start : start + header.payload_length]
    check_payload(header, payload)
    return VerifiedBlock(header, 0, payload, _PROOF)


def verify_pages(record: Buffer, key: BlockKey, first_page: int) -> VerifiedBlock:
    """Header and page table followed by the contiguous pages from `first_page` on, as READ_BLOCK answers.

    The last page given must be complete. Raises as `verify` does; no pages at all is BlockCorrupt too.
    """
    header, view = _parse_shard(record, key)
    start = first_page * PAGE_BYTES
    payload = view[header.header_bytes :]
    stop = start + len(payload)
    if first_page < 0 or not start < stop <= header.payload_length:
        raise BlockCorrupt(f"bytes {start}-{stop} are not in a payload of {header.payload_length}")
    if stop != header.payload_length and stop % PAGE_BYTES:
        raise BlockCorrupt("the last page is cut short")
    if page_checksums(payload) != header.pages[4 * first_page : 4 * page_count(stop)]:
        raise BlockCorrupt("a payload page fails its checksum")
    return VerifiedBlock(header, start, payload, _PROOF)


def verify_log(record: Buffer, key: BlockKey) -> tuple[BlockHeader, memoryview]:
    """Header and payload of a whole CATALOG_LOG record (its tail pad may be missing) that must be the one of `key`.

    Raises as `verify` does. `key` names a log entry as cluster/log_names.py packs it.
    """
    view = memoryview(record)
    header = parse_header(view)
    if header.type != RecordType.CATALOG_LOG:
        raise BlockMisdirected(f"record of type {header.type} where a log entry was asked for")
    if header.key != key:
        raise BlockMisdirected(f"log entry {header.key} where {key} was asked for")
    payload = view[header.header_bytes : header.header_bytes + header.payload_length]
    check_payload(header, payload)
    return header, payload


def _parse_shard(record: Buffer, key: BlockKey) -> tuple[BlockHeader, memoryview]:
    view = memoryview(record)
    header = parse_header(view)
    if header.type != RecordType.SHARD:
        raise BlockMisdirected(f"record of type {header.type} where a shard was asked for")
    if header.key != key:
        raise BlockMisdirected(f"block {header.key} where {key} was asked for")
    return header, view
