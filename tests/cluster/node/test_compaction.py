"""Compaction: space comes back, and nothing else changes, whatever happens in between (S3, S7, S20)."""

from __future__ import annotations

import errno
import queue
import random
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from cluster.node.compaction import LOOK_S, Batch
from cluster.node.config import NodeConfig
from cluster.node.files import RealFiles
from cluster.node.group import Write
from cluster.node.identity import initialise
from cluster.node.index_entry import TOMBSTONE, Counts, pack_entry, unpack_entry
from cluster.node.records import BlockUnreadable
from cluster.node.segment import position, read_table, segment_path, unpack_entries
from cluster.node.store import Store
from cluster.node.writer import Writer
from cluster.wire import Status
from codec.block import BlockCorrupt, pack_key, verify
from tests.cluster.node.memory_disk import MemoryDisk, PowerOff, Trap
from tests.cluster.node.node_bench import (
    CLUSTER,
    NODE,
    NodeBench,
    delete_write,
    key_of,
    payload_of,
    put_write,
)

SIZE = 6000  # of a block; ten of them fill a segment


def data(number: int) -> bytes:
    return payload_of(number, SIZE)


def fill(bench: NodeBench, numbers: range) -> None:
    for number in numbers:
        assert bench.put(number, data(number)) == Status.OK


def delete(bench: NodeBench, numbers: Iterable[int]) -> None:
    for number in numbers:
        assert bench.delete(number) == Status.OK


@pytest.fixture
def small(memory_path: Path) -> Iterator[NodeBench]:
    """A node with segments of 64 KiB."""
    node = NodeBench(memory_path, segment_bytes=1 << 16)
    yield node
    node.store.abandon()


# -- space comes back ------------------------------------------------------------------------------------


def test_deleted_blocks_give_their_space_back(small: NodeBench) -> None:
    fill(small, range(60))
    before = small.store.status()
    delete(small, range(55))
    small.compact()
    after = small.store.status()
    assert after.segment_bytes < before.segment_bytes / 5
    assert after.segments == len(small.segments()) < before.segments
    assert after.reclaimed_bytes > before.segment_bytes * 3 // 4
    assert after.blocks == 5
    assert [small.read(n) for n in range(53, 60)] == [None, None, *map(data, range(55, 60))]
    small.check_usage()
    small.lose_index()
    assert small.held().keys() == {pack_key(key_of(n)) for n in range(55, 60)}


def test_steady_overwriting_keeps_disk_use_below_twice_the_data(small: NodeBench) -> None:
    """A block key is written once; overwriting an object is a put of other blocks and a delete of the old."""
    chance = random.Random(4)
    live = list(range(100))
    fill(small, range(100))
    worst = 0.0
    for number in range(100, 700):
        old = live.pop(chance.randrange(len(live)))
        assert small.put(number, data(number)) == Status.OK
        assert small.delete(old) == Status.OK
        live.append(number)
        if number % 10 == 0:
            small.compact(2)
            status = small.store.status()
            worst = max(worst, status.segment_bytes / status.live_bytes)
    assert worst < 2, worst
    assert small.held().keys() == {pack_key(key_of(n)) for n in live}


def test_dead_tombstones_are_dropped_at_last(small: NodeBench) -> None:
    """Index and disk don't grow for ever under writing and deleting. Red when the sweep forgets nothing."""
    for start in range(0, 400, 40):
        fill(small, range(start, start + 40))
        delete(small, range(start, start + 40))
        small.compact()
    small.now += 100
    small.compact()
    small.now += 100
    small.compact(6)
    assert small.entries() == {}
    assert small.store.status().segment_bytes < 20_000


def test_tombstones_in_a_segment_that_stays_are_swept_from_the_index(small: NodeBench) -> None:
    """Red without the sweep."""
    fill(small, range(10))
    fill(small, range(10, 18))
    delete(small, range(10))
    small.compact()
    assert [small.place_of(n) for n in range(10, 18)] == [2] * 8  # it is mostly alive
    assert len(small.entries()) == 18
    small.now += 100
    small.compact()
    assert len(small.entries()) == 8
    small.lose_index()
    assert small.held().keys() == {pack_key(key_of(n)) for n in range(10, 18)}


