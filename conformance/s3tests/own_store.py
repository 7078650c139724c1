"""A store for one run of ceph/s3-tests: short lifecycle days, three users, two encryption keys."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from conformance.bench.target import TRIVET, running_store
from conformance.s3tests.configuration import DAY_S, KMS_KEYS, Subject, User

REGION = "us-east-1"
"""The only one where making one's own bucket again is no error, as some of the tests expect."""


@contextlib.contextmanager
def own_store(folder: Path) -> Iterator[Subject]:
    """Its data lies in `folder`. Raises TargetFailed."""
    # The store inherits the environment. A lifecycle day of this length is what the suite waits for.
    os.environ |= {"TRIVET_LIFECYCLE_DAY_S": str(DAY_S), "TRIVET_REGION": REGION}
    with running_store(folder / "data") as target:
        subject = Subject(
            f"http://{target.host}:{target.port}",
            region=REGION,
            main=User(target.access_key, target.secret_key),
            alt=_new_user(target.data, "s3tests-alt"),
            tenant=_new_user(target.data, "s3tests-tenant"),
        )
        for key in KMS_KEYS:
            _trivet("encryption-key", "create", key, "--data", str(target.data))
        yield subject


def _new_user(data: Path, name: str) -> User:
    secret = secrets.token_urlsafe(30)
    options = ("--access-key", name, "--secret-file", "-", "--data", str(data))
    _trivet("key", "create", *options, stdin=secret)
    return User(name, secret)


def _trivet(*words: str, stdin: str = "") -> None:
    """What it says is shown only when it fails: the rest of the run then tells what that costs."""
    done = subprocess.run([*TRIVET, *words], input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().rpartition("\n")[2]
        print(f"trivet {' '.join(words[:2])} failed: {last}", file=sys.stderr)
