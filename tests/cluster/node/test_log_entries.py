"""S17 on a node: the catalog's log lies among the blocks' records, survives what they survive, and can be trimmed."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.log_names import MARK_INDEX_KEY, LogEntryName, pack_name, piece_name, unpack_name
from cluster.node import log_entries
from cluster.node.dump import dump
from cluster.node.index_entry import unpack_entry
from cluster.node.records import BlockUnreadable
from cluster.wire import Appended, LogTrimmed, Status
from codec.block import pack_key
from tests.cluster.node.log_writes import (
    append,
    append_write,
    batch,
    find_record,
    held,
    read,
    record,
    rot,
    snapshot,
    trim,
    trim_all,
)
from tests.cluster.node.memory_disk import MemoryDisk, PowerOff, Trap
from tests.cluster.node.node_bench import CATALOG, NodeBench, key_of, payload_of

Ending = Callable[[NodeBench], None]
ENDINGS: dict[str, Ending] = {
    "killed": NodeBench.kill,
    "power cut": NodeBench.power_cut,
    "restarted": NodeBench.restart,
    "index lost": NodeBench.lose_index,
}


@pytest.fixture
def small(memory_path: Path) -> Iterator[NodeBench]:
    """A node with segments of 64 KiB."""
    node = NodeBench(memory_path, segment_bytes=1 << 16)
    yield node
    node.store.abandon()


def test_names_pack_in_the_order_of_the_log() -> None:
    names = [
        *(batch(1), batch(2), snapshot(2), snapshot(2, 1), batch(3), piece_name(1, 4, 0, 3)),
        *(piece_name(1, 4, 2, 3), snapshot(4), batch(1, term=2), batch(1 << 63, term=1 << 63)),
    ]
    packed = [pack_name(name) for name in names]
    assert packed == sorted(packed)
    assert [unpack_name(key) for key in packed] == names
    for wrong in (LogEntryName(2, 1, 1, 0), LogEntryName(0, -1, 1, 0), LogEntryName(0, 1, 1, 1 << 24)):
        with pytest.raises(ValueError, match="not the name"):
            pack_name(wrong)


def test_the_format_of_a_record(bench: NodeBench) -> None:
    """Golden: whoever reads logs of this release finds names where they are."""
    append(bench, (LogEntryName(1, 2, 3, 4), b"five5"))
    path, offset = find_record(bench, LogEntryName(1, 2, 3, 4))
    stored = bytes(bench.disk.files[path].live[offset : offset + 96])
    assert stored[:8] == b"TRVR\x01\x03\x00\x00"
    assert stored[32:56] == bytes.fromhex("0000000000000002 0000000000000003 04000001 00 00 0000")
    assert stored[60:64] == (5).to_bytes(4, "little")
    assert stored[80:88] == b"five5\0\0\0"


def test_an_entry_is_synced_and_readable_when_it_is_answered(bench: NodeBench) -> None:
    one, two = record(batch(1)), record(snapshot(1), 70_001)
    write = append_write(one, two)
    bench.commit(write)
    assert isinstance(write.answer, Appended)
    assert write.answer.position == bench.store._log.synced
    assert held(bench) == dict((one, two))
    assert read(bench, batch(2)) is None


def test_entries_are_no_blocks(bench: NodeBench) -> None:
    """The steward would collect them as orphans. Red when inventory or the list of damaged blocks know them."""
    bench.put(1)
    before = bench.store.status()
    append(bench, *(record(batch(n)) for n in range(10)))
    rot(bench, batch(5))
    bench.disk.unreadable.append((".seg", 0, 1 << 20))
    bench.disk.cold = True
    with pytest.raises(BlockUnreadable):
        read(bench, batch(5))
    bench.disk.unreadable.clear()
    for _ in range(2):
        after = bench.store.status()
        assert (after.blocks, after.live_bytes) == (before.blocks, before.live_bytes)
        assert (after.log_entries, after.log_bytes, after.damaged_blocks) == (10, 3000, 0)
        assert bench.held().keys() == {pack_key(key_of(1))}
        assert bench.store.damaged(b"", 10).entries == []
        bench.checkpoint()
    assert bench.store.log_status(b"", 0).damaged == 1


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("stored", [False, True])
def test_s4_entries_survive_each_end_of_a_process(small: NodeBench, ending: str, stored: bool) -> None:
    """Red when recovery, or a key table, leaves out CATALOG_LOG."""
    entries = dict(record(batch(n), 3000) for n in range(40))
    for number, entry in enumerate(entries.items()):
        small.put(number, payload_of(number, 2000))
        assert append(small, entry) == Status.OK
    if stored:
        small.checkpoint()
    for _ in range(2):
        ENDINGS[ending](small)
        assert held(small) == entries
        assert len(small.held()) == 40
        small.check_usage()


def test_the_newest_entry_of_a_name_counts(small: NodeBench) -> None:
    """Red when two appends under one name share a group, and when what is replaced stays in the counters."""
    append(small, record(batch(1)), record(batch(2)))
    newest = record(batch(1), 500, variant=1)
    writes = [append_write(record(batch(1), 400, variant=2)), append_write(newest)]
    assert small.commit(*writes) == [Status.OK, Status.OK]
    assert held(small) == dict((newest, record(batch(2))))
    small.check_usage()
    for end in ENDINGS.values():
        end(small)
        assert held(small) == dict((newest, record(batch(2))))
        small.check_usage()


def test_s18_appends_and_trims_obey_the_fence(bench: NodeBench) -> None:
    """Red when the fence is not asked."""
    assert append(bench, record(batch(1)), term=3) == Status.OK
    assert bench.store.log_status(b"", 0).term == 3
    assert bench.store.log_status(b"", 0).catalog_id == CATALOG
    assert append(bench, record(batch(2)), term=2) == Status.FENCED
    assert trim(bench, batch(9), term=2).status == Status.FENCED
    (status,) = bench.commit(append_write(record(batch(2)), catalog=b"another catalog!", term=9))
    assert status == Status.FENCED
    assert held(bench) == dict([record(batch(1))])
    assert (
        append(bench, record(batch(2, term=2)), term=4) == Status.OK
    )  # an old entry, by a catalog that knows
    bench.kill()
    assert bench.store.log_status(b"", 0).term == 4


# -- trimming --------------------------------------------------------------------------------------------


def test_trimming_drops_what_comes_before_and_nothing_else(
    small: NodeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_entries, "TRIM_LOG_MAX", 7)
    old = [record(batch(n)) for n in range(20)] + [record(snapshot(15, c)) for c in range(3)]
    new = [record(snapshot(19, c)) for c in range(2)] + [record(batch(n)) for n in range(20, 30)]
    append(small, *old, *new)
    answer = trim(small, snapshot(19)).answer
    assert answer == LogTrimmed(7, True)
    assert trim_all(small, snapshot(19)) == len(old) - 7
    assert held(small) == dict(new)
    small.check_usage()
    assert trim(small, snapshot(19)).answer == LogTrimmed(0, False)
    assert trim(small, snapshot(15)).answer == LogTrimmed(0, False)
    assert append(small, *old[:3]) == Status.OK  # a late duplicate
    assert held(small) == dict(new)


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_was_trimmed_stays_away(small: NodeBench, ending: str) -> None:
    """Also when the index is made anew from segments that still hold it.

    Red when a start does not look at the mark, and when a late duplicate is stored.
    """
    append(small, *(record(batch(n)) for n in range(20)))
    small.checkpoint()
    assert trim_all(small, batch(15)) == 15
    expected = dict(record(batch(n)) for n in range(15, 20))
    for _ in range(2):
        ENDINGS[ending](small)
        assert held(small) == expected
        small.check_usage()
        assert append(small, record(batch(3))) == Status.OK
        assert held(small) == expected


def test_trimmed_space_comes_back_and_the_mark_moves_on(small: NodeBench) -> None:
    """Red when what comes before the mark is stored."""
    for number in range(200):
        append(small, record(batch(number), 3000))
    before = small.store.status().segment_bytes
    trim_all(small, batch(190))
    small.compact()
    assert small.store.status().segment_bytes < before / 5
    for number in range(200, 240):
        append(small, record(batch(number), 3000))
    trim_all(small, batch(230))
    small.compact()
    raw = small.store._index.get(MARK_INDEX_KEY)
    assert raw is not None
    assert unpack_entry(raw).segment > 3
    expected = dict(record(batch(n), 3000) for n in range(230, 240))
    assert held(small) == expected
    small.lose_index()
    assert held(small) == expected
    assert append(small, record(batch(100))) == Status.OK
    assert held(small) == expected
    small.check_usage()


@pytest.mark.parametrize("sealed", [True, False])
def test_entries_and_mark_move_out_of_segments_that_go(small: NodeBench, sealed: bool) -> None:
    """Red when the compaction looks for log entries under the keys of blocks, and when it lists what it moved as
    blocks."""
    append(small, *(record(batch(n)) for n in range(10)))
    trim_all(small, batch(5))
    for number in range(30):
        small.put(number, payload_of(number, 6000))
        append(small, record(batch(10 + number)))
    expected = dict(record(batch(n)) for n in range(5, 40))
    if not sealed:
        small.disk.traps.append(Trap("pwritev", errno.EIO, ".seg"))  # a segment is left without its key table
        small.put(30)
        small.put(30)
    for number in range(30):
        small.delete(number)
    small.compact()
    assert small.store.status().segment_bytes < 60_000
    assert small.segment(1) not in small.segments()
    assert held(small) == expected
    small.check_usage()
    small.lose_index()
    assert held(small) == expected
    assert len(small.held()) == (not sealed)
    small.check_usage()


def test_a_rotten_mark_loses_nothing(small: NodeBench) -> None:
    append(small, *(record(batch(n)) for n in range(20)))
    trim_all(small, batch(15))
    raw = small.store._index.get(MARK_INDEX_KEY)
    assert raw is not None
    entry = unpack_entry(raw)
    file = small.disk.files[small.segment(entry.segment)]
    file.settle()
    for content in (file.live, file.durable):
        content[entry.offset + 90] ^= 1
    small.lose_index()
    found = held(small)
    assert all(found[batch(n)] == record(batch(n))[1] for n in range(20))
    trim_all(small, batch(15))
    assert list(held(small)) == [batch(n) for n in range(15, 20)]
    assert small.store.log_status(b"", 0).damaged == 0


# -- disks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["fdatasync", "pwritev"])
def test_s2_a_failed_append_is_withdrawn(small: NodeBench, op: str) -> None:
    """Red when a failed sync leaves entries in the counters."""
    first = record(batch(1))
    append(small, first)
    small.disk.traps.append(Trap(op, errno.EIO, ".seg"))
    assert append(small, record(batch(1), variant=1), record(batch(2))) == Status.FAILED
    assert held(small) == dict([first])
    small.disk.traps.append(Trap(op, errno.EIO, ".seg"))
    assert trim(small, batch(2)).status == Status.FAILED
    assert held(small) == dict([first])
    small.check_usage()
    assert append(small, record(batch(2))) == Status.OK
    small.power_cut(1)
    assert batch(2) in held(small)


def test_the_log_may_use_the_reserve(memory_path: Path) -> None:
    """A full node takes no blocks, but the catalog must be able to commit deletes.

    Red when appends are refused where puts are.
    """
    bench = NodeBench(memory_path, MemoryDisk(900_000), segment_bytes=1 << 16, reserve_bytes=400_000)
    number = 0
    while bench.put(number, payload_of(number, 6000)) == Status.OK:
        number += 1
    assert append(bench, record(batch(1), 6000)) == Status.OK
    assert bench.put(number, payload_of(number, 6000)) == Status.READ_ONLY
    statuses = [append(bench, record(batch(n), 6000)) for n in range(2, 100)]
    assert statuses[-1] == Status.READ_ONLY
    assert bench.disk.free_bytes(memory_path) > 80_000
    stored = [n for n, status in enumerate(statuses, start=2) if status == Status.OK]
    assert trim_all(bench, batch(stored[-1])) == len(stored)
    bench.compact(8)
    assert append(bench, record(batch(200), 6000)) == Status.OK
    bench.store.abandon()


def test_scrub_and_compaction_find_rot_in_the_log(memory_path: Path) -> None:
    """In sealed segments and in the active one. Red when the scrub's walk over the index leaves the log out."""
    bench = NodeBench(memory_path, segment_bytes=1 << 16, scrub_bytes_per_s=10 << 20, scrub_pause_s=1000.0)
    for number in range(40):
        append(bench, record(batch(number), 3000))
    for number in (1, 39):
        rot(bench, batch(number))
    while bench.store.scrub.step() != 1000.0:
        pass
    assert bench.store.log_status(b"", 0).damaged == 2
    assert bench.damage() == {"rotten": 2}
    assert bench.store.status().damaged_blocks == 0
    append(bench, record(batch(39), 3000))
    assert bench.store.log_status(b"", 0).damaged == 1
    trim_all(bench, batch(2))
    assert bench.store.log_status(b"", 0).damaged == 0
    bench.store.abandon()


