"""The simulation itself: it replays, it passes, and it finds bugs that were planted.

Each test runs the command as a user would: `python -m tests.sim.run`, which fixes the hash seed.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.sim.plants import PLANTS

_SCHEDULES = 40
_MEMORY = Path("/dev/shm")


def _simulate(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.sim.run", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_seed_is_the_same_run_each_time() -> None:
    """Red when a set of tasks, a thread, a real clock or an unseeded random number takes part."""
    first, second = (_simulate("--seed", "11", "--one") for _ in range(2))
    assert "trace " in first[1]
    assert first == second


def test_p1_p2_p3_p4_p6_p7_s17_hold_in_short_schedules() -> None:
    """Red with each of the planted bugs. `--seed N --one` plays a failing schedule again."""
    status, output = _simulate("--seed", "1000", "--schedules", str(_SCHEDULES), "--seconds", "120")
    print(output)
    assert status == 0, output
    assert f"{_SCHEDULES} schedules" in output


@pytest.mark.parametrize(
    ("plant", "promise"),
    [
        ("ack-before-sync", "P1: "),
        ("drop-first", "P7: a delete"),
        ("trust-memory", "lacks stripe"),
        ("forget-incarnation", "P1: |has had no answer"),
        ("collect-early", "S21: "),
        ("answer-unshipped", "P4: |S17: |S21: "),
        ("trim-early", "S17: "),
        ("snapshot-alone", "P4: |S21: "),
    ],
)
def test_a_planted_bug_is_found_within_a_minute(plant: str, promise: str) -> None:
    """Red when the invariants do not see what the bug does."""
    status, output = _simulate("--seed", "100", "--seconds", "60", "--plant", plant, "--lines", "0")
    assert status == 1, output
    assert re.search(promise, output), output


@pytest.mark.parametrize(("number", "jobs"), [(signal.SIGTERM, 2), (signal.SIGINT, 1)])
def test_a_run_that_is_told_to_end_leaves_no_files(number: signal.Signals, jobs: int) -> None:
    """In the middle of its schedules. Red when the signal's default action, or an exception on whatever frame of
    the simulated store it meets, is all there is."""
    command = [sys.executable, "-m", "tests.sim.run", "--seed", "1", "--seconds", "60", "--jobs", str(jobs)]
    running = subprocess.Popen(command, start_new_session=True)
    try:
        workers = _until(lambda: _workers(running.pid, jobs), running)
        folders = [_MEMORY / f"trivet-sim-{pid}" for pid in workers]
        assert all(folder.is_dir() for folder in folders)
        running.send_signal(number)
        assert running.wait(20) != 0
        assert not [folder for folder in folders if folder.exists()]
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()


def _until(found: Callable[[], list[int]], running: "subprocess.Popen[bytes]") -> list[int]:
    """What is found once it is; bounded by the end of the process."""
    while running.poll() is None:
        if workers := found():
            return workers
        time.sleep(0.02)
    raise AssertionError("it ended by itself")


def _workers(pid: int, jobs: int) -> list[int]:
    """The processes that play schedules now; none as long as one of them does not."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    pids = [pid] if jobs == 1 else [int(child) for child in children]
    playing = [worker for worker in pids if list(_MEMORY.glob(f"trivet-sim-{worker}/run-*"))]
    return playing if len(playing) == jobs else []


def test_all_plants_are_tried() -> None:
    """Red when a plant is added without a test."""
    of_nodes = {"ack-before-sync", "drop-first", "trust-memory", "forget-incarnation", "collect-early"}
    of_the_log = {"answer-unshipped", "trim-early", "snapshot-alone"}
    assert set(PLANTS) == of_nodes | of_the_log
