"""``make conformance S3TESTS=path``: runs the portable tests of ceph/s3-tests and prints a table by area.

Without ``--endpoint`` a store is started in a temporary directory. The suite's files stay as they are; its
configuration is written beside that store.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from conformance.bench.target import TargetFailed
from conformance.outcomes import Outcome, details, of_each_test, table
from conformance.s3tests.configuration import Subject, User, write_configuration
from conformance.s3tests.environment import NoEnvironment, environment_for
from conformance.s3tests.own_store import own_store
from conformance.s3tests.selection import FILES, FOLDER, Group

REPOSITORY = Path(__file__).resolve().parents[2]
TEST_S_MAX = 240
"""The longest tests wait for several lifecycle days and for locks that end within a minute."""
WORKERS = 4


def main() -> None:
    options = _parser().parse_args()
    checkout = Path(options.checkout).resolve()
    missing = [name for name in FILES if not (checkout / FOLDER / name).is_file()]
    if missing:
        sys.exit(f"{checkout} is no checkout of ceph/s3-tests: there is no {FOLDER / missing[0]}")
    with tempfile.TemporaryDirectory(prefix="trivet-s3tests-", dir=options.folder) as made:
        out = (options.keep or Path(made)).resolve()
        out.mkdir(parents=True, exist_ok=True)
        try:
            python = environment_for(checkout, options.venv.resolve())
            with _subject(options, Path(made)) as subject:
                outcomes = _run(Run(options, checkout, python, out), subject, Path(made) / "s3tests.conf")
        except (NoEnvironment, TargetFailed) as failure:
            sys.exit(str(failure))
    sys.exit(_tell(outcomes, lists_deselected=options.deselected))


class Run:
    """One run of the suite: pytest in its own environment, in the suite's own folder."""

    def __init__(self, options: argparse.Namespace, checkout: Path, python: Path, out: Path) -> None:
        self.results = out / "results.jsonl"
        self._options = options
        self._folder = checkout / FOLDER
        self._ini = checkout / "pytest.ini"
        self._python = python
        self._log = out / "pytest.log"
        for stale in (self.results, self._log):
            stale.unlink(missing_ok=True)

    def tests(self, group: Group, configuration: Path, *, workers: int) -> int:
        """The exit code of pytest; its output goes to a file, the outcomes to another one."""
        words = ["--tb=short", f"--timeout={TEST_S_MAX}", f"--conformance-group={group}"]
        words += ["-k", self._options.k] if self._options.k else []
        words += ["-n", str(workers)] if workers > 1 else []
        return self._pytest(words, configuration)

    def deselected(self, configuration: Path) -> int:
        """Writes down what is not run."""
        return self._pytest(["-q", "--collect-only", "--conformance-deselected"], configuration)

    def _pytest(self, own_words: list[str], configuration: Path) -> int:
        words = [str(self._python), "-m", "pytest", "-q", "-W", "ignore", *own_words]
        words += ["-p", "conformance.s3tests.recorder", "-p", "no:cacheprovider", "-c", str(self._ini)]
        words += [f"--conformance-out={self.results}"]
        words += [f"--conformance-area={area}" for area in self._options.area]
        words += FILES
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTEST_"))}
        environment = {**kept, "S3TEST_CONF": str(configuration), "PYTHONPATH": str(REPOSITORY)}
        environment |= {"PYTHONDONTWRITEBYTECODE": "1", "AWS_EC2_METADATA_DISABLED": "true"}
        with self._log.open("ab") as log:
            done = subprocess.run(
                words, cwd=self._folder, env=environment, stdout=log, stderr=log, check=False
            )
        return done.returncode

    def failure(self) -> str:
        return f"pytest could not run:\n{self._log.read_text(errors='replace')[-3000:]}"


def _run(run: Run, subject: Subject, configuration: Path) -> list[Outcome]:
    write_configuration(subject, configuration)
    options = run._options
    exit_codes = [run.deselected(configuration)]
    print(f"running against {subject.url}, {options.workers} tests at once", flush=True)
    exit_codes.append(run.tests("together", configuration, workers=options.workers))
    exit_codes.append(run.tests("alone", configuration, workers=1))
    # 0: all passed, 1: some failed, 5: none was selected. All others say that there is no result.
    if not run.results.exists() or any(code not in (0, 1, 5) for code in exit_codes):
        sys.exit(run.failure())
    lines = run.results.read_text(encoding="utf-8").splitlines()
    return of_each_test(Outcome(**json.loads(line)) for line in lines)


@contextlib.contextmanager
def _subject(options: argparse.Namespace, folder: Path) -> Iterator[Subject]:
    if options.endpoint is None:
        with own_store(folder) as subject:
            yield subject
        return
    main_user, alt_user, tenant_user = (
        User(os.environ.get(f"{name}_ACCESS_KEY", ""), os.environ.get(f"{name}_SECRET_KEY", ""))
        for name in ("S3TESTS_MAIN", "S3TESTS_ALT", "S3TESTS_TENANT")
    )
    if not main_user.access_key or not alt_user.access_key:
        sys.exit("--endpoint needs the environment variables S3TESTS_{MAIN,ALT}_{ACCESS,SECRET}_KEY")
    third = tenant_user if tenant_user.access_key else alt_user
    yield Subject(options.endpoint, main_user, alt_user, third, options.region, options.day_s)


def _tell(outcomes: list[Outcome], *, lists_deselected: bool) -> int:
    for line in details(outcomes, "failed"):
        print(line)
    for line in details(outcomes, "skipped"):
        print(line)
    if lists_deselected:
        for line in details(outcomes, "deselected"):
            print(line)
    print()
    for line in table(outcomes):
        print(line)
    return int(any(outcome.kind == "failed" for outcome in outcomes))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make conformance", description=__doc__)
    parser.add_argument("checkout", help="a checkout of github.com/ceph/s3-tests")
    parser.add_argument("--endpoint", metavar="URL", help="any S3 endpoint; default: a store of its own")
    parser.add_argument("--region", default="us-east-1", help="of the endpoint")
    parser.add_argument("--day-s", type=int, default=10, help="seconds of a lifecycle day of the endpoint")
    parser.add_argument("--area", action="append", default=[], help="only this area; may be given again")
    parser.add_argument("-k", metavar="EXPRESSION", help="only tests of these names, as pytest takes them")
    parser.add_argument("--workers", type=int, default=WORKERS, help="tests at once")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep results.jsonl and pytest.log there")
    parser.add_argument("--folder", type=Path, help="where the temporary directory goes")
    parser.add_argument("--venv", type=Path, default=REPOSITORY / ".venv" / "s3tests", help="of s3-tests")
    parser.add_argument("--deselected", action="store_true", help="list what is not run, with the reasons")
    return parser
