"""S3, S4, S7: what a start makes of the segments and the index it finds."""

import errno
import random
from pathlib import Path

import lmdb
import msgspec
import pytest

from cluster.node.identity import NodeRefused
from cluster.node.index import Index, IndexDamaged, IndexState
from cluster.node.scan import Gap, Record, scan
from cluster.node.segment import (
    SegmentWriter,
    pack_table_entry,
    position,
    read_table,
    segment_numbers,
    unpack_entries,
)
from cluster.wire import Status
from codec.block import (
    BlockCorrupt,
    BlockHeader,
    RecordType,
    pack_header,
    pack_key,
    page_checksums,
    parse_header,
    tail_pad,
)
from tests.cluster.node.memory_disk import MemoryDisk, Trap
from tests.cluster.node.node_bench import CLUSTER, NodeBench, key_of, payload_of, put_write


def record(number: int, sequence: int, payload: bytes | None, *, aux: int = 0) -> bytes:
    """A shard, or a tombstone when there is no payload."""
    data = payload or b""
    kind = RecordType.TOMBSTONE if payload is None else RecordType.SHARD
    header = BlockHeader(
        *(kind, key_of(number), 2, 1, 1, 2 * len(data), len(data), sequence, CLUSTER, aux),
        page_checksums(data),
    )
    return pack_header(header) + data + tail_pad(len(data))


def add_segment(bench: NodeBench, number: int, records: list[bytes], *, seal: bool) -> None:
    """A segment as compaction may leave it: records in an order of its own. The store must be down."""
    segment = SegmentWriter.create(
        bench.disk,
        bench.directory / "segments",
        number,
        bench.identity,
        sequence=0,
        synced_position=position(number - 1, 0xFFFFFFFF),
    )
    for one in records:
        header = parse_header(one)
        segment.note(
            pack_table_entry(
                *(pack_key(header.key), header.type, segment.end, header.payload_length, header.sequence)
            )
        )
        segment.append([one], len(one))
    segment.sync()
    if seal:
        segment.seal(100)
    segment.close()


def contents(bench: NodeBench, path: Path) -> list[Record | Gap]:
    fd = bench.disk.open(path)
    try:
        return list(scan(bench.disk, fd, bench.disk.size(path), CLUSTER))
    finally:
        bench.disk.close(fd)


# -- S3: the highest sequence wins ---------------------------------------------------------------------


@pytest.mark.parametrize("seal", [False, True])
def test_s3_a_tombstone_carried_behind_a_newer_copy_does_not_delete_it(bench: NodeBench, seal: bool) -> None:
    """Compaction wrote the old tombstone behind the repaired copy, then the index is rebuilt.

    Broken once: let the last record of a key win; the live block was gone.
    """
    bench.store.close()
    add_segment(bench, 1, [record(1, 50, payload_of(1)), record(2, 51, payload_of(2))], seal=seal)
    add_segment(bench, 2, [record(1, 40, None), record(2, 52, None)], seal=seal)
    bench.open()
    bench.lose_index()
    assert bench.read(1) == payload_of(1)
    assert bench.read(2) is None
    assert bench.held() == {pack_key(key_of(1)): 50}


@pytest.mark.parametrize("seal", [False, True])
def test_s3_an_old_copy_carried_behind_its_tombstone_stays_deleted(bench: NodeBench, seal: bool) -> None:
    """Broken once: kept no tombstones in the index; the deleted copy came back."""
    bench.store.close()
    add_segment(bench, 1, [record(1, 60, None)], seal=seal)
    add_segment(bench, 2, [record(1, 30, payload_of(1))], seal=seal)
    bench.open()
    assert bench.read(1) is None
    bench.lose_index()
    assert bench.read(1) is None
    assert bench.store.status().blocks == 0


def test_s3_sequences_grow_over_restarts(bench: NodeBench) -> None:
    seen = [bench.append(0, sync=True).sequence]
    for number, end in enumerate((bench.kill, bench.restart, bench.power_cut, bench.lose_index), start=1):
        end()
        seen.append(bench.append(number, sync=True).sequence)
    assert seen == sorted(set(seen))


# -- S4: recovery --------------------------------------------------------------------------------------


def test_s4_each_batch_knows_what_was_synced_before_it(bench: NodeBench) -> None:
    for number in range(3):
        bench.put(number)
    bench.append(3)
    bench.append(4)
    found = [r for r in contents(bench, bench.segments()[0]) if isinstance(r, Record)]
    assert found[0].header.type == RecordType.SEGMENT
    batches = [r for r in found if r.header.type == RecordType.BATCH]
    assert [r.header.aux for r in batches[:4]] == [position(1, r.offset) for r in batches[:4]]
    assert batches[4].header.aux == position(1, batches[3].offset)  # nothing was synced since