def test_a_small_store_gives_its_space_back(bench: NodeBench) -> None:
    """Segments are large: the active one is sealed early when much in it is dead."""
    for number in range(80):
        bench.put(number, payload_of(number, 100_000))
    delete(bench, range(75))
    assert len(bench.segments()) == 1
    bench.compact()
    status = bench.store.status()
    assert status.segment_bytes < 1_000_000
    assert all(bench.read(n) == payload_of(n, 100_000) for n in range(75, 80))
    assert bench.store.compactor.step(bench.store.move) == LOOK_S
    files = bench.segments()
    bench.compact()
    assert bench.segments() == files  # and it comes to rest


def test_what_a_crash_left_is_compacted_before_the_next_write(small: NodeBench) -> None:
    fill(small, range(40))
    delete(small, range(40))
    small.kill()
    small.compact()
    assert small.store.status().segment_bytes < 10_000


# -- S3, S20: sequences ----------------------------------------------------------------------------------


def test_s3_a_moved_record_keeps_its_sequence(small: NodeBench) -> None:
    """Red when a moved record gets a new sequence: an order for the copy (S20) would not hit it, and it would
    win over a newer one."""
    fill(small, range(20))
    before = small.held()
    delete(small, range(8))
    place = small.place(9)
    small.compact()
    assert small.place(9) != place
    after = small.held()
    assert after == {key: sequence for key, sequence in before.items() if key in after}
    assert len(after) == 12
    small.lose_index()
    assert small.held() == after
    assert small.delete(9, after[pack_key(key_of(9))]) == Status.OK
    assert small.read(9) is None


def test_s3_a_tombstone_stays_until_no_segment_can_hold_its_key(small: NodeBench) -> None:
    """The deleted block lies in a segment that is mostly alive; its tombstone in one that goes.

    Red when the compaction drops all tombstones: with a new index the deleted block is back.
    """
    fill(small, range(12))  # ten of them in segment 1
    first = small.segments()[0]
    delete(small, range(1))
    fill(small, range(12, 30))
    delete(small, range(10, 25))
    small.compact()
    small.now += 100
    small.compact()
    assert small.segments()[0] == first
    tombstones = [e for e in map(unpack_entry, small.entries().values()) if e.payload_length == TOMBSTONE]
    assert len(tombstones) == 1
    small.lose_index()
    assert small.read(0) is None
    assert small.held().keys() == {pack_key(key_of(n)) for n in [*range(1, 10), *range(25, 30)]}


def test_s3_a_deleted_block_that_was_moved_stays_deleted_while_its_old_place_is_there(
    small: NodeBench,
) -> None:
    """The record lies in two segments when it is deleted, and the tombstone must outlive both.

    Red when a moved entry does not name the segment it came from.
    """
    fill(small, range(10))
    delete(small, range(1, 9))
    small.rot(9, at=500)  # holds the first segment
    fill(small, range(10, 12))
    small.compact()
    assert small.place_of(0) > 1
    assert small.delete(0) == Status.OK
    fill(small, range(12, 30))
    delete(small, range(10, 30))
    for _ in range(3):
        small.now += 100
        small.compact()
    assert small.segments()[0].name == "00000001.seg"
    assert len(small.segments()) == 2
    small.lose_index()
    assert small.read(0) is None


