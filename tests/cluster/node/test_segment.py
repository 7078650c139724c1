"""Segment files: the format as it was, appends in pieces, handles that outlive their place in the cache."""

import errno
from pathlib import Path

import pytest

from cluster.node.identity import NodeIdentity
from cluster.node.segment import (
    SegmentReaders,
    SegmentWriter,
    offset_of,
    pack_table_entry,
    position,
    read_table,
    segment_numbers,
    segment_of,
    segment_path,
    unpack_entries,
    write_all,
)
from codec.block import BlockCorrupt, BlockHeader, BlockKey, RecordType, pack_header, pack_key, page_checksums
from tests.cluster.node.memory_disk import MemoryDisk, Trap

CLUSTER = bytes(range(16))
NODE = bytes(range(16, 32))
KEY = BlockKey(bytes(range(32, 48)), 1, 2)
IDENTITY = NodeIdentity(CLUSTER, NODE, "n", "r", "z")
FOLDER = Path("/segments")

# A sealed segment with one batch of one shard, as release 0.1 wrote it. Never change: read it for ever.
GOLDEN = (
    "54525652010500000000000001000000000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
    "030000000000000000000000000000006000000002000000081b7b940000000054525652010400000000000000000000",
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f03000000000000000000000000000000",
    "50000000030000009a41c2ca0000000054525652010102010100000001000000000102030405060708090a0b0c0d0e0f",
    "202122232425262728292a2b2c2d2e2f01000000020100001000000008000000000000000000000079a7b6d89a808760",
    "313233343536373854525652010600000000000000000000000102030405060708090a0b0c0d0e0f1011121314151617",
    "18191a1b1c1d1e1f0000000000000000000000002600000000000000000000004d6d79b944ffe7c32021222324252627",
    "28292a2b2c2d2e2f000000010201a0000000080000000100000001000000000054525652010600000200000001000000",
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f01000000000000000000000000000000",
    "f8000000000000008ec66dc100000000",
)


def make(disk: MemoryDisk) -> SegmentWriter:
    return SegmentWriter.create(disk, FOLDER, 3, IDENTITY, sequence=1 << 32, synced_position=position(2, 96))


def add_shard(segment: SegmentWriter, payload: bytes, sequence: int) -> None:
    pages = page_checksums(payload)
    header = pack_header(
        BlockHeader(RecordType.SHARD, KEY, 2, 1, 1, 16, len(payload), sequence, CLUSTER, 0, pages)
    )
    batch = segment.batch_header(position(3, segment.end))
    offset = segment.end + len(batch)
    segment.append([batch, header, payload], len(batch) + len(header) + len(payload))
    segment.note(pack_table_entry(pack_key(KEY), RecordType.SHARD, offset, len(payload), sequence))


def test_segment_format_1_is_what_it_was() -> None:
    """Golden file (STYLE 14). Broken once: swapped offset and length in a table entry."""
    disk = MemoryDisk()
    segment = make(disk)
    add_shard(segment, b"12345678", (1 << 32) + 1)
    segment.seal((1 << 32) + 2)
    content = bytes(disk.files[segment_path(FOLDER, 3)].durable)
    assert content.hex() == "".join(GOLDEN)
    fd = disk.open(segment_path(FOLDER, 3))
    table = read_table(disk, fd, len(content), CLUSTER)
    assert table is not None
    assert table[1] == (1 << 32) + 2
    assert list(unpack_entries(table[0])) == [(pack_key(KEY), RecordType.SHARD, 160, 8, (1 << 32) + 1)]
    assert read_table(disk, fd, len(content) - 8, CLUSTER) is None
    assert read_table(disk, fd, len(content), NODE) is None
    assert read_table(disk, fd, 8, CLUSTER) is None
    with pytest.raises(BlockCorrupt):
        unpack_entries(table[0][:-1])


def test_every_flipped_bit_of_a_table_is_noticed() -> None:
    disk = MemoryDisk()
    segment = make(disk)
    add_shard(segment, b"12345678", 1)
    segment.seal(2)
    path = segment_path(FOLDER, 3)
    content = disk.files[path].live
    fd = disk.open(path)
    begin = len(content) - 80 - 120
    pads = {*range(begin + 76 + 4 + 38, begin + 120), *range(len(content) - 4, len(content))}
    for at in range(begin, len(content)):
        content[at] ^= 4
        assert (read_table(disk, fd, len(content), CLUSTER) is not None) == (at in pads)
        content[at] ^= 4


def test_a_new_segment_is_durable_before_it_is_used() -> None:
    disk = MemoryDisk()
    disk.make_dir(FOLDER)
    segment = make(disk)
    assert segment.end == 80
    assert len(disk.files[segment_path(FOLDER, 3)].durable) == 80
    assert disk.calls["fsync_dir"] == 1
    assert segment_numbers(FOLDER, disk) == [3]
    with pytest.raises(FileExistsError):
        make(disk)


@pytest.mark.parametrize("op", ["pwritev", "fdatasync", "fsync_dir"])
def test_a_segment_that_can_not_be_begun_leaves_nothing(op: str) -> None:
    disk = MemoryDisk()
    disk.traps.append(Trap(op, errno.ENOSPC))
    with pytest.raises(OSError, match="No space"):
        make(disk)
    assert disk.files == {}
    assert disk.open_fds() == 0


def test_many_buffers_and_short_writes() -> None:
    disk = MemoryDisk()
    fd = disk.open(Path("/f"), create=True)
    buffers = [bytes([n % 251]) * (n % 7) for n in range(3000)]
    whole = b"".join(buffers)
    assert write_all(disk, fd, buffers, 8) == 8 + len(whole)
    assert disk.calls["pwritev"] == 3
    assert bytes(disk.files[Path("/f")].live[8:]) == whole

    class Slow(MemoryDisk):
        def pwritev(self, fd: int, buffers: object, offset: int) -> int:
            return super().pwritev(fd, [b"".join(map(bytes, buffers))[:11]], offset)  # type: ignore[call-overload]

    slow = Slow()
    fd = slow.open(Path("/f"), create=True)
    assert write_all(slow, fd, buffers[:200], 0) == len(b"".join(buffers[:200]))
    assert bytes(slow.files[Path("/f")].live) == b"".join(buffers[:200])


def test_s7_a_handle_in_use_stays_open() -> None:
    """Broken once: closed the fd when the handle left the cache; the number went to another file."""
    disk = MemoryDisk()
    for number in (1, 2, 3):
        disk.pwritev(disk.open(segment_path(FOLDER, number), create=True), [bytes([number]) * 4], 0)
    disk.kill()
    readers = SegmentReaders(disk, FOLDER, 2)
    first = readers.get(1)
    assert readers.get(1) is first
    readers.get(2)
    readers.get(3)
    assert disk.open_fds() == 3
    buffer = bytearray(4)
    disk.preadv(first.fd, buffer, 0)
    assert buffer == b"\1\1\1\1"
    del first
    assert disk.open_fds() == 2
    with pytest.raises(FileNotFoundError):
        readers.get(9)
    readers.close()
    assert disk.open_fds() == 0


def test_positions() -> None:
    where = position(7, 4096)
    assert (segment_of(where), offset_of(where)) == (7, 4096)
    assert position(7, 0xFFFFFFFF) < position(8, 0)
    assert segment_path(FOLDER, 255).name == "000000ff.seg"
