"""``trivet bench`` on real stores: the five phases with a node that is killed and its disk gone, and every profile."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conformance.bench import session
from conformance.bench.generator import carry_out
from conformance.bench.profiles import PROFILES
from conformance.bench.runner import Asked, run_profile
from tests.system.conftest import ROOT, TRIVET, Store, own_environment, until

OBJECTS = 150
DEGRADED_P95_MS_MAX = 250.0
"""Reads while a node is gone must not wait for a time-out each; a busy machine may delay some of them."""


def test_p2_five_phases_lose_a_node_and_no_operation(tmp_path: Path) -> None:
    """The short form of the benchmark: what was stored before and while a node was gone is read back whole in every
    phase, the store becomes whole again, and nothing of it stays behind.

    Red with a store that reads no parity; with a benchmark that leaves the disk, does not wait for the recovery, or
    forgets to remove its store."""
    files = {kind: tmp_path / f"out.{kind}" for kind in ("json", "csv", "html")}
    began = time.monotonic()
    finished = subprocess.run(
        [
            *(*TRIVET, "bench", "--objects", str(OBJECTS), "--concurrency", "2", "--data", str(tmp_path)),
            *(word for kind, path in files.items() for word in (f"--{kind}", str(path))),
        ],
        cwd=ROOT,
        env=own_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    took_s = time.monotonic() - began
    assert finished.returncode == 0, finished.stdout + finished.stderr
    told = json.loads(files["json"].read_text())
    late = OBJECTS // 5
    assert [(phase["name"], sum(each["count"] for each in phase["figures"])) for phase in told["phases"]] == [
        ("upload", OBJECTS),
        ("download and verify", OBJECTS),
        ("kill a node", 0),
        ("read while degraded", OBJECTS),
        ("write while degraded", late),
        ("recover", 0),
        ("verify again", OBJECTS + late),
    ]
    assert (told["failed"], told["success_rate"]) == (0, 1.0)
    degraded = told["phases"][3]["figures"][0]
    assert degraded["p95_ms"] < DEGRADED_P95_MS_MAX
    recovery = told["recovery"]
    assert recovery["node"] == "node-2"
    assert 0 < recovery["since_asked_s"] < recovery["since_killed_s"] < took_s
    assert recovery["blobs"] >= OBJECTS
    recover = next(phase for phase in told["phases"] if phase["name"] == "recover")
    assert recovery["since_asked_s"] < recover["seconds"] < recovery["since_asked_s"] + 5
    with files["csv"].open() as table:
        rows = list(csv.DictReader(table))
    counts = [OBJECTS, OBJECTS, "", OBJECTS, late, "", OBJECTS + late]
    assert [row["count"] for row in rows] == [str(count) for count in counts]
    assert "100.00%" in files["html"].read_text()
    assert [path.name for path in tmp_path.iterdir() if path not in files.values()] == []


SMALL = {"large": ("2", "1MiB-3MiB")}


@pytest.mark.parametrize("profile", PROFILES)
def test_each_profile_runs_against_an_endpoint_and_leaves_nothing(
    store: Store, profile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them, in short; what this store does not do yet is told as not supported. Red when an answer that is
    wrong counts as right: each profile's own checks are seen red in tests/bench."""
    monkeypatch.setattr(session, "run_plan", carry_out)  # saves the start of a process for each phase
    objects, sizes = SMALL.get(profile, ("24", None))
    asked = Asked(
        profile,
        url=store.endpoint,
        access_key=store.access_key,
        secret_key=store.secret_key,
        bucket=f"bench-{profile}",
        objects=int(objects),
        sizes=sizes,
        seconds=0.2 if profile == "mixed" else 0.0,
        clients=3,
    )
    run, broken = run_profile(asked)
    assert (broken, run.failed) == ("", 0), run.phases
    assert run.notes == []
    assert run.not_supported or run.count > 24
    buckets = store.client().list_buckets()["Buckets"]
    assert f"bench-{profile}" not in [bucket["Name"] for bucket in buckets]


def test_a_benchmark_that_is_killed_takes_its_store_with_it(tmp_path: Path) -> None:
    """SIGKILL of the benchmark in the middle of a phase: the store of its own must not stay behind. Red without the
    death signal."""
    process = subprocess.Popen(
        [
            *(*TRIVET, "bench", "--profile", "mixed", "--objects", "5", "--seconds", "600"),
            *("--data", str(tmp_path)),
        ],
        cwd=ROOT,
        env=own_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process.stderr:
        try:
            assert any(line.startswith("upload") for line in process.stderr), "the first phase has ended"
            (pid_file,) = tmp_path.glob("*/data/run/supervisor.pid")
            supervisor = int(pid_file.read_text())
        finally:
            process.kill()
            process.wait()
    until(lambda: not _is_supervisor(supervisor), "the store has ended")


def _is_supervisor(pid: int) -> bool:
    try:
        return b"compose.cli.main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.long
def test_make_bench_measures_the_budgets(tmp_path: Path) -> None:
    """The table of `make bench` at its shortest: rates, shares of the floor, what the metrics cost."""
    kept = tmp_path / "figures.json"
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "conformance.bench.run", "--seconds", "0.2", "--sizes", "4 KiB"),
            *("--no-extras", "--folder", str(tmp_path), "--json", str(kept)),
        ],
        cwd=ROOT,
        env=own_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    told = json.loads(kept.read_text())
    rows = {(row["name"], row["clients"]): row for row in told["rows"]}
    assert rows["GET", 16]["per_second"] > rows["PUT", 16]["per_second"] > 100
    assert 0 < rows["GET", 16]["floor_share"] < 1
    assert 0 < told["metrics_us"] < 0.03 * rows["GET", 16]["cpu_us"]["front-1"]
    assert "Cost of the metrics" in finished.stdout
