"""What each long-running process of ours does around its work."""

from __future__ import annotations

import subprocess
import sys

_WORK = """
import resource
{before}
from compose.process import run_until_stopped

async def work(on_ready):
    print(*resource.getrlimit(resource.RLIMIT_NOFILE))

run_until_stopped(work, supervisor_fd=None, stop_wait_s=1.0)
"""


def test_a_process_takes_all_the_open_files_that_it_may_have() -> None:
    """Red when the soft limit stays, which is 1,024 in most shells: a front refuses its thousandth connection."""
    limits = "ulimit -S -n 300; ulimit -H -n 5000"
    done = subprocess.run(
        ["sh", "-c", f'{limits}; exec "$@"', "sh", sys.executable, "-c", _WORK.format(before="")],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout.split() == ["5000", "5000"]


def test_where_more_can_not_be_had_it_works_with_what_it_has() -> None:
    """Red when the refusal ends the process."""
    refused = "def refuse(*_): raise ValueError('not allowed')\nresource.setrlimit = refuse"
    done = subprocess.run(
        ["sh", "-c", 'ulimit -S -n 300; exec "$@"', "sh", sys.executable, "-c", _WORK.format(before=refused)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout.split()[0] == "300"
    assert "no more than 300 open files: not allowed" in done.stderr
