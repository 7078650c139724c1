"""``make conformance S3TESTS=path``: runs the portable tests of ceph/s3-tests and prints a table by area.

Without ``--endpoint`` a store is started in a temporary directory. The suite's files stay as they are; its
configuration is written beside that store.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from conformance.bench.target import TargetFailed
from conformance.outcomes import Kind, Outcome, details, table
from conformance.s3tests.configuration import Subject, User, write_configuration
from conformance.s3tests.environment import NoEnvironment, environment_for
from conformance.s3tests.own_store import own_store
from conformance.s3tests.selection import FILES, FOLDER
from conformance.s3tests.suite_run import REPOSITORY, NoResult, SuiteRun

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
                configuration = Path(made) / "s3tests.conf"
                write_configuration(subject, configuration)
                print(f"running against {subject.url}, {options.workers} tests at once", flush=True)
                outcomes = SuiteRun(
                    python=python,
                    checkout=checkout,
                    configuration=configuration,
                    out=out,
                    region=subject.region,
                    areas=tuple(options.area),
                    names=options.k,
                    workers=options.workers,
                ).outcomes()
        except (NoEnvironment, NoResult) as failure:
            sys.exit(str(failure))
        except TargetFailed as failure:
            log = Path(made) / "store.log"
            sys.exit(f"{failure}\n\nlast lines of the store's log:\n{log.read_text()[-3000:]}")
    sys.exit(_tell(outcomes, lists_deselected=options.deselected))


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
    kinds: tuple[Kind, ...] = (
        ("failed", "skipped", "deselected") if lists_deselected else ("failed", "skipped")
    )
    for kind in kinds:
        for line in details(outcomes, kind):
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
    parser.add_argument(
        "-k", default="", metavar="EXPRESSION", help="only tests of these names, as pytest takes them"
    )
    parser.add_argument("--workers", type=int, default=WORKERS, help="tests at once")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep results.jsonl and pytest.log there")
    parser.add_argument("--folder", type=Path, help="where the temporary directory goes")
    parser.add_argument("--venv", type=Path, default=REPOSITORY / ".venv" / "s3tests", help="of s3-tests")
    parser.add_argument("--deselected", action="store_true", help="list what is not run, with the reasons")
    return parser
