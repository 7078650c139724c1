"""Record format: golden bytes, and every damage to covered bytes is noticed.

The two pads (behind the page table and behind the payload) are the only bytes no checksum covers: they carry
nothing and nobody reads them.
"""

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.block import (
    FIXED_BYTES,
    PAGE_BYTES,
    PAYLOAD_BYTES_MAX,
    BlockCorrupt,
    BlockHeader,
    BlockKey,
    BlockMisdirected,
    RecordType,
    VerifiedBlock,
    check_payload,
    header_bytes,
    pack_header,
    pack_key,
    page_checksums,
    page_count,
    parse_header,
    record_bytes,
    tail_pad,
    unpack_key,
    verify,
    verify_pages,
)

CLUSTER = bytes(range(16))
KEY = BlockKey(bytes(range(16, 32)), 7, 2)

# One shard of 11 bytes and one tombstone, as release 0.1 wrote them. Never change these: read them for ever.
GOLDEN_SHARD = (
    "54525652010102018877665544332211000102030405060708090a0b0c0d0e0f"
    "101112131415161718191a1b1c1d1e1f0700000002010000150000000b000000"
    "00000000000000009cf8876b22bd436168656c6c6f2073686172640000000000"
)
GOLDEN_TOMBSTONE = (
    "54525652010200000100000001000000000102030405060708090a0b0c0d0e0f"
    "101112131415161718191a1b1c1d1e1f07000000020000000000000000000000"
    "2a00000000000000e8354a6100000000"
)


def shard(payload: bytes, key: BlockKey = KEY, sequence: int = 9) -> bytes:
    header = BlockHeader(
        *(RecordType.SHARD, key, 2, 1, 1, 2 * len(payload), len(payload), sequence, CLUSTER, 0),
        page_checksums(payload),
    )
    return pack_header(header) + payload + tail_pad(len(payload))


