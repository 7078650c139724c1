"""A pytest plugin for the run of ceph/s3-tests: deselects what is not portable, and writes what each test came to as
lines of JSON. It runs in the virtual environment of s3-tests: standard library and pytest only.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from conformance.outcomes import Kind, Outcome
from conformance.reasons import reason_of
from conformance.s3tests.areas import area_of
from conformance.s3tests.selection import FILES, read_selection

AREA = "area"
PACKAGE = "s3tests.functional"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--conformance-out", metavar="FILE", help="lines of JSON, appended")
    group.addoption("--conformance-group", choices=("together", "alone"), help="only these tests")
    group.addoption("--conformance-area", action="append", default=[], help="only tests of this area")
    group.addoption("--conformance-deselected", action="store_true", help="write down what is deselected")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--conformance-out") is not None:
        config.pluginmanager.register(Recorder(config))


class Recorder:
    def __init__(self, config: pytest.Config) -> None:
        self._selection = read_selection()
        self._group: str | None = config.getoption("--conformance-group")
        self._areas: list[str] = config.getoption("--conformance-area")
        # Under xdist reports arrive at the controller, which then is the only one that writes.
        self._is_worker = hasattr(config, "workerinput")
        self._tells_deselected: bool = config.getoption("--conformance-deselected")
        self._path = Path(config.getoption("--conformance-out"))

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        kept: list[pytest.Item] = []
        dropped: list[pytest.Item] = []
        for item in items:
            (kept if self._is_wanted(item) else dropped).append(item)
        items[:] = kept
        config.hook.pytest_deselected(items=dropped)

    def _is_wanted(self, item: pytest.Item) -> bool:
        name = item.name.partition("[")[0]
        markers = {marker.name for marker in item.iter_markers()}
        area = area_of(item.name, markers)
        if item.path.name not in FILES or (self._areas and area not in self._areas):
            return False
        reason = self._selection.reason_against(name, markers)
        if reason is not None:
            if self._tells_deselected:
                self._write(Outcome(_test(item.nodeid), area, "deselected", reason))
            return False
        item.user_properties.append((AREA, area))
        return self._group in (None, self._selection.group(name))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """What one test could not remove must not fail the next, which begins by removing all buckets of its prefix."""
        try:
            return (yield)
        except Exception:
            package: Any = sys.modules[PACKAGE]
            package.prefix = package.choose_bucket_prefix(template="s3t-{random}-")
            raise

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self._is_worker or (report.when != "call" and report.passed):
            return
        kind: Kind = report.outcome
        area = str(dict(report.user_properties).get(AREA, ""))
        self._write(Outcome(_test(report.nodeid), area, kind, reason_of(report), round(report.duration, 2)))

    def _write(self, outcome: Outcome) -> None:
        with self._path.open("a", encoding="utf-8") as out:
            out.write(json.dumps(asdict(outcome)) + "\n")


def _test(nodeid: str) -> str:
    """Without the folder, and without the end that xdist gives it in groups."""
    return nodeid.rpartition("/")[2].partition("@")[0]
