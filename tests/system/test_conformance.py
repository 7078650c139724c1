"""Our own suite of S3 behaviour, against our own store."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from tests.system.conftest import ROOT, Store, own_environment

DAY_S = "1"
SUITE = (sys.executable, "-m", "conformance.suite")


def test_everything_of_the_suite_passes(new_store: Callable[..., Store]) -> None:
    """None fails and none is skipped: our store has what AWS has in directory buckets only, and its days are short.

    Red when one operation answers otherwise than AWS's documentation says: the output names the tests.
    """
    store = new_store(environment={"TRIVET_LIFECYCLE_DAY_S": DAY_S})
    store.start()
    keys = {"AWS_ACCESS_KEY_ID": store.access_key, "AWS_SECRET_ACCESS_KEY": store.secret_key}
    done = subprocess.run(
        [*SUITE, "--endpoint", store.endpoint, "--day-s", DAY_S],
        cwd=ROOT,
        env=own_environment(keys),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1].split()
    assert last[0] == "all"
    passed, failed, skipped = (int(cell.replace(",", "")) for cell in last[1:4])
    assert passed > 400
    assert (failed, skipped) == (0, 0), done.stdout