@pytest.mark.parametrize("seed", range(30))
def test_s4_a_torn_tail_never_takes_what_was_acknowledged(bench: NodeBench, seed: int) -> None:
    chance = random.Random(seed)
    acknowledged = []
    for number in range(12):
        if chance.random() < 0.5:
            bench.append(number, payload_of(number, 700))
        else:
            assert bench.put(number, payload_of(number, 700)) == Status.OK
            acknowledged = list(range(number + 1))  # the sync covers all before
    bench.power_cut(seed)
    assert all(bench.read(n) == payload_of(n, 700) for n in acknowledged)
    assert set(bench.damage()) <= {"torn"}
    before = bench.held()
    bench.lose_index()
    assert bench.held() == before


@pytest.mark.parametrize("cut", range(0, 500, 7))
def test_s4_a_file_that_ends_anywhere_behind_the_synced_position(bench: NodeBench, cut: int) -> None:
    answer = bench.append(1, sync=True)
    bench.append(2)
    bench.append(3)
    path = bench.segments()[0]
    bench.store.abandon()
    synced = answer.position & 0xFFFFFFFF
    file = bench.disk.files[path]
    del file.live[synced + cut :]
    file.durable = bytearray(file.live)
    file.pending.clear()
    bench.disk.kill()
    bench.open()
    assert bench.read(1) == payload_of(1)
    assert bench.read(2) in (None, payload_of(2))
    assert "record" not in bench.damage()
    assert bench.put(4) == Status.OK
    bench.lose_index()
    assert (bench.read(1), bench.read(4)) == (payload_of(1), payload_of(4))


def test_s4_damage_below_the_synced_position_is_reported_and_passed(bench: NodeBench) -> None:
    """Broken once: took all bad records for a torn tail, nobody heard of the damage; another time stopped
    the scan at the first bad record, the blocks behind it were lost."""
    for number in range(4):
        bench.put(number)
    bench.rot(1, at=10)  # the header: no length to go by
    bench.rot(2, at=90)  # the payload
    bench.store.abandon()
    for path in (bench.directory / "index").iterdir():
        path.unlink()
    bench.disk.kill()
    bench.open()
    assert bench.damage() == {"record": 2}
    assert (bench.read(0), bench.read(3)) == (payload_of(0), payload_of(3))
    assert bench.read(1) is None
    with pytest.raises(BlockCorrupt):
        bench.read(2)  # known, so that the front finds it rotten and repairs it
    assert bench.put(2) == Status.OK
    assert bench.read(2) == payload_of(2)


def test_s5_a_start_lists_the_rot_that_it_keeps(bench: NodeBench) -> None:
    """Repair hears of it at once. Red when it is left to the scrub; red when what was covered since is listed."""
    for number in range(4):
        bench.append(number, sync=True)
    for number in (1, 2):
        bench.rot(number)
    second = bench.append(2, sync=True, repair=True)
    bench.kill()
    entries = bench.store.damaged(b"", 9).entries
    assert [(key, kind) for key, _, kind in entries] == [(pack_key(key_of(1)), "rotten")]
    assert entries[0][1] == bench.held()[pack_key(key_of(1))]
    assert bench.held()[pack_key(key_of(2))] == second.sequence
    assert bench.append(1, repair=True, sync=True)
    assert bench.store.status().damaged_blocks == 0


def test_s4_nothing_is_truncated(bench: NodeBench) -> None:
    bench.put(1)
    bench.append(2)
    path = bench.segments()[0]
    file = bench.disk.files[path]
    before = bytes(file.live) + b"TRVR torn rubbish"
    file.live += b"TRVR torn rubbish"
    file.pending.append((len(before) - 17, b"TRVR torn rubbish"))
    bench.kill()
    assert bytes(bench.disk.files[path].live[: len(before)]) == before
    assert bench.read(2) == payload_of(2)


def test_s4_recovery_seals_and_the_next_append_begins_a_segment(bench: NodeBench) -> None:
    bench.put(1)
    bench.kill()
    first = bench.segments()[0]
    fd = bench.disk.open(first)
    table = read_table(bench.disk, fd, bench.disk.size(first), CLUSTER)
    assert table is not None
    assert [entry.key for entry in unpack_entries(table[0])] == [pack_key(key_of(1))]
    size = bench.disk.size(first)
    bench.put(2)
    assert bench.disk.size(first) == size
    assert segment_numbers(bench.directory / "segments", bench.disk) == [1, 2]
    header = contents(bench, bench.segments()[1])[0]
    assert isinstance(header, Record)
    assert header.header.aux == position(1, size)


