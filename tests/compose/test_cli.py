"""The commands for people, on a catalog without a running store."""

from __future__ import annotations

import asyncio
import json
import re
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console, Group

from catalog import buckets, nodes, objects, work
from catalog.engine import Catalog
from catalog.model import Attributes, FaultReport, NewBlob
from catalog.transaction import Transaction
from cluster.reports.redundancy import RepairReport
from cluster.steward import progress
from cluster.steward.progress import RepairProgress, ScrubProgress
from compose.cli.main import is_process
from compose.cli.repair_text import drawn, lines
from compose.data_dir import DataDir
from tests.catalog.fresh import fresh_catalog
from tests.compose.in_process import trivet

ROOT = Path(__file__).resolve().parents[2]


def _found(data: Path) -> None:
    fresh_catalog(DataDir(data).catalog, cluster_id=bytes(16))
    _write(data, _register_three)


def _register_three(tx: Transaction) -> None:
    for n, region in ((1, "us-east-1"), (2, "us-west-1"), (3, "eu-west-1")):
        nodes.register(
            tx,
            node_id=bytes([n]) * 16,
            name=f"node-{n}",
            region=region,
            zone=f"{region}a",
            host="",
            port=0,
            directory=f"node-{n}",
            state=nodes.UP,
        )


def _write(data: Path, function: object) -> None:
    async def write() -> None:
        catalog = Catalog.open(DataDir(data).catalog)
        await catalog.start()
        await catalog.write(function)  # type: ignore[arg-type]
        await catalog.close()

    asyncio.run(write())


def test_which_words_name_a_process() -> None:
    assert is_process(["node", "--dir", "x"])
    assert is_process(["front", "--help"])
    for words in (["node"], ["node", "list"], ["node", "--help"], ["up"], []):
        assert not is_process(words)


def test_a_directory_without_a_store_is_refused(tmp_path: Path) -> None:
    code, out, err = trivet(tmp_path, "node", "list")
    assert (code, out) == (1, "")
    assert "--data DIR or TRIVET_DATA" in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_nodes_are_listed_added_and_removed_while_the_store_is_stopped(tmp_path: Path) -> None:
    _found(tmp_path)
    code, out, _ = trivet(tmp_path, "node", "list")
    assert code == 0
    assert all(f"node-{n}" in out for n in (1, 2, 3))
    assert "does not run" in out
    code, out, err = trivet(tmp_path, "node", "add", str(tmp_path / "disk4"), "--json")
    added = json.loads(out)
    assert (code, err, added["name"], added["state"]) == (0, "", "node-4", "joining")
    assert "next start" in added["notes"][0]
    listed = json.loads(trivet(tmp_path, "node", "list", "--json")[1])
    assert [(node["name"], node["state"]) for node in listed][2:] == [("node-3", "up"), ("node-4", "joining")]
    assert listed[3]["directory"] == str(tmp_path / "disk4")
    code, out, err = trivet(tmp_path, "node", "drain", "node-1")
    assert (code, out) == (1, "")
    assert err.startswith("trivet: node-1 can't be drained")
    assert trivet(tmp_path, "node", "remove", "node-4")[0] == 0
    code, out, _ = trivet(tmp_path, "events")
    assert [line.split()[1:3] for line in out.splitlines()] == [
        ["node-added", "node-4#4"],
        ["node-removed", "node-4#4"],
    ]
    assert trivet(tmp_path, "node", "explode")[0] == 2


def test_repair_status_in_words_and_in_json(tmp_path: Path) -> None:
    _found(tmp_path)
    code, out, _ = trivet(tmp_path, "repair", "status", "--watch")
    assert code == 0
    assert "every object has its full redundancy" in out

    def busy(tx: Transaction) -> None:
        progress.write(tx, RepairProgress(True, 1, 10, 40, 1 << 30, 4 << 30, 100 << 20, 2, 1))
        nodes.set_state(tx, 2, nodes.DOWN)

    _write(tmp_path, busy)
    code, out, _ = trivet(tmp_path, "repair", "status")
    assert code == 0
    for part in (
        "1.0 GiB of 4.0 GiB (10 of 40 blobs)",
        "100.0 MiB/s",
        "30s left",
        "node-2 down",
    ):
        assert part in out
    report = json.loads(trivet(tmp_path, "repair", "status", "--json")[1])
    assert (report["whole"], report["repair"]["unreadable"], report["nodes"]["node-2"]) == (False, 1, "down")


@pytest.mark.parametrize(("done", "filled"), [(0, 0), (1 << 30, 30), (2 << 30, 60)])
def test_a_terminal_shows_a_bar(done: int, filled: int) -> None:
    repair = RepairProgress(active=True, done_bytes=done, total_bytes=2 << 30, bytes_per_s=0)
    report = RepairReport(repair, 3, 2 << 30, 0, 0, 0, False, {"node-1": "up"})
    console = Console(file=StringIO(), width=80, force_terminal=True, color_system="truecolor")
    with console.capture() as shown:
        console.print(Group(*drawn(report, lines(report))))
    (last,) = (line for line in shown.get().splitlines() if set(line) & set("━╸╺"))
    first_stretch = re.split("\x1b\\[0m", last)[0]
    assert last.count("━") + last.count("╸") + last.count("╺") == 60
    assert first_stretch.count("━") in ({filled} if filled else {60})
    assert "left" not in shown.get(), "without a rate nobody knows"


