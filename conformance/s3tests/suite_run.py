"""One run of ceph/s3-tests: pytest in its own environment, in the suite's own folder."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from conformance.outcomes import Outcome, of_each_test
from conformance.s3tests.selection import FILES, FOLDER, Group

REPOSITORY = Path(__file__).resolve().parents[2]
TEST_S_MAX = 240
"""The longest tests wait for several lifecycle days and for locks that end within a minute."""
EXIT_CODES = (0, 1, 5)
"""Of pytest: all passed, some failed, none was selected. All others say that there is no result."""


class NoResult(Exception):
    """pytest could not run; the message ends with what it said."""


@dataclass(frozen=True, slots=True)
class SuiteRun:
    """`out` is where pytest.log and results.jsonl are written."""

    python: Path
    checkout: Path
    configuration: Path
    out: Path
    region: str
    areas: tuple[str, ...] = ()
    names: str = ""
    """An expression for pytest's -k."""
    workers: int = 1

    def outcomes(self) -> list[Outcome]:
        """Raises NoResult."""
        for stale in (self._results, self._log):
            stale.unlink(missing_ok=True)
        self._pytest("-q", "--collect-only", "--conformance-deselected")
        self._tests("together", self.workers)
        self._tests("alone", 1)
        lines = self._results.read_text(encoding="utf-8").splitlines() if self._results.exists() else []
        return of_each_test(Outcome(**json.loads(line)) for line in lines)

    @property
    def _results(self) -> Path:
        return self.out / "results.jsonl"

    @property
    def _log(self) -> Path:
        return self.out / "pytest.log"

    def _tests(self, group: Group, workers: int) -> None:
        words = ["--tb=short", f"--timeout={TEST_S_MAX}", f"--conformance-group={group}"]
        words += ["-k", self.names] if self.names else []
        words += ["-n", str(workers)] if workers > 1 else []
        self._pytest(*words)

    def _pytest(self, *own_words: str) -> None:
        words = [str(self.python), "-m", "pytest", "-q", "-W", "ignore", *own_words]
        words += ["-p", "conformance.s3tests.recorder", "-p", "no:cacheprovider"]
        words += ["-c", str(self.checkout / "pytest.ini"), f"--conformance-out={self._results}"]
        words += [f"--conformance-area={area}" for area in self.areas]
        words += FILES
        with self._log.open("ab") as log:
            done = subprocess.run(
                words,
                cwd=self.checkout / FOLDER,
                env=self._environment(),
                stdout=log,
                stderr=log,
                check=False,
            )
        if done.returncode not in EXIT_CODES:
            raise NoResult(f"pytest could not run:\n{self._log.read_text(errors='replace')[-3000:]}")

    def _environment(self) -> dict[str, str]:
        """Without settings that would lead clients or pytest astray."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTEST_"))}
        return {
            **kept,
            "S3TEST_CONF": str(self.configuration),
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONDONTWRITEBYTECODE": "1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_DEFAULT_REGION": self.region,
        }