@pytest.mark.parametrize("seed", range(10))
def test_s4_the_directory_entry_is_durable_before_the_first_answer(bench: NodeBench, seed: int) -> None:
    """Broken once: left out fsync_dir; the power cut took the whole segment."""
    assert bench.put(1) == Status.OK
    bench.power_cut(seed)
    assert bench.read(1) == payload_of(1)


def test_s4_sectors_that_can_not_be_read_do_not_end_the_scan(bench: NodeBench) -> None:
    for number in range(8):
        bench.put(number, payload_of(number, 4000))
    path, offset = bench.place(3)
    bench.disk.unreadable.append((path.name, offset + 100, offset + 200))
    bench.lose_index()
    assert bench.damage() == {"record": 1}
    assert all(bench.read(n) == payload_of(n, 4000) for n in (0, 1, 5, 6, 7))


def test_s4_a_stored_object_is_not_searched_for_records(bench: NodeBench) -> None:
    """An object that holds the image of a record, whose own block rots: the image is not adopted.

    Broken once: looked for the next magic right behind every bad record.
    """
    image = record(1, 1 << 60, b"x" * 100)
    payload = b"-" * 8 + image * 3 + b"tail"
    bench.put(7, payload)
    bench.put(8)
    bench.rot(7, at=81)  # one of the dashes
    bench.lose_index()
    assert bench.read(1) is None
    assert bench.damage() == {"record": 1}
    assert bench.read(8) == payload_of(8)


def test_s4_the_length_in_a_torn_record_is_not_believed(bench: NodeBench) -> None:
    """Recovery appended the key table behind a torn record, within the bytes that it claims; then the table
    rots, and the segment is scanned.

    Broken once: always went on at the end that the bad record's header names; the scan missed what lay
    there, and the torn record passed for a damaged one.
    """
    bench.put(1)
    bench.append(2, payload_of(2, 900))
    path, offset = bench.place(2)
    bench.store.abandon()
    file = bench.disk.files[path]
    del file.live[offset + 300 :]
    file.durable = bytearray(file.live)
    file.pending.clear()
    bench.disk.kill()
    bench.open()
    assert bench.damage() == {"torn": 1}
    bench.put(3)
    for content in (file.live, file.durable):
        content[-10] ^= 1  # the closing record of the table
    bench.lose_index()
    assert [bench.read(n) for n in (1, 2, 3)] == [payload_of(1), None, payload_of(3)]
    assert bench.damage() == {"torn": 1, "record": 1}


def test_s4_a_record_of_another_cluster_is_not_taken(bench: NodeBench) -> None:
    bench.put(1)
    path = bench.segments()[0]
    foreign = record(2, 1 << 40, payload_of(2)).replace(CLUSTER, b"x" * 16)
    bench.disk.files[path].live += foreign
    bench.disk.files[path].durable = bytearray(bench.disk.files[path].live)
    bench.kill()
    assert bench.read(2) is None
    assert bench.damage() == {"torn": 1}


def test_a_disk_that_refuses_the_sync_of_a_start_is_not_trusted(bench: NodeBench) -> None:
    bench.append(1)
    bench.store.abandon()
    bench.disk.kill()
    bench.disk.traps += [Trap("fdatasync", errno.EIO, ".seg"), Trap("fdatasync", errno.EIO, ".seg")]
    with pytest.raises(NodeRefused):
        bench.open()
    bench.open()


def test_no_room_for_the_key_table(bench: NodeBench) -> None:
    bench.put(1)
    bench.store.abandon()
    bench.disk.kill()
    bench.disk.traps.append(Trap("pwritev", errno.ENOSPC, ".seg", short=20))
    bench.open()
    assert bench.read(1) == payload_of(1)
    bench.put(2)
    bench.lose_index()
    assert (bench.read(1), bench.read(2)) == (payload_of(1), payload_of(2))


# -- S7: index ------------------------------------------------------------------------------------------


def test_s7_a_start_replays_from_the_stored_position(bench: NodeBench) -> None:
    """Broken once: stored the position before the entries; what lay between was lost."""
    for number in range(5):
        bench.put(number)
    bench.checkpoint()
    for number in range(5, 9):
        bench.put(number)
    bench.delete(3)
    bench.kill()
    assert sorted(bench.held()) == [pack_key(key_of(n)) for n in (0, 1, 2, 4, 5, 6, 7, 8)]
    assert bench.store.status().blocks == 8
    assert bench.store.status().live_bytes == 800