def test_a_scrub_is_asked_for(tmp_path: Path) -> None:
    _found(tmp_path)
    code, out, _ = trivet(tmp_path, "scrub", "now", "--json")
    assert code == 0

    async def request() -> progress.ScrubRequest | None:
        catalog = Catalog.open(DataDir(tmp_path).catalog)
        await catalog.start()
        try:
            return await catalog.read(lambda reader: progress.read(reader, progress.ScrubRequest))
        finally:
            await catalog.close()

    asked = asyncio.run(request())
    assert asked is not None
    assert asked.number == json.loads(out)["request"] > 0


def test_a_scrub_tells_how_it_went(tmp_path: Path) -> None:
    _found(tmp_path)
    assert trivet(tmp_path, "scrub", "status")[1] == "the catalog and the nodes were not compared yet\n"
    trivet(tmp_path, "scrub", "now")
    going = ScrubProgress(active=True, started_ms=1000, blobs=1234, missing=5, extra=6)
    _write(tmp_path, lambda tx: progress.write(tx, going))
    said = trivet(tmp_path, "scrub", "status")[1]
    assert said.startswith("comparing since 1970-01-01T00:00:01.000Z: 1,234 blobs compared, 5 blocks missing")
    assert said.endswith("another comparison is asked for, and not begun\n")
    done = ScrubProgress(started_ms=1000, finished_ms=2000, passes=1, blobs=1234)
    _write(tmp_path, lambda tx: progress.write(tx, done))
    facts = json.loads(trivet(tmp_path, "scrub", "status", "--json")[1])
    assert (facts["finished_at"], facts["asked_for"]) == ("1970-01-01T00:00:02.000Z", True)
    assert "last compared at 1970-01-01T00:00:02" in trivet(tmp_path, "scrub", "status")[1]


def test_p2_what_cannot_be_rebuilt_is_said_and_not_waited_for(tmp_path: Path) -> None:
    """Red when `--watch` waits for a blob that the steward gave up, or its mark is not counted."""
    _found(tmp_path)

    async def give_up() -> None:
        catalog = Catalog.open(DataDir(tmp_path).catalog)
        await catalog.start()
        epoch = (await catalog.meta()).upload_epoch
        blob = NewBlob(epoch.to_bytes(4, "big") + bytes(12), 10, 2, 1, 1 << 20, (1, 2, 3), 1)
        faults = [FaultReport(0, 0, 0, "unreadable"), FaultReport(0, 1, 2, "corrupt")]

        def write(tx: Transaction) -> None:
            bucket = buckets.create(tx, name="bucket", owner="owner", region="us-east-1").id
            plain = Attributes()
            objects.put(
                tx, bucket_id=bucket, key=b"k", blob=blob, etag="0" * 32, content_type="", attributes=plain
            )
            work.report_faults(tx, blob.id, faults)
            work.postpone_repair(tx, blob.id, tx.now_ms + 3_600_000)

        await catalog.write(write, blob=blob)
        await catalog.close()

    asyncio.run(give_up())
    code, out, _ = trivet(tmp_path, "repair", "status", "--watch")
    assert code == 1
    assert "1 blob can't be rebuilt" in out
    assert json.loads(trivet(tmp_path, "repair", "status", "--json")[1])["unreadable_blobs"] == 1


def test_s18_backup_and_restore(tmp_path: Path) -> None:
    """Orphans stay until an operator allows their collection."""
    store, other = tmp_path / "store", tmp_path / "other"
    store.mkdir()
    _found(store)
    backup = tmp_path / "catalog.backup"
    assert trivet(store, "catalog", "backup", str(backup))[0] == 0
    _write(store, lambda tx: work.record_event(tx, "later"))
    code, _, err = trivet(store, "catalog", "restore", str(backup))
    assert code == 1
    assert "catalog" in err
    code, out, err = trivet(other, "catalog", "restore", str(backup))
    assert (code, err) == (0, "")
    assert "trivet orphans allow" in out
    assert not _orphans_allowed(other)
    assert [node["name"] for node in json.loads(trivet(other, "node", "list", "--json")[1])] == [
        "node-1",
        "node-2",
        "node-3",
    ]
    assert trivet(other, "orphans", "allow")[0] == 0
    assert _orphans_allowed(other)


def _orphans_allowed(data: Path) -> bool:
    async def read() -> bool:
        catalog = Catalog.open(DataDir(data).catalog)
        await catalog.start()
        try:
            return (await catalog.meta()).orphans_allowed
        finally:
            await catalog.close()

    return asyncio.run(read())


@pytest.mark.parametrize(
    "words", [("catalog", "backup", "/nowhere/at/all"), ("catalog", "restore", "/nowhere")]
)
def test_files_that_cannot_be_used_are_named(tmp_path: Path, words: tuple[str, ...]) -> None:
    if words[1] == "backup":
        _found(tmp_path)
    code, out, err = trivet(tmp_path, *words)
    assert (code, out) == (1, "")
    assert "/nowhere" in err
    assert "Traceback" not in err