def test_s3_the_same_after_the_index_was_made_anew(small: NodeBench) -> None:
    """Red when recovery forgets where the copy lies that does not count."""
    fill(small, range(10))
    delete(small, range(1, 9))
    small.rot(9, at=500)
    fill(small, range(10, 12))
    small.compact()
    assert small.place_of(0) == 2
    fill(small, range(12, 18))
    small.lose_index()
    assert small.place_of(0) == 1  # the copy in segment 2 is the second one
    assert small.delete(0) == Status.OK
    assert small.append(9, data(9), sync=True, repair=True)
    fill(small, range(20, 40))
    delete(small, range(20, 40))
    for _ in range(3):
        small.now += 100
        small.compact()
    assert small.segments()[0].name == "00000002.seg"
    fill(small, range(40, 60))
    delete(small, range(40, 60))
    for _ in range(3):
        small.now += 100
        small.compact()
    small.lose_index()
    assert small.read(0) is None


def test_s20_an_order_for_a_replaced_copy_does_not_take_the_moved_one(small: NodeBench) -> None:
    old = small.append(1, data(1), sync=True)
    new = small.append(1, data(1), sync=True, repair=True)
    assert new.sequence > old.sequence
    fill(small, range(2, 20))
    delete(small, range(2, 20))
    small.compact()
    assert small.delete(1, old.sequence) == Status.OK
    assert small.read(1) == data(1)
    small.lose_index()
    assert small.held() == {pack_key(key_of(1)): new.sequence}


# -- S7: crashes -----------------------------------------------------------------------------------------


def _busy_store(path: Path) -> NodeBench:
    bench = NodeBench(path, segment_bytes=1 << 16)
    fill(bench, range(30))
    delete(bench, range(1, 30, 2))
    bench.checkpoint()
    fill(bench, range(30, 40))
    delete(bench, range(0, 10, 2))
    return bench


@pytest.mark.parametrize("how", ["kill", "power"])
@pytest.mark.parametrize("index", ["kept", "lost"])
def test_s7_a_crash_in_any_call_of_a_compaction_changes_nothing(
    memory_path: Path, how: str, index: str
) -> None:
    """Each call to the disk is the last one once.

    Red when a segment is removed before the index without it is stored, when it is dropped before the moved
    records are synced, and when a start keeps a segment that the index has dropped.
    """
    expected = {n: data(n) for n in [*range(10, 30, 2), *range(30, 40)]}
    crashes = 0
    for calls in range(10_000):
        bench = _busy_store(memory_path / str(calls))
        bench.disk.calls_left = calls
        try:
            bench.compact(3)
        except PowerOff:
            crashes += 1
        else:
            assert not bench.read(0)
            bench.store.abandon()
            break
        if how == "kill":
            bench.kill()
        else:
            bench.power_cut(calls)
        if index == "lost":
            bench.lose_index()
        found = {n: bench.read(n) for n in range(40)}
        assert {n: payload for n, payload in found.items() if payload is not None} == expected, calls
        bench.check_usage()
        bench.compact()
        assert bench.held().keys() == {pack_key(key_of(n)) for n in expected}
        assert bench.store.status().segment_bytes < 2 * bench.store.status().live_bytes
        bench.store.abandon()
    assert crashes > 20


@pytest.mark.parametrize("seed", range(12))
def test_random_work_with_crashes_against_a_dictionary(memory_path: Path, seed: int) -> None:
    """Puts, repair puts, deletes, compaction in pieces, checkpoints, and crashes within any call to the disk.

    Red when tombstones are dropped too early, or entries do not name the segments of what they cover, also
    when recovery forgets to.
    """
    chance = random.Random(seed)
    bench = NodeBench(memory_path, segment_bytes=1 << 16)
    model: dict[int, bytes] = {}
    newest = 0
    for _ in range(160):
        bench.disk.calls_left = chance.randrange(60) if chance.random() < 0.1 else None
        touched, wanted = -1, None
        try:
            what = chance.random()
            if what < 0.45:
                newest += 1
                touched = newest if chance.random() < 0.7 else chance.randrange(newest)
                wanted = payload_of(touched, 100 + touched * 997 % 9000)
                write = bench.append(touched, wanted, sync=True, repair=chance.random() < 0.4)
                assert write.sequence
                model[touched] = wanted
            elif what < 0.75 and model:
                touched = chance.choice(sorted(model))
                assert bench.delete(touched) == Status.OK
                del model[touched]
            elif what < 0.9:
                for _ in range(chance.randrange(1, 8)):
                    bench.store.compactor.step(bench.store.move)
            elif what < 0.95:
                bench.checkpoint()
            else:
                bench.now += 30
                bench.compact(2)
        except PowerOff:
            _crash(bench, chance)
            seen = bench.read(touched) if touched >= 0 else None
            assert touched < 0 or seen in (wanted, model.get(touched)), touched
            if seen is None:
                model.pop(touched, None)
            else:
                model[touched] = seen
        else:
            if chance.random() < 0.06:
                _crash(bench, chance)
        bench.disk.calls_left = None
        assert bench.held().keys() == {pack_key(key_of(n)) for n in model}
        bench.check_usage()
    assert all(bench.read(n) == payload for n, payload in model.items())
    bench.now += 100
    bench.compact(8)
    bench.lose_index()
    assert all(bench.read(n) == payload for n, payload in model.items())
    assert len(bench.held()) == len(model)
    bench.store.abandon()


