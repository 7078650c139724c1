"""``python -m conformance.suite``: runs our own suite of S3 behaviour and prints a table by area.

Without ``--endpoint`` a store is started in a temporary directory. Against another endpoint the suite makes buckets
whose names begin with ``conformance-`` and removes them again.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import pytest

from conformance.bench.target import TargetFailed, running_store
from conformance.outcomes import Kind, Outcome, details, of_each_test, table
from conformance.reasons import reason_of

FOLDER = Path(__file__).parent
AREAS = tuple(sorted(path.stem.removeprefix("test_") for path in FOLDER.glob("test_*.py")))
OWN_DAY_S = 1


class Outcomes:
    """A pytest plugin: what each test came to. The area is the file's name."""

    def __init__(self) -> None:
        self._told: list[Outcome] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.passed:
            return
        file, _, name = report.nodeid.partition("::")
        area = Path(file).stem.removeprefix("test_")
        kind: Kind = report.outcome
        self._told.append(Outcome(name, area, kind, reason_of(report), report.duration))

    def all(self) -> list[Outcome]:
        return of_each_test(self._told)


def run(
    url: str, access_key: str, secret_key: str, *, areas: list[str], region: str, day_s: int | None, k: str
) -> int:
    """Prints the failures and the table; the exit code of pytest."""
    outcomes = Outcomes()
    words = [str(FOLDER / f"test_{area}.py") for area in areas or AREAS]
    words += f"--rootdir={FOLDER} -c {os.devnull} -q --no-header --tb=short -rN --show-capture=no".split(" ")
    # Coroutine tests, timeouts and several workers are other suites' affair.
    words += "-p no:cacheprovider -p no:asyncio -p no:xdist -p no:timeout --import-mode=importlib".split(" ")
    words += [f"--endpoint={url}", f"--access-key={access_key}", f"--secret-key={secret_key}"]
    words += [f"--region={region}", "-W", "error"]
    words += [f"--day-s={day_s}"] if day_s is not None else []
    words += ["-k", k] if k else []
    code = pytest.main(words, plugins=[outcomes])
    print()
    for kind in ("failed", "skipped"):
        for line in details(outcomes.all(), kind):
            print(line)
    print()
    for line in table(outcomes.all()):
        print(line)
    return int(code)


def main() -> None:
    options = _parser().parse_args()
    chosen = {"areas": options.area, "region": options.region, "k": options.k}
    if options.endpoint is not None:
        access_key = options.access_key or os.environ.get("AWS_ACCESS_KEY_ID", "")
        secret_key = options.secret_key or os.environ.get("AWS_SECRET_ACCESS_KEY", "")
        if not access_key or not secret_key:
            sys.exit(
                "--endpoint needs --access-key and --secret-key, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        sys.exit(run(options.endpoint, access_key, secret_key, day_s=options.day_s, **chosen))
    # The store inherits the environment: a short day, so that lifecycle rules can be watched at work.
    os.environ["TRIVET_LIFECYCLE_DAY_S"] = str(OWN_DAY_S)
    with tempfile.TemporaryDirectory(prefix="trivet-suite-") as folder:
        try:
            with running_store(Path(folder) / "data") as target:
                url = f"http://{target.host}:{target.port}"
                sys.exit(run(url, target.access_key, target.secret_key, day_s=OWN_DAY_S, **chosen))
        except TargetFailed as failure:
            log = Path(folder) / "store.log"
            sys.exit(f"{failure}\n\nlast lines of the store's log:\n{log.read_text()[-3000:]}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m conformance.suite", description=__doc__)
    parser.add_argument("--endpoint", metavar="URL", help="any S3 endpoint; default: a store of its own")
    parser.add_argument("--access-key", metavar="KEY", help="[AWS_ACCESS_KEY_ID]")
    parser.add_argument("--secret-key", metavar="KEY", help="[AWS_SECRET_ACCESS_KEY]")
    parser.add_argument("--region", default="us-east-1", help="of the endpoint")
    parser.add_argument("--area", action="append", default=[], choices=AREAS, help="may be given again")
    parser.add_argument(
        "--day-s", type=int, help="seconds of a lifecycle day there, when rules are to be watched"
    )
    parser.add_argument("-k", default="", metavar="EXPRESSION", help="only tests of these names")
    return parser