def test_s7_only_synced_entries_reach_the_index_file(bench: NodeBench) -> None:
    """Broken once: checkpoint without a sync; after the power cut the index named a record that is gone."""
    bench.put(1)
    for number in range(2, 6):
        bench.append(number)
    bench.checkpoint()
    bench.power_cut(4)
    for number in range(1, 6):
        assert bench.read(number) == payload_of(number)


@pytest.mark.parametrize("crash", [False, True])
def test_s7_a_lost_index_is_rebuilt_from_tables(tmp_path: Path, crash: bool) -> None:
    """Sealed segments are not scanned: their payload is never read."""
    bench = NodeBench(tmp_path, segment_bytes=1 << 16)
    for number in range(60):
        bench.put(number, payload_of(number, 5000))
    for number in range(0, 60, 7):
        bench.delete(number)
    before = bench.held()
    status = bench.store.status()
    sealed = bench.segments()[:-1]
    assert len(sealed) >= 4
    if not crash:
        bench.store.close()
        bench.open()
    for path in sealed:
        bench.disk.unreadable.append((path.name, 200, 40_000))
    bench.lose_index()
    assert bench.held() == before
    assert bench.damage() == {}
    after = bench.store.status()
    assert (after.blocks, after.live_bytes) == (status.blocks, status.live_bytes)
    bench.store.abandon()


def test_s7_a_damaged_table_is_replaced_by_a_scan(tmp_path: Path) -> None:
    bench = NodeBench(tmp_path, segment_bytes=1 << 16)
    for number in range(30):
        bench.put(number, payload_of(number, 5000))
    before = bench.held()
    for path in bench.segments()[:-1]:
        file = bench.disk.files[path]
        for content in (file.live, file.durable):
            content[-100] ^= 1  # in the last part of the table
    bench.lose_index()
    assert bench.held() == before
    bench.store.abandon()