def _crash(bench: NodeBench, chance: random.Random) -> None:
    how = chance.randrange(3)
    if how == 0:
        bench.kill()
    else:
        bench.power_cut(chance.randrange(1 << 30))
    if how == 2:
        bench.lose_index()


def test_s7_removed_segments_do_not_come_back_without_their_tombstones(memory_path: Path) -> None:
    """The blocks, their tombstones, and the place those were moved to have all gone, then power fails and the
    index is lost. Red without the sync of the directory: what came first may come back alone.
    """
    for seed in range(24):
        bench = NodeBench(memory_path / str(seed), segment_bytes=1 << 16)
        fill(bench, range(10))
        fill(bench, range(10, 12))
        delete(bench, range(10))
        for start in range(20, 80, 20):
            fill(bench, range(start, start + 20))
            bench.now += 100
            bench.compact(2)
            delete(bench, range(start, start + 20))
        bench.now += 100
        bench.compact()
        bench.power_cut(seed)
        bench.lose_index()
        assert bench.held().keys() == {pack_key(key_of(n)) for n in (10, 11)}, seed
        bench.store.abandon()


def test_s7_a_segment_that_came_back_is_removed_at_the_start(small: NodeBench) -> None:
    """A power cut between the removal of a file and the sync of its directory."""
    fill(small, range(20))
    delete(small, range(15))
    path = small.segments()[0]
    file = small.disk.files[path]
    small.compact()
    assert path not in small.disk.files
    small.store.abandon()
    small.disk.kill()
    small.disk.files[path] = file
    small.open()
    assert small.read(0) is None
    assert path in small.disk.files
    small.checkpoint()
    assert path not in small.disk.files
    assert small.read(17) == data(17)


def test_s7_a_removal_that_fails_is_tried_again(small: NodeBench) -> None:
    fill(small, range(20))
    delete(small, range(20))
    small.disk.traps += [Trap("unlink", errno.EIO, ".seg"), Trap("fsync_dir", errno.EIO, "segments", skip=2)]
    small.compact(8)
    assert small.disk.traps == []
    assert small.store.status().segment_bytes < 10_000
    assert small.store.status().segments == len(small.segments())


def test_s2_a_failed_sync_brings_moved_records_back_to_their_place(small: NodeBench) -> None:
    """Red when an emptied segment is dropped before the moved records are synced."""
    fill(small, range(20))
    delete(small, range(8))
    small.compact_pass()
    small.disk.traps.append(Trap("fdatasync", errno.EIO, ".seg"))
    small.checkpoint()
    assert small.store.status().damage["failed"] == 1
    assert all(small.read(n) == data(n) for n in range(8, 20))
    small.check_usage()
    small.power_cut(3)
    assert all(small.read(n) == data(n) for n in range(8, 20))
    small.compact()
    small.lose_index()
    assert all(small.read(n) == data(n) for n in range(8, 20))


