"""Frames cut anywhere decode the same; limits come before allocation; releases understand each other (S25)."""

import contextlib
import dataclasses
import tracemalloc
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import wire
from cluster.wire import (
    HANDSHAKE_FRAME_BYTES,
    MAX_FRAME_BYTES,
    OWN_BUFFER_BYTES,
    RECEIVE_BYTES,
    Frame,
    FrameCorrupt,
    FrameDecoder,
    FrameTooLarge,
    Op,
    PutBlock,
    Status,
    encode,
    encode_frame,
)

CLUSTER = b"c" * 16
NODE = b"n" * 16
SECRET = b"s" * 32


def feed(decoder: FrameDecoder, stream: bytes, cuts: list[int]) -> list[Frame]:
    """Receive `stream` in pieces that end at `cuts`, as a transport would."""
    frames: list[Frame] = []
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        piece = stream[start:stop]
        while piece:
            buffer = decoder.get_buffer(-1)
            assert len(buffer) > 0
            taken = piece[: len(buffer)]
            buffer[: len(taken)] = taken
            piece = piece[len(taken) :]
            frames += decoder.buffer_updated(len(taken))
    return frames


def plain(frames: list[Frame]) -> list[Frame]:
    return [frame._replace(payload=bytes(frame.payload)) for frame in frames]


