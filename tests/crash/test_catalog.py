"""P1 and S17 for the catalog: every crash state of a recorded run opens, is whole, and has what was acknowledged; so
has what its nodes give back, and what was left in its outbox reaches them."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pysqlite3.dbapi2 as driver
import pytest

from catalog import lookup, work
from catalog.batch_records import header_of
from catalog.engine import Catalog
from catalog.log_records import BATCH
from catalog.replay import restore_from_log
from tests.catalog.contents import contents, same
from tests.catalog.nodes_log import Name, Nodes
from tests.crash import recorder
from tests.crash.catalog_program import KEYS, NODES, SETTINGS, etag_of
from tests.crash.disk import crashes, lay_out
from tests.crash.progress import allowed
from tests.crash.recorder import Event, record

SEED = 17
SAMPLES = int(os.environ.get("TRIVET_CRASH_SAMPLES", "2"))
"""Random mixtures at each point, beside all and nothing; `make crash-states` asks for more."""
STATES_MAX = int(os.environ.get("TRIVET_CRASH_STATES", "400"))
LOG_EVERY = int(os.environ.get("TRIVET_CRASH_LOG_EVERY", "16"))
"""The log is looked at in one of so many states: that takes several times as long as the rest."""
FILE = "catalog.sqlite"


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    if not recorder.available():
        pytest.skip("strace can't trace here")
    folder = tmp_path_factory.mktemp("recorded")
    directory = folder / "catalog"
    directory.mkdir()
    marks = folder / "marks"
    return record(
        ["-m", "tests.crash.catalog_program", str(directory), str(marks), str(SEED)], directory, marks, folder
    )


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """Where states are recovered: what is synced there need not survive anything."""
    shared = Path("/dev/shm")
    with TemporaryDirectory(dir=shared if shared.is_dir() else tmp_path) as folder:
        yield Path(folder)


async def versions_in(path: Path, nodes: Nodes | None = None) -> dict[int, int]:
    """Key to version, as the recovered catalog has it. With `nodes` it goes on, until they have its log."""
    catalog = Catalog.open(path, SETTINGS)
    await catalog.start()
    try:
        rows = {}
        for key in range(KEYS):
            bucket, row = await lookup.find(catalog, "bucket", b"key-%d" % key)
            if bucket is not None and row is not None:
                version = int(row.etag.split("-")[1])
                assert row.etag == etag_of(key, version)
                assert row.blob.size == 10
                rows[key] = version
        if nodes is not None:
            catalog.replicate_to(nodes)
            await catalog.write(partial(work.record_event, kind="after the crash", detail=""))
        return rows
    finally:
        await catalog.close()


def nodes_of(marks: list[bytes]) -> Nodes:
    """What the nodes had when the crash came."""
    nodes = Nodes()
    del nodes.all[NODES:]
    for mark in marks:
        word, *numbers = mark.split()
        if word == b"stored":
            node, term, batch = map(int, numbers[:3])
            record = bytes.fromhex(numbers[3].decode())
            nodes.all[node].add(header_of(record).catalog_id, Name(BATCH, term, batch, 0), record)
    return nodes


def check_log(path: Path, marks: list[bytes], folder: Path, random: Random) -> None:
    """One node is enough here, for each has everything that was answered: it gives it back when the catalog is lost
    with the crash; and when it is lost later, all that it had then."""
    before, after = nodes_of(marks), nodes_of(marks)
    node = random.choice(before.all)
    if node.entries:
        restore_from_log([node], folder / "from a node")
        as_acknowledged(asyncio.run(versions_in(folder / "from a node")), marks)
    asyncio.run(versions_in(path, after))
    restore_from_log([random.choice(after.all)], folder / "from a node later")
    same(contents(path), contents(folder / "from a node later"))


def check_whole(path: Path) -> None:
    """SQLite's own judgement; the references: each object's blob is there, each unused one is garbage; and the books
    of each bucket (red when they were written by a transaction of their own after the batch)."""
    connection = driver.connect(str(path))
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        wrong = connection.execute(
            "SELECT count(*) FROM blobs b WHERE refs != (SELECT count(*) FROM objects o WHERE o.blob_id = b.id)"
            " OR (refs = 0 AND NOT EXISTS (SELECT 1 FROM garbage g WHERE g.blob_id = b.id))"
        ).fetchone()
        assert wrong == (0,), "references and objects do not agree"
        books = connection.execute("SELECT bucket_id, objects, versions, bytes FROM bucket_usage").fetchall()
        counted = connection.execute(
            "SELECT b.id, count(o.key), count(o.key), COALESCE(sum(o.size), 0) FROM buckets b "
            "LEFT JOIN objects o ON o.bucket_id = b.id GROUP BY b.id"
        ).fetchall()
        assert books == counted, "the books of the buckets are wrong"
    finally:
        connection.close()


def as_acknowledged(found: dict[int, int], marks: list[bytes]) -> None:
    """The versions found are those that were acknowledged last, or under way after that."""
    for key, possible in allowed(marks).items():
        assert found.get(key, 0) in possible, (
            f"key {key} has version {found.get(key, 0)}, not one of {possible}"
        )


def check(state: dict[str, bytes], marks: list[bytes], folder: Path, random: Random | None = None) -> None:
    """One crash state; with `random` its log too."""
    lay_out(state, folder)
    path = folder / FILE
    if not path.exists():
        assert b"made\n" not in marks, "the catalog is gone"
        return
    as_acknowledged(asyncio.run(versions_in(path)), marks)
    check_whole(path)
    if random is not None:
        check_log(path, marks, folder, random)


def test_p1_every_crash_state_of_the_catalog_has_what_was_acknowledged(
    events: list[Event], memory: Path, record_property: Callable[[str, object], None]
) -> None:
    """Red when COMMIT does not sync (`synchronous=OFF`)."""
    random = Random(SEED)
    states = list(crashes(events, random, SAMPLES))
    chosen = states if len(states) <= STATES_MAX else random.sample(states, STATES_MAX)
    for number, (marks, state) in enumerate(chosen):
        folder = memory / str(number)
        folder.mkdir()
        check(state, marks, folder, random if number % LOG_EVERY == 0 else None)
        shutil.rmtree(folder)
    record_property("crash states of the catalog", len(chosen))
    print(
        f"catalog: {len(events)} calls recorded, {len(chosen)} of {len(states)} crash states checked, seed {SEED}"
    )