def test_s2_a_tombstone_is_not_forgotten_before_it_is_synced(small: NodeBench) -> None:
    """Red when it is: the sync fails, the delete counts as not done, and the block is gone all the same."""
    index = small.store._index
    fill(small, range(2))
    (raw,) = (raw for key, raw in small.entries().items() if key == pack_key(key_of(0)))
    place = unpack_entry(raw)
    tombstone = pack_entry(place.segment, place.offset + 8, TOMBSTONE, place.sequence + 100)
    index.apply({pack_key(key_of(0)): tombstone}, Counts(-1, -SIZE), {})
    assert small.read(0) is None
    small.store.move(Batch([], [(pack_key(key_of(0)), tombstone)], 0))
    index.withdraw()
    assert small.read(0) == data(0)


def test_s2_withdrawn_records_stay_withdrawn_when_the_segment_behind_them_goes(small: NodeBench) -> None:
    """A segment without a key table is known to end where the next one's header says so.

    Red when that next one may go first: with a new index a block that was refused is there.
    """
    small.put(1)
    small.disk.traps.append(Trap("pwritev", errno.EIO, ".seg", short=80 + 180 + 50))
    refused = [put_write(key_of(n), payload_of(n)) for n in (2, 3)]  # the first one lies there whole
    assert small.commit(*refused) == [Status.FAILED, Status.FAILED]
    failed = small.segments()[0]
    fill(small, range(10, 30))
    delete(small, range(10, 30))
    small.rot(1)  # holds its segment
    small.compact()
    assert failed in small.disk.files
    small.lose_index()
    assert (small.read(2), small.read(3)) == (None, None)


def test_a_block_deleted_while_it_is_being_moved_stays_deleted(small: NodeBench) -> None:
    """Red when a move does not look again whether its record still counts."""
    fill(small, range(10))
    delete(small, range(6))
    fill(small, range(10, 12))

    def late(batch: Batch) -> bool:
        if batch.moves:
            small.delete(7)
        return small.store.move(batch)

    while small.store.compactor.step(late) != LOOK_S:
        pass
    small.checkpoint()
    assert small.read(7) is None
    small.lose_index()
    assert small.held().keys() == {pack_key(key_of(n)) for n in [6, 8, 9, 10, 11]}


class Stale:
    """An index reader that shows what was there before."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def get(self, key: bytes) -> bytes:
        return self._raw

    def release(self) -> None:
        pass


def test_readers_keep_their_handles(small: NodeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader holds the old segment open, another one looked its block up before it was moved."""
    fill(small, range(20))
    delete(small, range(8))
    handle = small.store._readers.get(1)
    raw = small.store._index.get(pack_key(key_of(9)))
    assert raw is not None
    old = unpack_entry(raw)
    small.compact()
    assert segment_path(small.directory / "segments", 1) not in small.disk.files
    buffer = bytearray(100)
    assert small.disk.preadv(handle.fd, buffer, old.offset) == 100
    assert bytes(buffer[32:48]) == key_of(9).blob
    assert small.read(9) == data(9)
    monkeypatch.setattr(small.store, "_loop_reader", Stale(raw))
    old_path = segment_path(small.directory / "segments", 1)
    assert old_path in small.disk.open_files()
    del handle
    assert old_path not in small.disk.open_files()  # its space is free at last
    record, _ = small.store.read(pack_key(key_of(9)), 0, 0, 0, True)
    assert bytes(verify(record, key_of(9)).payload) == data(9)
    assert small.damage() == {}


