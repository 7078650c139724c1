"""S7: the layers of the index, their order, and the file as a second process sees it."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.node.index import Index, IndexReader
from cluster.node.index_entry import TOMBSTONE, Counts, pack_entry, unpack_entry
from codec.block import BlockKey, pack_key
from tests.cluster.node.node_bench import NodeBench, key_of

NODE = b"n" * 16


def key(number: int) -> bytes:
    return pack_key(key_of(number))


def entry(number: int, sequence: int = 1) -> bytes:
    return pack_entry(1, number * 8, 100, sequence)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    made = Index.open(tmp_path, 1 << 24, NODE)
    yield made
    made.close()


def put(index: Index, *numbers: int, sequence: int = 1) -> None:
    entries = {key(n): entry(n, sequence) for n in numbers}
    index.apply(entries, Counts(len(numbers), 100 * len(numbers)), {})


def store(index: Index, position: int = 8) -> None:
    checkpoint = index.begin_checkpoint(position, 9)
    assert checkpoint is not None
    index.store(checkpoint)


def test_an_entry_is_found_in_every_layer(index: Index) -> None:
    put(index, 1)
    assert index.get(key(1)) == entry(1)
    index.synced()
    assert index.get(key(1)) == entry(1)
    checkpoint = index.begin_checkpoint(8, 9)
    assert checkpoint is not None
    assert index.get(key(1)) == entry(1)
    put(index, 1, sequence=2)
    assert index.get(key(1)) == entry(1, 2)  # the newest wins
    index.store(checkpoint)
    assert index.get(key(1)) == entry(1, 2)
    index.withdraw()
    assert index.get(key(1)) == entry(1)
    assert index.recent_entries == 0
    assert (index.blocks, index.live_bytes) == (1, 100)


def test_s2_withdrawn_entries_uncover_what_was_before(index: Index) -> None:
    put(index, 1)
    index.synced()
    index.apply({key(1): pack_entry(1, 8, TOMBSTONE, 5), key(2): entry(2)}, Counts(), {})
    index.withdraw()
    assert index.get(key(1)) == entry(1)
    assert index.get(key(2)) is None


def test_s7_a_checkpoint_holds_only_what_is_synced(index: Index, tmp_path: Path) -> None:
    put(index, 1)
    index.synced()
    put(index, 2)
    store(index, position=16)
    assert index.stored.position == 16
    assert (index.stored.blocks, index.stored.live_bytes) == (1, 100)
    index.close()
    again = Index.open(tmp_path, 1 << 24, NODE)
    assert (again.get(key(1)), again.get(key(2))) == (entry(1), None)
    assert again.stored.sequence == 9
    again.close()


def test_a_checkpoint_that_was_not_stored_is_given_out_again(index: Index) -> None:
    put(index, 1)
    index.synced()
    first = index.begin_checkpoint(8, 9)
    put(index, 2)
    index.synced()
    assert index.begin_checkpoint(99, 99) is first
    assert first is not None
    index.store(first)
    assert index.stored.position == 8
    store(index, 24)
    assert (index.get(key(1)), index.get(key(2))) == (entry(1), entry(2))


def test_a_reader_sees_each_checkpoint(index: Index) -> None:
    """Broken once: kept the reader's transaction over a checkpoint; what had just moved was not found."""
    reader = IndexReader(index)
    assert reader.get(key(1)) is None
    for number in range(1, 5):
        put(index, number)
        index.synced()
        store(index)
        assert reader.get(key(number)) == entry(number)
    reader.release()
    assert reader.get(key(4)) == entry(4)
    reader.release()


def test_s7_entries_on_their_way_are_never_missing(index: Index) -> None:
    """Looked up without pause while they move from layer to layer and into the file."""
    missing: list[int] = []
    done = threading.Event()
    known = 0

    def look() -> None:
        reader = IndexReader(index)
        while not done.is_set():
            number = known
            if number and reader.get(key(number)) is None:
                missing.append(number)
        reader.release()

    thread = threading.Thread(target=look)
    thread.start()
    for number in range(1, 120):
        put(index, number)
        known = number
        index.synced()
        store(index)
    done.set()
    thread.join()
    assert missing == []


def test_s7_a_second_process_reads_the_file(bench: NodeBench) -> None:
    for number in range(3):
        bench.put(number)
    bench.checkpoint()
    code = (
        "import lmdb, sys, struct\n"
        "env = lmdb.open(sys.argv[1], readonly=True, max_dbs=2)\n"
        "with env.begin(env.open_db(b'blocks', create=False)) as txn:\n"
        "    print(*struct.unpack('<IIIQ', txn.get(bytes.fromhex(sys.argv[2]))))\n"
    )
    arguments = [sys.executable, "-c", code, str(bench.directory / "index"), key(1).hex()]
    shown = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.split()
    path, offset = bench.place(1)
    assert (int(shown[0]), int(shown[1]), int(shown[2])) == (int(path.stem, 16), offset, 100)
    bench.put(4)
    bench.checkpoint()  # the outside reader is gone and holds nothing up


@given(
    st.sets(st.integers(0, 40)),
    st.dictionaries(st.integers(0, 40), st.booleans()),
    st.dictionaries(st.integers(0, 40), st.booleans()),
    st.integers(0, 41),
    st.integers(1, 12),
)
def test_pages_match_a_model(
    stored: set[int], recent: dict[int, bool], unsynced: dict[int, bool], after: int, limit: int
) -> None:
    model = dict.fromkeys(stored, 1)
    index = Index(_environment(), NODE)
    index.write({key(n): entry(n) for n in stored}, index.stored, {})
    for sequence, layer in ((2, recent), (3, unsynced)):
        changes = {
            key(n): pack_entry(1, n * 8, 100 if alive else TOMBSTONE, sequence) for n, alive in layer.items()
        }
        index.apply(changes, Counts(), {})
        if sequence == 2:
            index.synced()
        for number, alive in layer.items():
            model.pop(number, None)
            if alive:
                model[number] = sequence
    expected = sorted(n for n in model if n > after)
    page, more = index.page(key(after), limit)
    assert [(k, e.sequence) for k, e in page] == [(key(n), model[n]) for n in expected[:limit]]
    assert more == (len(expected) > limit)
    everything, _ = index.page(b"", 100)
    assert [k for k, _ in everything] == [key(n) for n in sorted(model)]


_ENVIRONMENTS: list[lmdb.Environment] = []


@pytest.fixture(scope="module", autouse=True)
def _shared_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    _ENVIRONMENTS.append(
        lmdb.open(str(tmp_path_factory.mktemp("index")), map_size=1 << 24, max_dbs=4, sync=False)
    )
    yield
    _ENVIRONMENTS.pop().close()


def _environment() -> lmdb.Environment:
    """One file for all examples, emptied: creating one a time would take most of the test."""
    env = _ENVIRONMENTS[0]
    blocks = env.open_db(b"blocks")
    with env.begin(write=True) as txn:
        txn.drop(blocks, delete=False)
    return env


def test_entries_round_trip() -> None:
    assert unpack_entry(pack_entry(1, 2, 3, 4)) == (1, 2, 3, 4)
    assert len(pack_entry(1, 2, 3, 4)) == 20
    assert len(pack_key(BlockKey(b"b" * 16, 1, 2))) == 21