payloads = st.one_of(
    st.binary(min_size=1, max_size=300),
    st.integers(1, 3 * PAGE_BYTES).map(lambda n: bytes(i * 7 % 251 for i in range(251)) * (n // 251 + 1)),
)
u8, u16, u32, u64 = (st.integers(0, (1 << bits) - 1) for bits in (8, 16, 32, 64))
keys = st.builds(BlockKey, st.binary(min_size=16, max_size=16), u32, u8)


def test_format_1_is_what_it_was() -> None:
    """Golden file (STYLE 14). Broken once: swapped k and m in the struct; the test went red."""
    payload = b"hello shard"
    header = BlockHeader(
        *(RecordType.SHARD, KEY, 2, 1, 1, 21, 11, 0x1122334455667788, CLUSTER, 0),
        page_checksums(payload),
    )
    packed = pack_header(header) + payload + tail_pad(11)
    assert packed.hex() == GOLDEN_SHARD
    assert parse_header(packed) == header
    assert verify(packed, KEY).payload == payload
    tombstone = BlockHeader(RecordType.TOMBSTONE, KEY, 0, 0, 0, 0, 0, 0x100000001, CLUSTER, 42, b"")
    assert pack_header(tombstone).hex() == GOLDEN_TOMBSTONE
    assert parse_header(pack_header(tombstone)) == tombstone


@st.composite
def headers(draw: st.DrawFn) -> BlockHeader:
    length = draw(st.integers(0, 5 * PAGE_BYTES))
    pages = draw(st.binary(min_size=4 * page_count(length), max_size=4 * page_count(length)))
    return BlockHeader(
        *(draw(st.sampled_from(RecordType)), draw(keys), draw(u8), draw(u8), draw(u8), draw(u32), length),
        *(draw(u64), CLUSTER, draw(u64), pages, draw(u16)),
    )


@given(headers())
def test_header_round_trip(header: BlockHeader) -> None:
    packed = pack_header(header)
    assert len(packed) == header_bytes(header.payload_length) == header.header_bytes
    assert header.record_bytes == record_bytes(header.payload_length)
    assert parse_header(packed) == header
    assert parse_header(b"x" * 8 + packed, 8) == header


@given(payloads, st.data())
def test_any_flipped_bit_is_noticed(payload: bytes, data: st.DataObject) -> None:
    """Header, page table and payload; broken once: left the page table out of the header checksum."""
    record = bytearray(shard(payload))
    table_end = FIXED_BYTES + 4 * page_count(len(payload))
    start = header_bytes(len(payload))
    at = data.draw(
        st.one_of(
            st.integers(0, table_end - 1),
            st.integers(start, start + len(payload) - 1),
        ),
        label="byte",
    )
    record[at] ^= 1 << data.draw(st.integers(0, 7), label="bit")
    with pytest.raises(BlockCorrupt):
        verify(record, KEY)


def test_every_bit_of_a_small_record_is_covered_or_pad() -> None:
    record = shard(b"0123456789a")
    covered = [*range(FIXED_BYTES + 4), *range(80, 91)]
    for at in covered:
        for bit in range(8):
            damaged = bytearray(record)
            damaged[at] ^= 1 << bit
            with pytest.raises(BlockCorrupt):
                verify(damaged, KEY)
    assert len(record) - len(covered) == len(tail_pad(11))


@given(payloads, st.data())
def test_any_truncation_is_noticed(payload: bytes, data: st.DataObject) -> None:
    record = shard(payload)
    whole = header_bytes(len(payload)) + len(payload)
    cut = data.draw(st.integers(0, whole - 1))
    with pytest.raises(BlockCorrupt):
        verify(record[:cut], KEY)
    assert verify(record[:whole], KEY).is_whole  # the tail pad may be missing


@given(payloads, keys)
def test_s6_another_block_is_misdirected(payload: bytes, other: BlockKey) -> None:
    """Broken once: left out the key comparison; a whole record of another block passed."""
    record = shard(payload, other)
    assert verify(record, other).header.key == other
    if other != KEY:
        with pytest.raises(BlockMisdirected):
            verify(record, KEY)
        with pytest.raises(BlockMisdirected):
            verify_pages(record[: header_bytes(len(payload)) + len(payload)], KEY, 0)


def test_only_shards_are_blocks() -> None:
    header = BlockHeader(RecordType.TOMBSTONE, KEY, 0, 0, 0, 0, 0, 1, CLUSTER, 0, b"")
    with pytest.raises(BlockMisdirected):
        verify(pack_header(header), KEY)


@given(st.integers(1, 4 * PAGE_BYTES), st.data())
def test_pages_of_a_block(length: int, data: st.DataObject) -> None:
    payload = random.Random(length).randbytes(length)
    record = shard(payload)
    head = record[: header_bytes(length)]
    first = data.draw(st.integers(0, page_count(length) - 1))
    last = data.draw(st.integers(first + 1, page_count(length)))
    start, stop = first * PAGE_BYTES, min(length, last * PAGE_BYTES)
    block = verify_pages(head + payload[start:stop], KEY, first)
    assert (block.start, bytes(block.payload)) == (start, payload[start:stop])
    assert block.is_whole == (start == 0 and stop == length)
    damaged = bytearray(head + payload[start:stop])
    damaged[len(head) + data.draw(st.integers(0, stop - start - 1))] ^= 0x10
    with pytest.raises(BlockCorrupt):
        verify_pages(damaged, KEY, first)
    with pytest.raises(BlockCorrupt):
        verify_pages(head + payload[start : stop - 1], KEY, first)
    with pytest.raises(BlockCorrupt):
        verify_pages(head + payload[start:stop], KEY, first + 1)


@pytest.mark.parametrize("first", [-1, 1, 2, 1 << 40])
def test_pages_outside_the_block(first: int) -> None:
    record = shard(b"x" * 100)
    with pytest.raises(BlockCorrupt):
        verify_pages(record[: header_bytes(100) + 100], KEY, first)
    with pytest.raises(BlockCorrupt):
        verify_pages(record[: header_bytes(100)], KEY, 0)


def test_limits_are_checked_before_anything_is_read() -> None:
    header = bytearray(shard(b"x"))
    struct.pack_into("<I", header, 60, PAYLOAD_BYTES_MAX + 1)
    with pytest.raises(BlockCorrupt, match="claims"):
        parse_header(header)
    for at, value in ((0, b"X"), (4, b"\x02"), (5, b"\x00"), (5, b"\x07")):
        damaged = bytearray(shard(b"x"))
        damaged[at : at + 1] = value
        with pytest.raises(BlockCorrupt):
            parse_header(damaged)


@given(st.binary(max_size=400))
def test_garbage_is_corrupt_never_another_error(garbage: bytes) -> None:
    for candidate in (garbage, b"TRVR" + garbage, b"TRVR\x01\x01" + garbage):
        with pytest.raises(BlockCorrupt):
            parse_header(candidate)


def test_a_verified_block_can_only_come_from_verify() -> None:
    header = parse_header(shard(b"x"))
    with pytest.raises(TypeError):
        VerifiedBlock(header, 0, memoryview(b"x"), object())


@given(keys, keys)
def test_packed_keys_sort_like_keys(one: BlockKey, two: BlockKey) -> None:
    assert unpack_key(pack_key(one)) == one
    assert (pack_key(one) < pack_key(two)) == (one < two)
    with pytest.raises(BlockCorrupt):
        unpack_key(pack_key(one)[:-1])


def test_page_checksums_take_any_buffer() -> None:
    payload = bytes(range(256)) * 1024
    table = page_checksums(payload)
    assert len(table) == 4 * page_count(len(payload)) == 16
    assert page_checksums(bytearray(payload)) == page_checksums(memoryview(payload)) == table
    assert page_checksums(b"") == b""
    header = parse_header(shard(payload[: PAGE_BYTES + 1]))
    check_payload(header, memoryview(payload)[: PAGE_BYTES + 1])
    with pytest.raises(BlockCorrupt):
        check_payload(header, payload[:PAGE_BYTES])