# -- what can't be read -----------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["payload", "header", "unreadable"])
def test_a_bad_record_is_listed_and_its_segment_stays_until_it_is_repaired(
    small: NodeBench, trouble: str
) -> None:
    """Red when the compaction skips what it can't verify and drops the segment: the node would say
    NOT_FOUND, and with a tombstone instead repair would never hear of it."""
    fill(small, range(20))
    delete(small, range(6))
    path, offset = small.place(7)
    if trouble == "unreadable":
        small.disk.unreadable.append((path.name, offset, offset + 100))
    else:
        small.rot(7, at=10 if trouble == "header" else 500)
    small.compact()
    assert path in small.disk.files
    assert [key for key, _, _ in small.store.damaged(b"", 10).entries] == [pack_key(key_of(7))]
    with pytest.raises((BlockCorrupt, BlockUnreadable)):
        small.read(7)
    assert all(small.read(n) == data(n) for n in range(8, 20))
    assert small.append(7, data(7), sync=True, repair=True).sequence
    assert small.store.status().damaged_blocks == 0
    small.compact()
    assert path not in small.disk.files
    assert small.read(7) == data(7)


def test_s4_the_blocks_of_a_missing_segment_are_damaged_not_gone(small: NodeBench) -> None:
    fill(small, range(30))
    small.store.close()
    del small.disk.files[small.segments()[0]]
    small.open()
    assert small.damage() == {"missing": 1}
    assert len(small.held()) == 30
    lost = [n for n in range(30) if small.place_of(n) == 1]
    assert len(lost) == 10
    for number in lost:
        with pytest.raises(BlockUnreadable):
            small.read(number)
    small.compact()
    assert len(small.held()) == 30
    for number in lost:
        assert small.put(number, data(number)) == Status.OK
    small.compact()
    small.restart()
    assert small.damage() == {}
    assert all(small.read(n) == data(n) for n in range(30))


def test_a_segment_that_can_not_be_opened_is_left_alone_and_tried_again(small: NodeBench) -> None:
    """Red when a start takes it for read: its blocks are forgotten, and it is removed as garbage."""
    fill(small, range(5))
    small.store.abandon()
    small.disk.kill()
    path = small.segments()[0]
    small.disk.traps.append(Trap("open", errno.EIO, path.name))
    small.open()
    assert small.damage() == {"unreadable": 1}
    fill(small, range(5, 8))
    small.compact()
    assert path in small.disk.files
    small.restart()
    assert all(small.read(n) == data(n) for n in range(8))
    small.check_usage()


def test_a_segment_that_can_not_be_opened_does_not_stop_the_others(small: NodeBench) -> None:
    fill(small, range(40))
    delete(small, range(0, 40, 2))
    first = small.segments()[0]
    small.store._readers.close()
    small.disk.traps += [Trap("open", errno.EIO, first.name) for _ in range(20)]
    small.compact()
    assert small.segments()[0] == first
    assert len(small.segments()) <= 4
    small.disk.traps.clear()
    small.now += 100
    small.compact()
    assert first not in small.disk.files
    assert all(small.read(n) == data(n) for n in range(1, 40, 2))


# -- pace and full disks -----------------------------------------------------------------------------------


def test_the_rate_is_kept(memory_path: Path) -> None:
    bench = NodeBench(memory_path, segment_bytes=1 << 20, compact_bytes_per_s=1_000_000)
    fill(bench, range(400))
    delete(bench, range(100))
    rested = 0.0
    while (rest_s := bench.store.compactor.step(bench.store.move)) != LOOK_S:
        rested += rest_s
    moved = [n for n in range(100, 170) if bench.place_of(n) != 1]
    assert len(moved) > 50
    assert rested >= len(moved) * SIZE / 1_000_000
    bench.store.abandon()


def test_moving_waits_for_the_index_file(memory_path: Path) -> None:
    """P8: else the compaction would fill the memory for recent entries, and puts would be refused."""
    bench = NodeBench(memory_path, segment_bytes=1 << 16, index_recent_max=60)
    fill(bench, range(40))
    delete(bench, range(38))
    files = bench.segments()
    assert bench.store.compactor.step(bench.store.move) == LOOK_S
    bench.checkpoint()
    bench.compact()
    assert len(bench.segments()) < len(files) / 2
    bench.store.abandon()


