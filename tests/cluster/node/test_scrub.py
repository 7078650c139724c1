"""The scrub finds what rots, at its rate, and goes on where it was."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.node.index_entry import Entry
from cluster.node.scrub import _WINDOW_RECORDS, SCRUB_FILE, _windows
from cluster.wire import Status
from codec.block import pack_key, record_bytes
from tests.cluster.node.memory_disk import Trap
from tests.cluster.node.node_bench import NodeBench, key_of, payload_of

PAUSE_S = 1000.0
RATE = 10 << 20


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[NodeBench]:
    """Segments of 64 KiB."""
    node = NodeBench(tmp_path, segment_bytes=1 << 16, scrub_bytes_per_s=RATE, scrub_pause_s=PAUSE_S)
    yield node
    node.store.abandon()


def scrub(bench: NodeBench) -> float:
    """One pass; the seconds of virtual time it took."""
    began = bench.now
    passes = bench.store.scrub.passes
    while (rest_s := bench.store.scrub.step()) != PAUSE_S:
        bench.now += rest_s
    assert bench.store.scrub.passes == passes + 1
    return bench.now - began


def fill(bench: NodeBench, count: int, size: int = 5000) -> None:
    for number in range(count):
        assert bench.put(number, payload_of(number, size)) == Status.OK


def found(bench: NodeBench) -> dict[bytes, str]:
    return {key: kind for key, _, kind in bench.store.damaged(b"", 1000).entries}


def key(number: int) -> bytes:
    return pack_key(key_of(number))


def test_rot_is_found_in_sealed_and_active_segments(bench: NodeBench) -> None:
    """Red when the active segment is left out, or one that has no key table."""
    fill(bench, 40)
    scrub(bench)
    assert found(bench) == {}
    bench.rot(0)
    bench.rot(20, at=3000)
    bench.rot(39)
    assert bench.place(20)[0] != bench.segments()[-1] == bench.place(39)[0]
    scrub(bench)
    assert found(bench) == {key(0): "rotten", key(20): "rotten", key(39): "rotten"}
    status = bench.store.status()
    assert status.damage == {"rotten": 3}
    assert (status.damaged_blocks, status.scrub_passes) == (3, 2)
    assert status.scrubbed_bytes == 2 * 40 * record_bytes(5000)
    scrub(bench)
    assert bench.damage() == {"rotten": 3}  # the same ones are counted once


def test_s2_the_scrub_sees_the_disk_and_leaves_the_cache_alone(bench: NodeBench) -> None:
    """Red when windows are read with preadv."""
    fill(bench, 5)
    path, offset = bench.place(3)
    bench.disk.files[path].durable[offset + 100] ^= 1
    scrub(bench)
    assert found(bench) == {key(3): "rotten"}


def test_one_bad_record_does_not_hide_the_next(bench: NodeBench) -> None:
    """Headers and neighbours rotten: the index tells where each record lies."""
    fill(bench, 12)
    for number in (3, 4, 5):
        bench.rot(number, at=74)
        bench.rot(number, at=0)
    scrub(bench)
    assert found(bench) == {key(3): "rotten", key(4): "rotten", key(5): "rotten"}


def test_an_unreadable_sector_costs_only_its_block(bench: NodeBench) -> None:
    fill(bench, 12)
    path, offset = bench.place(7)
    bench.disk.unreadable.append((path.name, offset + 10, offset + 20))
    scrub(bench)
    assert found(bench) == {key(7): "unreadable"}


def test_a_rotten_key_table_hides_nothing(bench: NodeBench) -> None:
    fill(bench, 40)
    first = bench.segments()[0]
    for content in (bench.disk.files[first].live, bench.disk.files[first].durable):
        content[-1] ^= 1
        content[-40] ^= 1
    bench.rot(1)
    scrub(bench)
    assert found(bench) == {key(1): "rotten"}


def test_covered_and_deleted_records_are_not_reported(bench: NodeBench) -> None:
    """In a sealed segment. Red when the key table is believed without a look at the index."""
    fill(bench, 30)
    places = [bench.place(number) for number in range(2)]
    bench.rot(0)
    assert bench.put(0, payload_of(0, 5000)) == Status.OK  # covers the rotten one (S5)
    bench.rot(1)
    assert bench.delete(1) == Status.OK
    assert bench.place(0) != places[0]
    scrub(bench)
    assert found(bench) == {}
    assert bench.store.scrub.scrubbed_bytes == 29 * record_bytes(5000)  # no time is lost with the dead


def test_a_lost_segment_file_is_noticed(bench: NodeBench) -> None:
    """Red without the walk over the index: a file that is not there is in no listing."""
    fill(bench, 40)
    lost = bench.segments()[1]
    inside = {key(n) for n in range(40) if bench.place(n)[0] == lost}
    assert len(inside) > 5
    bench.disk.unlink(lost)
    scrub(bench)
    assert found(bench) == dict.fromkeys(inside, "missing")
    assert bench.damage() == {"missing": 1}
    assert bench.store.checker.check(min(inside), deep=True).state == Status.CORRUPT
    for number in range(40):
        if key(number) in inside:
            assert bench.put(number, payload_of(number, 5000)) == Status.OK
    assert found(bench) == {}
    scrub(bench)
    assert found(bench) == {}


def test_the_rate_is_kept(bench: NodeBench) -> None:
    """Red when the rest after a step does not depend on what it read."""
    fill(bench, 60, 20_000)
    took_s = scrub(bench)
    nbytes = 60 * record_bytes(20_000)
    assert bench.store.scrub.scrubbed_bytes == nbytes
    assert nbytes / RATE < took_s < 1.6 * nbytes / RATE


def test_a_step_is_small(bench: NodeBench) -> None:
    fill(bench, 60, 20_000)
    biggest = 0
    while True:
        before = bench.store.scrub.scrubbed_bytes
        if bench.store.scrub.step() == PAUSE_S:
            break
        biggest = max(biggest, bench.store.scrub.scrubbed_bytes - before)
    assert 0 < biggest <= 1 << 20


def test_a_large_record_is_read_by_itself(tmp_path: Path) -> None:
    bench = NodeBench(tmp_path, scrub_bytes_per_s=RATE, scrub_pause_s=PAUSE_S)
    for number in range(3):
        assert bench.put(number, payload_of(number, 1_500_000)) == Status.OK
    bench.rot(1, at=1_400_000)
    scrub(bench)
    assert found(bench) == {key(1): "rotten"}
    assert bench.store.scrub.scrubbed_bytes == 3 * record_bytes(1_500_000)
    bench.store.abandon()


def test_a_restart_goes_on_where_the_scrub_was(bench: NodeBench) -> None:
    """Red when the position is not stored, or not read."""
    fill(bench, 60)
    segments = bench.segments()
    assert len(segments) > 4
    numbers = [int(path.stem, 16) for path in segments]
    while bench.store.scrub._next_segment <= numbers[1]:
        bench.now += bench.store.scrub.step()
    bench.kill()
    bench.rot(0)  # behind it: for the next pass
    bench.rot(59)
    scrub(bench)
    assert found(bench) == {key(59): "rotten"}
    scrub(bench)
    assert found(bench) == {key(0): "rotten", key(59): "rotten"}


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"format":9,"segment":77}', b'{"format":1,"segment":"x"}', b"\xff"]
)
def test_a_position_that_can_not_be_used_is_no_position(bench: NodeBench, content: bytes) -> None:
    fill(bench, 3)
    bench.disk.replace_file(bench.directory / SCRUB_FILE, content)
    bench.restart()
    bench.rot(0)
    scrub(bench)
    assert found(bench) == {key(0): "rotten"}


def test_a_full_disk_does_not_stop_it(bench: NodeBench) -> None:
    fill(bench, 60)
    bench.rot(59)
    bench.disk.traps += [Trap("replace_file", errno.ENOSPC, SCRUB_FILE) for _ in range(50)]
    scrub(bench)
    assert found(bench) == {key(59): "rotten"}


def test_an_error_ends_the_pass_and_the_next_goes_on(bench: NodeBench) -> None:
    fill(bench, 60)
    bench.rot(59)
    bench.disk.traps.append(Trap("open", errno.EIO, bench.segments()[2].name))
    while bench.store.scrub.step() != PAUSE_S:
        pass
    assert bench.store.scrub.passes == 0
    assert found(bench) == {}
    scrub(bench)
    assert found(bench) == {key(59): "rotten"}


def test_blocks_that_come_and_go_meanwhile(bench: NodeBench) -> None:
    """A write between any two steps."""
    fill(bench, 30)
    bench.rot(25)
    number = 100
    while bench.store.scrub.step() != PAUSE_S:
        assert bench.put(number, payload_of(number, 3000)) == Status.OK
        assert bench.delete(number - 90) == Status.OK
        bench.checkpoint()
        number += 1
    assert found(bench) == {key(25): "rotten"}


@pytest.mark.parametrize("at", [0, 8, 20])
def test_a_record_that_recovery_left_out_of_the_key_table_is_found(bench: NodeBench, at: int) -> None:
    """Its header rots, then the node stops without a clean end: recovery seals the segment with a table of what
    it can read, and the index still names the block. The simulation found it. Red when the scrub of a sealed
    segment believes the key table alone."""
    fill(bench, 5)
    bench.checkpoint()
    bench.rot(2, at=at)
    bench.kill()
    path, _ = bench.place(4)
    assert bench.store.scrub._read_table(int(path.stem, 16)) is not None, "recovery sealed the segment"
    assert bench.place_of(2) == int(path.stem, 16), "the index still names it there"
    scrub(bench)
    assert found(bench) == {key(2): "rotten"}


def test_records_that_do_not_follow_each_other_are_not_read_at_once() -> None:
    """A segment's records come once from its key table and, where that lacks a block, again from the index. Red when a
    read spans the end of the one and the beginning of the other: its length is negative then, and the node ends. The
    model of the whole store found it."""
    live = [(key(number), Entry(1, number * 4096, 100, number)) for number in range(_WINDOW_RECORDS + 2)]
    windows = list(_windows([*live, *live]))
    offsets = [[one[1].offset for one in window] for window in windows if not isinstance(window, int)]
    assert [offset for some in offsets for offset in some] == [one[1].offset for one in [*live, *live]]
    assert all(some == sorted(some) for some in offsets)