def build(parts: list[tuple[bytes, int]]) -> tuple[bytes, list[Frame]]:
    stream, frames = b"", []
    for at, (header, size) in enumerate(parts):
        payload = bytes((at + i) % 251 for i in range(251)) * (size // 251 + 1)
        payload = payload[:size]
        stream += encode_frame(at, Op.PUT_BLOCK, Status.OK, at * 7, header, size) + payload
        frames.append(Frame(at, Op.PUT_BLOCK, Status.OK, at * 7, header, payload))
    return stream, frames


sizes = st.one_of(
    st.integers(0, 40),
    st.sampled_from([OWN_BUFFER_BYTES - 17, OWN_BUFFER_BYTES, RECEIVE_BYTES - 16, RECEIVE_BYTES, 300_000]),
)


@given(st.lists(st.tuples(st.binary(max_size=20), sizes), min_size=1, max_size=5), st.data())
def test_frames_cut_anywhere_decode_the_same(parts: list[tuple[bytes, int]], data: st.DataObject) -> None:
    stream, expected = build(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    assert plain(feed(FrameDecoder(), stream, cuts)) == expected


def test_frames_cut_at_every_byte_decode_the_same() -> None:
    stream, expected = build([(b"ab", 3), (b"", 0), (b"header", 50), (b"x", 1)])
    for cut in range(len(stream) + 1):
        assert plain(feed(FrameDecoder(), stream, [cut])) == expected
    assert plain(feed(FrameDecoder(), stream, list(range(1, len(stream))))) == expected


def test_a_large_payload_is_received_in_place() -> None:
    """No copy: the payload is a view of the buffer that the transport filled."""
    stream, expected = build([(b"h", 1 << 20)])
    decoder = FrameDecoder()
    assert feed(decoder, stream[:1000], []) == []
    own = decoder.get_buffer(-1)
    frames = feed(decoder, stream[1000:], [])
    assert plain(frames) == expected
    payload = frames[0].payload
    assert isinstance(payload, memoryview)
    assert payload.obj is own.obj
    # The decoder goes on with its reusable buffer and leaves the payload alone.
    feed(decoder, build([(b"h", 100)])[0], [])
    assert plain(frames) == expected


@pytest.mark.parametrize("limit", [HANDSHAKE_FRAME_BYTES, MAX_FRAME_BYTES])
def test_an_oversized_frame_allocates_nothing(limit: int) -> None:
    """Broken once: checked the limit after the allocation."""
    decoder = FrameDecoder(limit)
    start = encode_frame(1, Op.PUT_BLOCK, 0, 0, b"", limit - 15)
    tracemalloc.start()
    with pytest.raises(FrameTooLarge):
        feed(decoder, start, [])
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()
    whole = encode_frame(1, Op.PUT_BLOCK, 0, 0, b"", limit - 16) + bytes(limit - 16)
    assert len(feed(FrameDecoder(limit), whole, [])) == 1


@pytest.mark.parametrize("length", [0, 1, 11])
def test_a_frame_shorter_than_its_prefix_is_corrupt(length: int) -> None:
    with pytest.raises(FrameCorrupt):
        feed(FrameDecoder(), length.to_bytes(4, "little") + bytes(12), [])


def test_a_header_longer_than_its_frame_is_corrupt() -> None:
    frame = bytearray(encode_frame(1, Op.SYNC, 0, 0, b"abcd", 0))
    frame[10] = 5
    with pytest.raises(FrameCorrupt):
        feed(FrameDecoder(), bytes(frame), [])


@given(st.binary(max_size=2000))
def test_garbage_raises_frame_errors_only(garbage: bytes) -> None:
    with contextlib.suppress(wire.FrameError):
        feed(FrameDecoder(4096), garbage, [])


PUT_OF_PROTOCOL_1 = bytes.fromhex(
    "310000000403020110002000dc05000099c410000102030405060708090a0b0c0d0e0f070202010115c40401020304c3"
)
PUT_OF_PROTOCOL_2 = bytes.fromhex(
    "320000000403020110002100dc0500009ac410000102030405060708090a0b0c0d0e0f070202010115c40401020304c3c2"
)

PUT_WITH_TRACE = bytes.fromhex(
    "340000000403020110002300dc0500009bc410000102030405060708090a0b0c0d0e0f070202010115c40401020304c3c2c400"
)


def test_s25_frames_are_what_they_were() -> None:
    """Golden bytes: release N speaks the wire of N-1."""
    message = PutBlock(bytes(range(16)), 7, 2, 2, 1, 1, 21, b"\x01\x02\x03\x04", True)
    frame = encode_frame(0x01020304, Op.PUT_BLOCK, Status.OK, 1500, encode(message), 5)
    assert frame == PUT_WITH_TRACE
    for golden in (PUT_OF_PROTOCOL_1, PUT_OF_PROTOCOL_2, PUT_WITH_TRACE):
        (received,) = feed(FrameDecoder(), golden + b"12345", [])
        assert wire.decode_put_block(received.header) == message
    assert [(op.name, op.value) for op in Op] == [
        *(("HELLO", 1), ("PROVE", 2), ("PUT_BLOCK", 16), ("READ_BLOCK", 17), ("DELETE_BLOCKS", 18)),
        *(("SYNC", 19), ("FENCE", 20), ("INVENTORY", 21), ("STATUS", 22), ("APPEND_LOG", 23)),
        *(("VERIFY_BLOCKS", 24), ("DAMAGED", 25), ("READ_LOG", 26), ("TRIM_LOG", 27), ("LOG_STATUS", 28)),
    ]
    assert [status.value for status in Status] == list(range(12))


def test_s25_messages_without_the_fields_of_protocol_2() -> None:
    """Red when a field of version 2 has no default."""
    status: list[object] = [NODE, 1, 2, 3, 4, 5, {"torn": 1}, True]
    assert wire.decode_node_status(msgspec.msgpack.encode(status)) == wire.NodeStatus(
        NODE, 1, 2, 3, 4, 5, {"torn": 1}, True
    )


MESSAGES: list[tuple[wire.Message, Callable[[bytes], wire.Message]]] = [
    (wire.Fault("no"), wire.decode_fault),
    (PutBlock(b"b" * 16, 1, 2, 3, 4, 5, 6, b"1234", False), wire.decode_put_block),
    (wire.Appended((1 << 63) - 1, 1 << 40, 3), wire.decode_appended),
    (wire.ReadBlock(b"b" * 16, 1, 2, 0, 0), wire.decode_read_block),
    (wire.BlockRead(3), wire.decode_block_read),
    (wire.AppendLog(CLUSTER, 3, [(0, 3, 1 << 63, 0, 5, b"1234")]), wire.decode_append_log),
    (wire.ReadLog(1, 3, 1 << 63, 7), wire.decode_read_log),
    (wire.TrimLog(CLUSTER, 3, (1, 3, 9, 0)), wire.decode_trim_log),
    (wire.LogTrimmed(1000, True), wire.decode_log_trimmed),
    (wire.LogStatusRequest(b"k" * 21, 9), wire.decode_log_status_request),
    (wire.LogStatus(CLUSTER, 3, 2, 1, 0, [(0, 3, 9, 0, 1)], False), wire.decode_log_status),
    (wire.DeleteBlocks(CLUSTER, 3, [(b"k" * 21, 1 << 63)]), wire.decode_delete_blocks),
    (wire.Sync(1, 2), wire.decode_sync),
    (wire.Synced(1, 2), wire.decode_synced),
    (wire.Fence(CLUSTER, 2), wire.decode_fence),
    (wire.Fenced(CLUSTER, 2), wire.decode_fenced),
    (wire.Inventory(b"", 10), wire.decode_inventory),
    (wire.InventoryPage([(b"k" * 21, 5, 6)], True), wire.decode_inventory_page),
    (wire.VerifyBlocks([b"k" * 21], True), wire.decode_verify_blocks),
    (wire.BlocksVerified([(0, 1 << 63, 5), (1, 0, 0)]), wire.decode_blocks_verified),
    (wire.Damaged(b"", 10), wire.decode_damaged),
    (wire.DamagedPage([(b"k" * 21, 1 << 63, "rotten")], False), wire.decode_damaged_page),
    (wire.NodeStatus(NODE, 1, 2, 3, 4, 5, {"torn": 1}, False), wire.decode_node_status),
]


@pytest.mark.parametrize(("message", "decode"), MESSAGES, ids=lambda value: type(value).__name__)
def test_messages_round_trip_and_reject_garbage(
    message: wire.Message, decode: Callable[[bytes], wire.Message]
) -> None:
    packed = encode(message)
    assert decode(packed) == message
    for cut in range(len(packed)):
        with pytest.raises(msgspec.DecodeError):
            decode(packed[:cut])
    # A field that a later release adds at the end does not disturb this one (S25).
    fields = list(msgspec.structs.astuple(message))
    assert decode(msgspec.msgpack.encode([*fields, "later"])) == message


def test_the_largest_lists_fit_into_a_header() -> None:
    """Found when 10,000 were allowed: the header length is a u16."""
    order = wire.DeleteBlocks(CLUSTER, (1 << 63) - 1, [(b"k" * 21, (1 << 64) - 1)] * wire.DELETE_BLOCKS_MAX)
    page = wire.InventoryPage([(b"k" * 21, (1 << 64) - 1, (1 << 32) - 1)] * wire.INVENTORY_MAX, True)
    damaged = wire.DamagedPage([(b"k" * 21, (1 << 64) - 1, "a kind of damage")] * wire.INVENTORY_MAX, True)
    verify = wire.VerifyBlocks([b"k" * 21] * wire.VERIFY_BLOCKS_MAX, True)
    verified = wire.BlocksVerified([(2, (1 << 64) - 1, (1 << 32) - 1)] * wire.VERIFY_BLOCKS_MAX)
    largest = max(len(encode(message)) for message in (order, page, damaged, verify, verified))
    assert largest <= wire.HEADER_BYTES_MAX


def test_messages_are_immutable() -> None:
    with pytest.raises((AttributeError, dataclasses.FrozenInstanceError)):
        wire.Sync(1, 2).position = 3  # type: ignore[misc]
