"""The simulation itself: it replays, it passes, and it finds bugs that were planted.

Each test runs the command as a user would: `python -m tests.sim.run`, which fixes the hash seed.
"""

import subprocess
import sys

import pytest

from tests.sim.plants import PLANTS

_SCHEDULES = 40


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


def test_p1_p2_p3_p4_p6_p7_hold_in_short_schedules() -> None:
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
        ("forget-incarnation", "P1: "),
    ],
)
def test_a_planted_bug_is_found_within_a_minute(plant: str, promise: str) -> None:
    """Red when the invariants do not see what the bug does."""
    status, output = _simulate("--seed", "1", "--seconds", "60", "--plant", plant, "--lines", "0")
    assert status == 1, output
    assert f"failed: {promise}" in output or promise in output, output


def test_all_plants_are_tried() -> None:
    """Red when a plant is added without a test."""
    tried = {"ack-before-sync", "drop-first", "trust-memory", "forget-incarnation"}
    assert set(PLANTS) == tried
