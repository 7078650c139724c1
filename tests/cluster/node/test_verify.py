"""How a node answers whether a block lies whole on its disk."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from cluster.node.damage import DamageList
from cluster.node.index_entry import Entry, pack_entry, unpack_entry
from cluster.node.records import BlockUnreadable, Records
from cluster.node.verify import MISSING, BlockState, Checker
from cluster.wire import Status
from codec.block import PAGE_BYTES, pack_key, record_bytes
from tests.cluster.node.memory_disk import Trap
from tests.cluster.node.node_bench import NodeBench, key_of, payload_of


def check(bench: NodeBench, number: int, *, deep: bool = True) -> BlockState:
    return bench.store.checker.check(pack_key(key_of(number)), deep=deep)


def listed(bench: NodeBench) -> list[tuple[bytes, str]]:
    return [(key, kind) for key, _, kind in bench.store.damaged(b"", 100).entries]


@pytest.mark.parametrize("deep", [False, True])
def test_whole_missing_and_deleted_blocks(bench: NodeBench, deep: bool) -> None:
    first = bench.append(1, payload_of(1, 3 * PAGE_BYTES + 7), sync=True)
    bench.put(2)
    bench.delete(2)
    whole = check(bench, 1, deep=deep)
    assert whole == BlockState(Status.OK, first.sequence, 3 * PAGE_BYTES + 7)
    assert check(bench, 2, deep=deep) == MISSING
    assert check(bench, 3, deep=deep) == MISSING
    bench.checkpoint()
    assert check(bench, 1, deep=deep) == whole
    bench.restart()
    assert check(bench, 1, deep=deep) == whole
    assert bench.damage() == {}


@pytest.mark.parametrize(
    "at", [0, 6, 10, 20, 40, 57, 62, 73, 77, 83, 90, 88 + PAGE_BYTES, 88 + PAGE_BYTES + 99]
)
def test_s2_a_flipped_bit_anywhere_is_found(bench: NodeBench, at: int) -> None:
    """Red when only the first page is checked, or the header only."""
    bench.put(1, payload_of(1, PAGE_BYTES + 100))
    bench.rot(1, at)
    assert check(bench, 1, deep=False).state == Status.OK
    assert check(bench, 1).state == Status.CORRUPT
    assert check(bench, 1, deep=False).state == Status.CORRUPT  # it is known now
    assert listed(bench) == [(pack_key(key_of(1)), "rotten")]
    assert check(bench, 1).state == Status.CORRUPT
    assert bench.damage() == {"rotten": 1}
    assert bench.store.status().damaged_blocks == 1


def test_s2_a_deep_check_does_not_trust_the_page_cache(bench: NodeBench) -> None:
    """The disk holds other bytes than the cache shows. Red when the record is read as for a reply."""
    bench.put(1)
    path, offset = bench.place(1)
    bench.disk.files[path].durable[offset + 90] ^= 1
    assert bench.read(1) == payload_of(1)
    assert check(bench, 1).state == Status.CORRUPT


def test_s2_what_no_sync_covered_is_checked_as_it_is(bench: NodeBench) -> None:
    bench.append(1)
    assert check(bench, 1).state == Status.OK


def test_an_unreadable_sector_and_a_short_or_lost_file(bench: NodeBench) -> None:
    for number in (1, 2):
        bench.put(number)
    path, offset = bench.place(1)
    bench.disk.unreadable.append((path.name, offset + 80, offset + 81))
    assert check(bench, 1).state == Status.CORRUPT
    assert check(bench, 2).state == Status.OK
    bench.disk.unreadable.clear()
    assert check(bench, 1).state == Status.OK  # it passed: nothing to repair
    assert listed(bench) == []
    for content in (bench.disk.files[path].live, bench.disk.files[path].durable):
        del content[bench.place(2)[1] + 100 :]
    assert check(bench, 2).state == Status.CORRUPT
    # A handle that is still open must not make a lost file look well.
    assert bench.read(1) == payload_of(1)
    bench.disk.unlink(path)
    assert check(bench, 1).state == Status.CORRUPT
    assert {kind for _, kind in listed(bench)} == {"rotten", "unreadable"}


def test_s6_another_copy_where_one_was_expected_is_corrupt(bench: NodeBench) -> None:
    """A misdirected index entry. Red when the sequence is not compared."""
    bench.put(1, payload_of(1, 100))
    bench.put(2, payload_of(1, 100))
    find = bench.store._index.get
    raws = {number: find(pack_key(key_of(number))) for number in (1, 2)}
    assert raws[1] is not None
    assert raws[2] is not None
    other_block = unpack_entry(raws[2])
    other_copy = unpack_entry(raws[1])._replace(sequence=999)
    for wrong in (other_block, other_copy):
        checker = Checker(lambda _, w=wrong: pack_entry(*w), bench.store._records, DamageList())  # type: ignore[misc]
        assert checker.check(pack_key(key_of(1)), deep=True).state == Status.CORRUPT


class Shelf(Records):
    """Records that fail their check, except those in `good`; `on_check` happens meanwhile."""

    def __init__(self, good: set[Entry], on_check: Callable[[], None], damaged: DamageList) -> None:
        self.good = good
        self.on_check = on_check
        self._damaged = damaged
        self.reports: list[str] = []
        self._report = lambda kind, *_: self.reports.append(kind)

    def check(self, key: bytes, entry: Entry) -> None:
        self.on_check()
        if entry not in self.good:
            raise BlockUnreadable("gone")


@pytest.mark.parametrize("fate", ["moved", "covered", "deleted"])
def test_a_block_that_goes_elsewhere_meanwhile_is_not_bad(fate: str) -> None:
    """Red when a failed check is believed without a second look at the index."""
    key = pack_key(key_of(1))
    before = Entry(1, 0, 100, 5)
    after = {"moved": Entry(9, 0, 100, 5), "covered": Entry(9, 0, 100, 6), "deleted": None}[fate]
    index = {key: pack_entry(*before)}

    def change() -> None:
        if after is None:
            index.pop(key, None)
        else:
            index[key] = pack_entry(*after)

    damaged = DamageList()
    shelf = Shelf({after} if after else set(), change, damaged)
    state = Checker(index.get, shelf, damaged).check(key, deep=True)
    assert state == (MISSING if after is None else BlockState(Status.OK, after.sequence, 100))
    assert len(damaged) == 0
    assert shelf.reports == []


def test_a_block_covered_while_it_is_listed_does_not_stay_listed() -> None:
    """The writer covers it between the second look and the entry in the list."""
    key = pack_key(key_of(1))
    answers = [Entry(1, 0, 100, 5), Entry(1, 0, 100, 5), Entry(9, 0, 100, 6), Entry(9, 0, 100, 6)]
    damaged = DamageList()
    shelf = Shelf({Entry(9, 0, 100, 6)}, lambda: None, damaged)
    state = Checker(lambda _: pack_entry(*answers.pop(0)), shelf, damaged).check(key, deep=True)
    assert state == BlockState(Status.OK, 6, 100)
    assert len(damaged) == 0


def test_reads_list_what_they_can_not_read(bench: NodeBench) -> None:
    bench.put(1)
    bench.disk.traps.append(Trap("preadv", errno.EIO, ".seg"))
    with pytest.raises(BlockUnreadable):
        bench.store.read(pack_key(key_of(1)), 0, 0, 0, False)
    assert listed(bench) == [(pack_key(key_of(1)), "unreadable")]
    assert bench.damage() == {"unreadable": 1}


def test_s5_a_covered_or_deleted_block_is_settled(bench: NodeBench) -> None:
    """Red when the store does not settle what it covers."""
    for number in (1, 2):
        bench.put(number)
        bench.rot(number)
        assert check(bench, number).state == Status.CORRUPT
    assert bench.put(1) == Status.OK
    assert listed(bench) == [(pack_key(key_of(2)), "rotten")]
    assert check(bench, 1).state == Status.OK
    assert bench.delete(2) == Status.OK
    assert listed(bench) == []


def test_a_state_knows_what_was_read_for_it() -> None:
    assert MISSING.record_bytes == 0
    assert BlockState(Status.CORRUPT, 1, 100).record_bytes == record_bytes(100)
