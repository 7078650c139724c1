"""P1 for the catalog: every crash state of a recorded run opens, is whole, and has what was acknowledged."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pysqlite3.dbapi2 as driver
import pytest

from catalog import lookup
from catalog.engine import Catalog
from tests.crash import recorder
from tests.crash.catalog_program import KEYS, SETTINGS, etag_of
from tests.crash.disk import crashes, lay_out
from tests.crash.progress import allowed
from tests.crash.recorder import Event, record

SEED = 17
SAMPLES = int(os.environ.get("TRIVET_CRASH_SAMPLES", "2"))
"""Random mixtures at each point, beside all and nothing; `make crash-states` asks for more."""
STATES_MAX = int(os.environ.get("TRIVET_CRASH_STATES", "400"))
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


async def versions_in(path: Path) -> dict[int, int]:
    """Key to version, as the recovered catalog has it."""
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
        return rows
    finally:
        await catalog.close()


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


def check(state: dict[str, bytes], marks: list[bytes], folder: Path) -> None:
    """One crash state."""
    lay_out(state, folder)
    path = folder / FILE
    if not path.exists():
        assert b"made\n" not in marks, "the catalog is gone"
        return
    found = asyncio.run(versions_in(path))
    for key, possible in allowed(marks).items():
        assert found.get(key, 0) in possible, (
            f"key {key} has version {found.get(key, 0)}, not one of {possible}"
        )
    check_whole(path)


def test_p1_every_crash_state_of_the_catalog_has_what_was_acknowledged(
    events: list[Event], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Red when COMMIT does not sync (`synchronous=OFF`)."""
    random = Random(SEED)
    states = list(crashes(events, random, SAMPLES))
    chosen = states if len(states) <= STATES_MAX else random.sample(states, STATES_MAX)
    for number, (marks, state) in enumerate(chosen):
        folder = tmp_path / str(number)
        folder.mkdir()
        check(state, marks, folder)
        shutil.rmtree(folder)
    record_property("crash states of the catalog", len(chosen))
    print(
        f"catalog: {len(events)} calls recorded, {len(chosen)} of {len(states)} crash states checked, seed {SEED}"
    )