def test_a_full_disk_gets_its_space_back_out_of_the_reserve(memory_path: Path) -> None:
    bench = NodeBench(memory_path, MemoryDisk(900_000), segment_bytes=1 << 16, reserve_bytes=100_000)
    stored = [n for n in range(200) if bench.put(n, data(n)) == Status.OK]
    assert len(stored) < 140
    assert bench.store.status().read_only
    for number in stored[::3]:
        assert bench.delete(number) == Status.OK
    assert bench.put(500, data(500)) == Status.READ_ONLY
    bench.compact(30)
    assert not bench.store.status().read_only
    assert bench.put(500, data(500)) == Status.OK
    assert all(bench.read(n) == data(n) for n in set(stored) - set(stored[::3]))
    bench.store.abandon()


def test_a_disk_without_a_single_byte_left_gets_space_from_dead_segments(small: NodeBench) -> None:
    """After a restart, with no room even for the header of a new segment. Red when dropping a segment asks
    for a new one, instead of any newer one."""
    fill(small, range(40))
    delete(small, range(30))
    small.store.abandon()
    small.disk.kill()
    small.disk.capacity_bytes = sum(len(file.live) for file in small.disk.files.values())
    small.open()
    assert small.put(50, data(50)) == Status.READ_ONLY
    small.compact()
    assert small.disk.free_bytes(small.directory) > 100_000
    assert not small.store.status().read_only
    assert small.put(50, data(50)) == Status.OK
    small.lose_index()
    assert small.held().keys() == {pack_key(key_of(n)) for n in [*range(30, 40), 50]}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_move_that_fails_leaves_everything_in_its_place(small: NodeBench, code: int) -> None:
    fill(small, range(20))
    delete(small, range(7))
    small.disk.traps.append(Trap("pwritev", code, ".seg", short=1000))
    small.compact(1)
    assert all(small.read(n) == data(n) for n in range(7, 20))
    small.check_usage()
    small.power_cut(1)
    assert all(small.read(n) == data(n) for n in range(7, 20))
    small.compact()
    assert small.store.status().segment_bytes < 2 * small.store.status().live_bytes


def test_the_last_segment_never_goes_before_there_is_a_newer_one(small: NodeBench) -> None:
    """S3, S7: with the index lost too, numbers and sequences would begin anew.

    Red when the newest segment may be dropped.
    """
    fill(small, range(5))
    highest = max(small.held().values())
    delete(small, range(5))
    small.restart()
    small.now += 100
    small.compact()
    assert small.segments()[-1].name > "00000001.seg"
    small.lose_index()
    assert small.append(9, data(9), sync=True).sequence > highest
    assert small.store._log.synced > position(2, 0)


# -- threads --------------------------------------------------------------------------------------------


def test_space_comes_back_beside_reads_and_writes(memory_path: Path) -> None:
    """The threads of a node on real files: blocks come and go while others are read."""
    chance = random.Random(1)
    config = NodeConfig(
        directory=memory_path,
        cluster_id=CLUSTER,
        secret=b"s" * 32,
        segment_bytes=1 << 20,
        index_flush_s=0.05,
        index_map_bytes=1 << 26,
        reserve_bytes=0,
    )
    files = RealFiles()
    initialise(
        memory_path, cluster_id=CLUSTER, node_id=NODE, name="node-1", region="r", zone="z", files=files
    )
    store = Store.open(config, files)
    answered: queue.SimpleQueue[list[Write]] = queue.SimpleQueue()
    dead: list[BaseException] = []
    writer = Writer(store, config, answered.put, dead.append)
    writer.start()
    live: list[int] = []
    for number in range(0, 3000, 10):
        batch = [put_write(key_of(n), data(n)) for n in range(number, number + 10)]
        gone = [live.pop(chance.randrange(len(live))) for _ in range(10 if len(live) > 200 else 0)]
        batch += [delete_write((key_of(n), 0)) for n in gone]
        writer.submit(batch)
        assert {write.status for write in answered.get(timeout=20)} == {Status.OK}
        live += range(number, number + 10)
        for looked_at in chance.sample(live, 5):
            record, _ = store.read(pack_key(key_of(looked_at)), 0, 0, 0, False)
            assert bytes(verify(record, key_of(looked_at)).payload) == data(looked_at)
    tick = threading.Event()
    for _ in range(2000):
        status = store.status()
        if status.segment_bytes < 2 * status.live_bytes or dead:
            break
        tick.wait(0.01)
    writer.stop()
    assert dead == []
    assert status.segment_bytes < 2 * status.live_bytes
    assert status.reclaimed_bytes > 5_000_000
    assert status.damage == {}
    store = Store.open(config, files)
    found = {key for key, _, _ in store.inventory(b"", 5000).entries}
    assert found == {pack_key(key_of(n)) for n in live}
    store.abandon()