def test_rot_in_an_unsealed_segment_is_known_after_a_start(small: NodeBench) -> None:
    """S4: below the synced position nothing is dropped. Red when recovery keeps rotten shards only."""
    append(small, record(batch(1)))
    append(small, record(batch(2)))
    rot(small, batch(1))
    small.lose_index()
    assert list(small.store._damaged._entries) == [pack_name(batch(1)) + b"L"]
    assert small.store.log_status(b"", 5).entries == 2


@pytest.mark.parametrize("seed", range(8))
def test_random_work_with_crashes_against_a_dictionary(memory_path: Path, seed: int) -> None:
    """Appends, trims, blocks, compaction, checkpoints, crashes within any call to the disk, lost indexes.

    Red when a start does not look at the mark, and when moved entries are listed as blocks.
    """
    chance = random.Random(seed)
    bench = NodeBench(memory_path, segment_bytes=1 << 16)
    model: dict[LogEntryName, bytes] = {}
    newest = 0
    for step in range(250):
        bench.disk.calls_left = chance.randrange(40) if chance.random() < 0.1 else None
        before, wanted = dict(model), dict(model)
        try:
            what = chance.random()
            if what < 0.55:
                entries = [
                    record(batch(newest + n), 100 + step * 37 % 5000) for n in range(chance.randrange(1, 4))
                ]
                newest += len(entries) - chance.randrange(2)
                newest = max(newest, 0)
                entries = [e for e in entries if not model or pack_name(e[0]) >= pack_name(min(model))]
                if entries:
                    wanted.update(entries)
                    assert append(bench, *entries) == Status.OK
            elif what < 0.65 and model:
                keep = chance.choice(sorted(model))
                wanted = {name: payload for name, payload in model.items() if name >= keep}
                trim_all(bench, keep)
            elif what < 0.8:
                bench.put(chance.randrange(50), payload_of(step, 3000))
                bench.delete(chance.randrange(50))
            else:
                bench.now += 30
                bench.compact(2)
        except PowerOff:
            how = chance.randrange(3)
            if how == 0:
                bench.kill()
            else:
                bench.power_cut(step)
            if how == 2:
                bench.lose_index()
            found = held(bench)
            assert found.keys() <= before.keys() | wanted.keys()
            assert found.keys() >= before.keys() & wanted.keys()
            model = {name: payload for name, payload in found.items() if payload is not None}
        else:
            model = wanted
        bench.disk.calls_left = None
        assert held(bench) == model
        bench.check_usage()
    bench.lose_index()
    assert held(bench) == model
    bench.store.abandon()


def test_the_dump_names_them(tmp_path: Path, bench: NodeBench) -> None:
    append(bench, record(batch(7)), record(snapshot(7, 2)))
    trim_all(bench, batch(7))
    path, _ = find_record(bench, batch(7))
    copy = tmp_path / "copy.seg"
    copy.write_bytes(bench.disk.files[path].live)
    text = "\n".join(dump(copy))
    assert "batch term 1 batch 7 chunk 0 payload 300" in text
    assert "snapshot term 1 batch 7 chunk 2" in text
    assert "trimmed up to here" in text