def test_s7_a_key_table_of_many_parts(bench: NodeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.node.segment.TABLE_ENTRIES", 7)
    bench.commit(*(put_write(key_of(n), payload_of(n, 10)) for n in range(50)))
    before = bench.held()
    bench.restart()
    kinds = [r.header.type for r in contents(bench, bench.segments()[0]) if isinstance(r, Record)]
    assert kinds.count(RecordType.TABLE) == 9
    bench.lose_index()
    assert bench.held() == before
    assert bench.damage() == {}


def test_s7_an_index_of_another_node_is_not_used(bench: NodeBench, tmp_path: Path) -> None:
    bench.put(1)
    bench.store.close()
    with lmdb.open(str(tmp_path / "index"), max_dbs=2) as env:
        meta = env.open_db(b"meta")
        with env.begin(meta, write=True) as txn:
            txn.put(b"state", msgspec.msgpack.encode(IndexState(1, b"x" * 16, 1 << 40, 5, 9, 9)))
    bench.open()
    assert bench.read(1) == payload_of(1)
    assert bench.store.status().blocks == 1


def test_s7_an_index_of_format_1_is_made_anew(tmp_path: Path) -> None:
    """Nodes of the first version wrote no rows of segments.

    Red when such an index is used as it is: all segments would pass for dropped ones and be removed.
    """
    bench = NodeBench(tmp_path, segment_bytes=1 << 16)
    for number in range(30):
        bench.put(number, payload_of(number, 5000))
    bench.delete(3)
    bench.kill()
    bench.put(30)
    write_index_of_format_1(bench)
    bench.put(31)
    before = bench.held()
    bench.store.abandon()
    bench.disk.kill()
    bench.open()
    assert bench.held() == before
    assert len(before) == 31
    assert (bench.read(3), bench.read(4)) == (None, payload_of(4, 5000))
    assert bench.damage() == {}
    bench.check_usage()
    for number in range(4, 28):
        bench.delete(number)
    bench.compact()
    assert bench.store.status().segment_bytes < 60_000
    bench.restart()
    assert bench.held() == {key: sequence for key, sequence in before.items() if key in bench.held()}
    assert len(bench.held()) == 31 - 24
    bench.store.abandon()


def write_index_of_format_1(bench: NodeBench) -> None:
    """Replace the index of a running store, as the first version would have stored it now."""
    entries = bench.entries()
    values = {key: raw[:20] for key, raw in entries.items()}
    status = bench.store.status()
    state = [1, bench.identity.node_id, bench.store._log.synced, bench.store._log.next_sequence]
    folder = bench.directory / "index"
    for path in folder.iterdir():
        path.unlink()
    with lmdb.open(str(folder), max_dbs=2, map_size=1 << 24) as env:
        blocks, meta = env.open_db(b"blocks"), env.open_db(b"meta")
        with env.begin(write=True) as txn:
            for key, value in values.items():
                txn.put(key, value, db=blocks)
            txn.put(b"state", msgspec.msgpack.encode([*state, status.blocks, status.live_bytes]), db=meta)


def test_s7_a_damaged_index_file_is_made_anew(bench: NodeBench, tmp_path: Path) -> None:
    bench.put(1)
    bench.store.close()
    (tmp_path / "index" / "data.mdb").write_bytes(b"rubbish" * 4096)
    bench.open()
    assert bench.read(1) == payload_of(1)


def test_a_start_on_a_full_disk_goes_on_without_the_index_file(
    bench: NodeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads must work; what the file lacks is stored when there is room again.

    Red when a later write of the same start passes the one that failed: a crash then loses entries.
    """
    for number in range(4):
        bench.put(number)
        if number == 1:
            bench.kill()
    bench.store.abandon()
    bench.disk.kill()
    write, failures = Index.write, [lmdb.DiskError("mdb_txn_commit: No space left on device")]

    def fail_once(index: Index, *args: object) -> None:
        if failures:
            raise failures.pop()
        write(index, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Index, "write", fail_once)
    for path in (bench.directory / "index").iterdir():
        path.unlink()
    bench.open()
    assert all(bench.read(n) == payload_of(n) for n in range(4))
    assert bench.store.status().blocks == 4
    bench.check_usage()
    bench.kill()  # before anything was stored
    assert all(bench.read(n) == payload_of(n) for n in range(4))
    bench.delete(0)
    bench.checkpoint()
    bench.kill()
    assert bench.held().keys() == {pack_key(key_of(n)) for n in (1, 2, 3)}
    bench.check_usage()


@pytest.mark.parametrize("pages", [3, 10, 30])
def test_s7_an_index_file_that_lost_its_end_is_made_anew(
    bench: NodeBench, tmp_path: Path, pages: int
) -> None:
    """Red when it is used: the process dies of SIGBUS, at each start."""
    for number in range(0, 3000, 500):
        bench.commit(*(put_write(key_of(n), b"x") for n in range(number, number + 500)))
        bench.checkpoint()
    bench.store.abandon()
    with (tmp_path / "index" / "data.mdb").open("r+b") as file:
        file.truncate(pages * 4096)
    bench.disk.kill()
    bench.open()
    assert bench.store.status().blocks == 3000
    assert bench.read(2999) == b"x"


def test_s7_an_index_found_damaged_while_it_is_brought_up_to_date_is_made_anew(
    bench: NodeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.put(1)
    bench.restart()
    bench.put(2)
    bench.store.abandon()
    bench.disk.kill()
    get, damaged = Index.get, [IndexDamaged("planted")]

    def fail_once(index: Index, key: bytes) -> bytes | None:
        if damaged:
            raise damaged.pop()
        return get(index, key)

    monkeypatch.setattr(Index, "get", fail_once)
    bench.open()
    assert (bench.read(1), bench.read(2)) == (payload_of(1), payload_of(2))
    assert bench.store.status().blocks == 2
    bench.check_usage()


def test_a_segment_that_is_gone_is_reported(bench: NodeBench) -> None:
    bench.put(1)
    bench.store.close()
    del bench.disk.files[bench.segments()[0]]
    bench.open()
    assert bench.damage() == {"missing": 1}
    assert bench.put(2) == Status.OK
    assert bench.segments()[0].name == "00000002.seg"


def test_scan_of_arbitrary_bytes_covers_the_file(bench: NodeBench) -> None:
    chance = random.Random(5)
    disk = MemoryDisk()
    for case in range(40):
        parts = [
            record(n, n, chance.randbytes(chance.randrange(1, 300)))
            if chance.random() < 0.6
            else chance.choice([b"TRVR" * 8, chance.randbytes(64), bytes(24)])
            for n in range(12)
        ]
        data = b"".join(parts)
        path = Path(f"/case-{case}")
        fd = disk.open(path, create=True)
        disk.pwritev(fd, [data], 0)
        at = 0
        whole = 0
        for found in scan(disk, fd, len(data), CLUSTER):
            assert found.offset == at
            at += found.length if isinstance(found, Gap) else found.header.record_bytes
            whole += isinstance(found, Record) and found.whole
        assert at == len(data)
        assert whole == sum(part[4:6] == b"\x01\x01" for part in parts)
