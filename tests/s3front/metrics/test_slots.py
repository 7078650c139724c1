"""The slots of several fronts: each has a file of its own, every front reads all, and a kill loses no count."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from s3front.metrics.layout import PID_SLOT, Layout
from s3front.metrics.slots import Slots, read_all
from tests.s3front.metrics.recording import LAYOUT, Recorded

_COUNTS_AND_WAITS = """
import asyncio, sys
from pathlib import Path
from tests.s3front.metrics.recording import Recorded

async def main():
    recorded = Recorded(Path(sys.argv[1]), "front-2")
    for _ in range(7):
        recorded.count("PutObject", got=11)
    recorded.recorder.begin()
    print("counted", flush=True)
    sys.stdin.read()

asyncio.run(main())
"""


def _other_front(directory: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _COUNTS_AND_WAITS, str(directory)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "counted\n"
    return process


async def test_what_a_killed_front_had_counted_stays_and_its_gauges_do_not(tmp_path: Path) -> None:
    """Red when the slots are private to the process, or copied to the file now and then; and when a front that is
    started again begins with an empty file, or with its predecessor's requests in flight.
    """
    own = Recorded(tmp_path, "front-1")
    with _other_front(tmp_path) as other:
        while_running = {reading.front: reading for reading in own.recorder.read_all()}
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert while_running["front-2"].alive
    assert LAYOUT.gauges(while_running["front-2"].slots)["requests_in_flight"] == 1
    killed = {reading.front: reading for reading in own.recorder.read_all()}["front-2"]
    assert not killed.alive
    assert LAYOUT.figures(killed.slots, "PutObject").count == 7
    again = Recorded(tmp_path, "front-2")
    again.count("PutObject", got=11)
    figures = LAYOUT.figures(again.slots.read(), "PutObject")
    assert (figures.count, figures.bytes_in) == (8, 88)
    assert LAYOUT.gauges(again.slots.read())["requests_in_flight"] == 0
    again.slots.close()
    own.slots.close()


def test_two_processes_of_one_name_do_not_count_in_one_file(tmp_path: Path) -> None:
    """Red without the lock: additions of two processes in one place lose counts."""
    first, second = Slots(LAYOUT, tmp_path, "front"), Slots(LAYOUT, tmp_path, "front")
    first.view[100] += 1
    second.view[100] += 2
    assert sorted(reading.slots[100] for reading in read_all(first, "front")) == [1, 2]
    assert sorted(os.listdir(tmp_path)) == ["front.2.slots", "front.slots"]
    first.close()
    second.close()


def test_another_release_gets_a_new_file_and_its_reader_keeps_the_old_one(tmp_path: Path) -> None:
    """Red when the file is cut to its new size: a process that has it mapped would be killed by SIGBUS."""
    before = Slots(Layout(("GetObject", "Old")), tmp_path, "front-1")
    at = before.layout.operation_at["Old"]
    before.view[at] = 5
    # What a process that has the file mapped, but no longer its lock, sees while another takes its place.
    fcntl.flock(before._file, fcntl.LOCK_UN)
    after = Slots(LAYOUT, tmp_path, "front-1")
    assert before.view[at] == 5
    assert LAYOUT.figures(after.read(), "GetObject").count == 0
    assert [reading.front for reading in read_all(after, "front-1")] == ["front-1"]
    assert os.listdir(tmp_path) == ["front-1.slots"]
    before.close()
    after.close()


@pytest.mark.parametrize("rubbish", [b"", b"short", b"\0" * LAYOUT.slots * 8])
def test_a_file_that_is_none_of_ours_is_left_out(tmp_path: Path, rubbish: bytes) -> None:
    """Red when a reader trusts what it finds: an empty file can't be mapped, zeros would be a front without a pid."""
    own = Slots(LAYOUT, tmp_path, "front-1")
    (tmp_path / "front-9.slots").write_bytes(rubbish)
    assert [reading.front for reading in read_all(own, "front-1")] == ["front-1"]
    own.close()


def test_a_full_disk_costs_the_figures_of_others_and_not_the_front(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Red when the blocks are not allocated beforehand: the first count on a full disk would be a SIGBUS; and when
    the OSError reaches the front.
    """

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    slots = Slots(LAYOUT, tmp_path, "front-1")
    slots.view[100] += 1
    (reading,) = read_all(slots, "front-1")
    assert (reading.front, reading.alive, reading.slots[100]) == ("front-1", True, 1)
    assert reading.slots[PID_SLOT] == os.getpid()
    assert "memory only" in caplog.text
    slots.close()
