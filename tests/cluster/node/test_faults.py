"""Disks that fail, fill up or come back: the node goes on, says how it is, and is well again by itself."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.node.records import BlockUnreadable
from cluster.wire import Status
from codec.block import BlockCorrupt, pack_key
from tests.cluster.node.memory_disk import MemoryDisk, Trap
from tests.cluster.node.node_bench import NodeBench, key_of, payload_of


@pytest.fixture
def small(memory_path: Path) -> Iterator[NodeBench]:
    """A node with segments of 64 KiB."""
    node = NodeBench(memory_path, segment_bytes=1 << 16)
    yield node
    node.store.abandon()


def packed(number: int) -> bytes:
    return pack_key(key_of(number))


def data(number: int) -> bytes:
    return payload_of(number, 6000)


@pytest.mark.parametrize("op", ["fdatasync", "pwritev"])
def test_s2_a_failing_disk_says_so_until_a_sync_succeeds(small: NodeBench, op: str) -> None:
    small.put(1)
    assert not small.store.status().failing
    small.disk.traps.append(Trap(op, errno.EIO, ".seg"))
    assert small.put(2) == Status.FAILED
    assert small.store.status().failing
    assert small.put(2) == Status.OK
    assert not small.store.status().failing


@pytest.mark.parametrize("op", ["fdatasync", "fsync_dir", "open"])
def test_a_node_that_is_shunned_finds_out_by_itself_that_its_disk_is_well(small: NodeBench, op: str) -> None:
    """Writers avoid a failing node, so no write would ever show that it is well.

    Red when the checkpoint does not try a new segment.
    """
    small.put(1)
    small.disk.traps.append(Trap("fdatasync", errno.EIO, ".seg"))
    assert small.put(2) == Status.FAILED
    small.disk.traps += [Trap(op, errno.EIO, "segments" if op == "fsync_dir" else ".seg") for _ in range(3)]
    for _ in range(3):
        small.checkpoint()
        assert small.store.status().failing
    small.checkpoint()
    assert not small.store.status().failing
    assert small.put(2) == Status.OK
    small.power_cut(5)
    assert (small.read(1), small.read(2)) == (payload_of(1), payload_of(2))


def test_a_node_that_is_shunned_finds_out_by_itself_that_there_is_space(memory_path: Path) -> None:
    """The disk was full though it claimed to have room. Red when only a put can end `read_only`."""
    bench = NodeBench(memory_path, MemoryDisk(30_000))
    bench.disk.overstated_bytes = 1 << 30
    stored = [n for n in range(30) if bench.put(n, data(n)) == Status.OK]
    assert bench.store.status().read_only
    bench.disk.overstated_bytes = 0
    bench.disk.capacity_bytes += 100_000
    bench.checkpoint()
    assert not bench.store.status().read_only
    assert bench.put(50, data(50)) == Status.OK
    assert all(bench.read(n) == data(n) for n in stored)
    bench.store.abandon()


def test_many_failures_in_a_row_lose_nothing_acknowledged(small: NodeBench) -> None:
    acknowledged = []
    for number in range(60):
        if number % 3 == 1:
            op, code = [("fdatasync", errno.EIO), ("pwritev", errno.EIO), ("pwritev", errno.ENOSPC)][
                number // 3 % 3
            ]
            small.disk.traps.append(Trap(op, code, ".seg", short=700 if op == "pwritev" else None))
        if small.put(number, data(number)) == Status.OK:
            acknowledged.append(number)
        if number % 10 == 9:
            small.compact(2)
    assert len(acknowledged) > 30
    small.disk.traps.clear()
    small.compact()
    small.check_usage()
    small.power_cut(2)
    assert all(small.read(n) == data(n) for n in acknowledged)
    small.lose_index()
    assert all(small.read(n) == data(n) for n in acknowledged)


def test_s7_a_segment_that_could_not_get_its_key_table_is_rewritten(small: NodeBench) -> None:
    """Until then a rebuild of the index has to scan it, and the segment behind it must stay."""
    for number in range(9):
        small.put(number, data(number))
    small.disk.traps.append(Trap("pwritev", errno.EIO, "00000001.seg", skip=1))
    small.put(9, data(9))
    small.put(10, data(10))
    assert small.damage() == {}
    first = small.segments()[0]
    small.compact()
    assert first not in small.disk.files
    assert all(small.read(n) == data(n) for n in range(11))
    small.lose_index()
    assert all(small.read(n) == data(n) for n in range(11))


def test_s4_key_table_that_can_not_be_read(small: NodeBench) -> None:
    """EIO in the table of a sealed segment while the index is made anew: the segment is scanned."""
    for number in range(30):
        small.put(number, data(number))
    path = small.segments()[0]
    size = small.disk.size(path)
    small.disk.unreadable.append((path.name, size - 300, size))
    small.lose_index()
    assert all(small.read(n) == data(n) for n in range(30))


def test_s4_a_header_behind_a_failed_segment_can_not_be_read(small: NodeBench) -> None:
    """Where the failed segment ends is then not known: what is whole in it counts, rather too much than too
    little."""
    small.put(1, data(1))
    small.disk.traps.append(Trap("fdatasync", errno.EIO, ".seg"))
    assert small.put(2, data(2)) == Status.FAILED
    small.put(3, data(3))
    small.put(4, data(4))
    small.disk.unreadable.append((small.segments()[-1].name, 0, 10))
    small.lose_index()
    assert small.read(1) == data(1)
    assert small.read(4) == data(4)


def test_s5_rot_is_listed_until_the_block_is_repaired_or_deleted(small: NodeBench) -> None:
    for number in range(3):
        small.put(number, data(number))
        small.rot(number, at=200)
        with pytest.raises((BlockCorrupt, BlockUnreadable)):
            small.read(number)
    assert small.store.status().damaged_blocks == 0  # a read gives what is there: the front checks it (S6)
    for number in range(3):
        assert small.store.checker.check(packed(number), deep=True).state == Status.CORRUPT
    assert small.store.status().damaged_blocks == 3
    small.append(0, data(0), sync=True, repair=True)
    small.delete(1)
    assert [key for key, _, _ in small.store.damaged(b"", 9).entries] == [packed(2)]


@pytest.mark.parametrize("op", ["put", "delete"])
def test_s2_rot_is_listed_again_when_what_covered_it_is_withdrawn(small: NodeBench, op: str) -> None:
    """Red when the list forgets a bad copy as soon as another one is appended."""
    assert [small.put(n, data(n)) for n in range(2)] == [Status.OK] * 2
    small.rot(1)
    assert small.put(1, data(1), sync=False) == Status.OK
    assert small.store.status().damaged_blocks == 0
    small.disk.traps.append(Trap("fdatasync", errno.EIO))
    assert (small.put(2, data(2)) if op == "put" else small.delete(0)) == Status.FAILED
    ((key, sequence, kind),) = small.store.damaged(b"", 9).entries
    assert (key, sequence, kind) == (packed(1), small.held()[packed(1)], "rotten")
    assert small.put(1, data(1)) == Status.OK
    assert small.store.status().damaged_blocks == 0
    small.disk.traps.append(Trap("fdatasync", errno.EIO))
    assert small.put(3, data(3)) == Status.FAILED
    assert small.store.status().damaged_blocks == 0
