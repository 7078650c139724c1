"""What each long-running process of ours does around its work."""

from __future__ import annotations

import subprocess
import sys

_WORK = """
import resource
from compose.process import run_until_stopped

async def work(on_ready):
    print(*resource.getrlimit(resource.RLIMIT_NOFILE))

run_until_stopped(work, supervisor_fd=None, stop_wait_s=1.0)
"""


def test_a_process_takes_all_the_open_files_that_it_may_have() -> None:
    """Red when the soft limit stays, which is 1,024 in most shells: a front refuses its thousandth connection."""
    limits = "ulimit -S -n 300; ulimit -H -n 5000"
    done = subprocess.run(
        ["sh", "-c", f'{limits}; exec "$@"', "sh", sys.executable, "-c", _WORK],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout.split() == ["5000", "5000"]
