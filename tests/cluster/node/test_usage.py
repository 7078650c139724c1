"""The accounts of the segments: their rows, and what a failed sync takes back."""

from __future__ import annotations

from pathlib import Path

from cluster.node.index import Index
from cluster.node.index_entry import (
    GONE,
    TOMBSTONE,
    Counts,
    covered,
    is_needed,
    older_of,
    pack_entry,
    unpack_entry,
)
from cluster.node.usage import (
    Shares,
    Usage,
    Use,
    count_block,
    count_tombstone,
    pack_row,
    pack_segment,
    unpack_row,
    unpack_segment,
)
from codec.block import record_bytes


def shares(*blocks: tuple[int, int]) -> Shares:
    made: Shares = {}
    for segment, length in blocks:
        count_block(made, segment, length)
    return made


def test_a_row_has_these_bytes() -> None:
    use = Use(blocks=3, nbytes=0x0102, tombstones=5, sealed=True)
    row = bytes.fromhex("0300000002010000000000000500000001")
    assert pack_row(use) == row
    assert unpack_row(row) == use
    assert unpack_row(row[:-1] + b"\2") == Use(3, 0x0102, 5, sealed=False, unread=True)
    assert pack_segment(0x0A0B) == b"\0\0\x0a\x0b"
    assert unpack_segment(pack_segment(77)) == 77


def test_s2_a_failed_sync_takes_changes_back() -> None:
    """Red when it does not: the accounts drift, and a segment with live blocks looks empty."""
    usage = Usage({})
    usage.begin(1)
    usage.begin(2)
    usage.apply(shares((1, 100), (1, 100)))
    usage.synced()
    moved: Shares = {}
    count_block(moved, 1, 100, -1)
    count_block(moved, 2, 100)
    count_tombstone(moved, 2)
    usage.apply(moved)
    assert usage.of(1) == Use(1, record_bytes(100))
    assert usage.of(2) == Use(1, record_bytes(100), 1)
    rows = usage.take_rows()
    assert unpack_row(rows[1]) == Use(2, 2 * record_bytes(100))  # as of the last sync
    assert unpack_row(rows[2]) == Use()
    usage.withdraw()
    assert usage.of(1) == Use(2, 2 * record_bytes(100))
    assert usage.of(2) == Use()
    assert usage.take_rows().keys() == {1, 2}
    assert usage.take_rows() == {}


def test_a_dropped_segment_counts_as_there_until_its_file_is_gone() -> None:
    usage = Usage({})
    usage.begin(1)
    usage.begin(2)
    usage.drop(1)
    assert (usage.numbers(), usage.is_there(1), usage.of(1)) == ([2], True, None)
    usage.gone([1])
    assert not usage.is_there(1)


def test_an_entry_names_the_segments_of_what_it_covers() -> None:
    def is_there(segment: int) -> bool:
        return segment in (2, 3, 4)

    first = pack_entry(2, 8, 100, 1)
    assert older_of(first) == ()
    second = pack_entry(3, 8, 100, 2) + covered(first, is_there)
    assert older_of(second) == (2,)
    third = pack_entry(4, 8, TOMBSTONE, 3) + covered(second, is_there)
    assert older_of(third) == (2, 3)
    assert unpack_entry(third) == (4, 8, TOMBSTONE, 3)
    assert len(third) == 28
    assert is_needed(third, is_there)
    assert not is_needed(third, lambda segment: segment == 4)  # its own comes and goes with it
    assert covered(GONE, is_there) == b""


def test_the_file_keeps_rows_and_loses_what_is_gone(tmp_path: Path) -> None:
    index = Index.open(tmp_path, 1 << 24, b"n" * 16)
    index.usage.begin(1)
    index.usage.begin(2)
    tombstone = pack_entry(2, 8, TOMBSTONE, 5)
    made: Shares = {}
    count_tombstone(made, 2)
    index.apply({b"k" * 21: tombstone}, Counts(), made)
    index.synced()
    _store(index)
    index.usage.drop(1)
    index.forget([(b"k" * 21, tombstone)])
    assert index.get(b"k" * 21) == GONE
    _store(index)
    assert index.get(b"k" * 21) is None
    index.usage.gone([1])
    index.close()
    again = Index.open(tmp_path, 1 << 24, b"n" * 16)
    assert (again.usage.numbers(), again.usage.of(2)) == ([2], Use())
    again.close()


def _store(index: Index) -> None:
    checkpoint = index.begin_checkpoint(8, 9)
    assert checkpoint is not None
    index.store(checkpoint)
