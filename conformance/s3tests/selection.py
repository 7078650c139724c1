"""Which tests of ceph/s3-tests are portable: all but those that deselected.toml names, each with a reason."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

DESELECTED = Path(__file__).with_name("deselected.toml")
FILES = ("test_s3.py", "test_headers.py")
FOLDER = Path("s3tests", "functional")

Group = Literal["together", "alone"]
"""Tests that look at all buckets of an account can't run beside others."""


class BadSelection(Exception):
    """The file says something that makes no sense."""


@dataclass(frozen=True, slots=True)
class Selection:
    markers: Mapping[str, str]
    """Marker to the reason why its tests are deselected."""
    tests: Mapping[str, str]
    """The same by the function's name."""
    alone: Mapping[str, str]

    def reason_against(self, name: str, markers: Collection[str]) -> str | None:
        """Why a test is deselected; None for a portable one. `name` is the function's, without parameters."""
        if name in self.tests:
            return self.tests[name]
        marked = (f"{marker}: {reason}" for marker, reason in self.markers.items() if marker in markers)
        return next(marked, None)

    def group(self, name: str) -> Group:
        return "alone" if name in self.alone else "together"


def read_selection(path: Path = DESELECTED) -> Selection:
    """Raises BadSelection: a name without a reason is refused."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    if set(tables) - {"markers", "tests", "alone"}:
        raise BadSelection(f"{path}: there are the tables markers, tests and alone")
    for name, table in tables.items():
        for key, reason in table.items():
            if not isinstance(reason, str) or not reason.strip():
                raise BadSelection(f"{path}: {name}.{key} needs a reason")
    return Selection(tables.get("markers", {}), tables.get("tests", {}), tables.get("alone", {}))