# -- small segments --------------------------------------------------------------------------------------


@pytest.mark.parametrize("crash", [False, True])
def test_many_restarts_leave_few_segments(memory_path: Path, crash: bool) -> None:
    """Each start that is written to leaves a segment of its own. Red when small segments are not merged."""
    node = NodeBench(memory_path, segment_bytes=1 << 20)
    worst = 0
    for number in range(200):
        assert node.put(number, data(number)) == Status.OK
        node.compact(2)
        worst = max(worst, len(node.segments()))
        if crash:
            node.kill()
        else:
            node.restart()
    assert worst <= 20
    assert [node.read(n) for n in range(200)] == [data(n) for n in range(200)]
    node.check_usage()
    status = node.store.status()
    assert status.segment_bytes < 1.2 * status.live_bytes
    node.lose_index()
    assert [node.read(n) for n in range(200)] == [data(n) for n in range(200)]
    assert node.damage() == {}
    node.store.abandon()


def test_a_few_small_segments_are_left_alone(small: NodeBench) -> None:
    """Merging has its price: not for eight files, and not the full ones, however many there are."""
    fill(small, range(100))
    for number in range(100, 107):
        small.restart()
        small.put(number, payload_of(number, 2000))
    small.restart()
    files = small.segments()
    small.compact()
    assert small.segments() == files


def test_small_segments_that_can_not_go_are_not_read_for_ever(small: NodeBench) -> None:
    """One with a rotten block stays until it is repaired; the others are merged, and then there is peace."""
    for number in range(20):
        small.put(number, payload_of(number, 2000))
        small.restart()
    small.rot(3)
    small.compact()
    assert len(small.segments()) <= 3
    assert [key for key, _, _ in small.store.damaged(b"", 9).entries] == [pack_key(key_of(3))]
    calls = small.disk.calls["read_disk"]
    small.compact(10)
    assert small.disk.calls["read_disk"] == calls
    small.put(3, payload_of(3, 2000))
    small.compact()
    assert [small.read(n) for n in range(20)] == [payload_of(n, 2000) for n in range(20)]
    assert small.damage() == {"rotten": 1}


def test_a_segment_whose_key_table_is_not_in_the_order_of_its_records_is_emptied(small: NodeBench) -> None:
    """A start that seals what a crash left lists the rotten records that count behind all others.

    Red when the compaction takes the records in the order of the table: its window ends before it begins.
    """
    fill(small, range(9))
    small.rot(2, at=500)
    small.kill()
    offsets = [entry.offset for entry in unpack_entries(table_of(small, 1))]
    assert offsets != sorted(offsets)
    delete(small, [*range(2), *range(3, 7)])
    small.compact()
    assert [small.place_of(n) for n in (2, 7, 8)] == [1, 2, 2]
    assert [small.read(n) for n in (7, 8)] == [data(7), data(8)]
    assert [key for key, _, _ in small.store.damaged(b"", 9).entries] == [pack_key(key_of(2))]
    assert small.put(2, data(2)) == Status.OK
    small.compact()
    assert small.segment(1) not in small.segments()


def table_of(bench: NodeBench, number: int) -> bytes:
    path = bench.segment(number)
    fd = bench.disk.open(path)
    found = read_table(bench.disk, fd, bench.disk.size(path), CLUSTER)
    bench.disk.close(fd)
    assert found is not None
    return found[0]
