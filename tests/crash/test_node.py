"""P1, S1-S5, S7 for the node: every crash state of a recorded run recovers to what was acknowledged."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from cluster.node.files import RealFiles
from cluster.node.identity import INDEX_DIR, SEGMENT_DIR, NodeRefused
from cluster.node.store import BlockMissing, Store
from codec.block import pack_key, verify
from tests.cluster.node.node_bench import key_of
from tests.crash import recorder
from tests.crash.disk import crashes, lay_out
from tests.crash.node_program import config_of, payload
from tests.crash.progress import allowed
from tests.crash.recorder import Event, record

SEED = 23
SAMPLES = int(os.environ.get("TRIVET_CRASH_SAMPLES", "2"))
"""Random mixtures at each point, beside all and nothing; `make crash-states` asks for more."""
STATES_MAX = int(os.environ.get("TRIVET_CRASH_STATES", "600"))


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    if not recorder.available():
        pytest.skip("strace can't trace here")
    folder = tmp_path_factory.mktemp("recorded")
    directory = folder / "node"
    directory.mkdir()
    marks = folder / "marks"
    return record(
        ["-m", "tests.crash.node_program", str(directory), str(marks), str(SEED)], directory, marks, folder
    )


def held(store: Store, key: int) -> bytes | None:
    try:
        found, _ = store.read(pack_key(key_of(key)), 0, 0, 0, False)
    except BlockMissing:
        return None
    return bytes(verify(found, key_of(key)).payload)


def check(directory: Path, marks: list[bytes]) -> None:
    """Recover, and compare every block byte for byte with what it may be."""
    store = Store.open(config_of(directory), RealFiles())
    try:
        for key, versions in allowed(marks).items():
            possible = [payload(key, version) if version else None for version in versions]
            assert held(store, key) in possible, f"key {key} is none of the versions {versions}"
    finally:
        store.abandon()


def crash(state: dict[str, bytes], marks: list[bytes], directory: Path, *, lose_index: bool) -> None:
    """One crash state, recovered twice: what the first recovery wrote must not be what the second loses."""
    directory.mkdir()
    (directory / SEGMENT_DIR).mkdir()
    lay_out(state, directory)
    if lose_index:
        shutil.rmtree(directory / INDEX_DIR, ignore_errors=True)
    try:
        check(directory, marks)
        check(directory, marks)
    except NodeRefused:
        assert b"made\n" not in marks, "a node that was in use is refused"


def test_p1_every_crash_state_of_a_node_recovers_to_what_was_acknowledged(
    events: list[Event], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """One state in three has lost its index as well and is rebuilt from the segments.

    Red when a segment's fdatasync, or the sync of its directory, is left out; when a compacted segment is removed
    before the index is stored without it; when it is dropped before what was moved out of it is synced. Without
    LMDB's syncs the index file is broken beyond what LMDB survives.
    """
    removed = [event.path for event in events if event.kind == "unlink" and event.path.endswith(".seg")]
    assert len(removed) > 3, "the compaction removed hardly a segment"
    random = Random(SEED)
    states = list(crashes(events, random, SAMPLES))
    chosen = states if len(states) <= STATES_MAX else random.sample(states, STATES_MAX)
    for number, (marks, state) in enumerate(chosen):
        directory = tmp_path / str(number)
        crash(state, marks, directory, lose_index=number % 3 == 0)
        shutil.rmtree(directory)
    record_property("crash states of the node", len(chosen))
    print(
        f"node: {len(events)} calls recorded, {len(chosen)} of {len(states)} crash states checked, seed {SEED}"
    )
