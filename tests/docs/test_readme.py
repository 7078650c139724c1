"""README, as its reader does it."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.markdown import ROOT
from tests.docs.terminal import perform


def test_what_readme_says_can_be_done(tmp_path: Path) -> None:
    """A store from `make up`, its clients, a lost disk, and the way back. Red when `trivet node replace` says that it
    did it and does nothing: objects stay without their full redundancy."""
    perform("README.md", tmp_path, needs=("rclone", "fusermount3"))


def test_figures_are_those_of_the_page_they_come_from() -> None:
    """`make performance` writes that page anew; README quotes some lines of it."""
    measured = {
        line.split("|")[1].strip(): line.split("|")[2].strip() for line in _rows("docs/performance.md")
    }
    section = (ROOT / "README.md").read_text().partition("## How fast")[2].partition("\n## ")[0]
    quoted = re.findall(r"^\| ([A-Z]+[ ,][^|]+) \| ([^|]+) \|$", section, re.MULTILINE)
    assert len(quoted) == section.count("\n| ") - 2
    assert {name: measured.get(name) for name, _ in quoted} == dict(quoted)


def _rows(document: str) -> list[str]:
    return [line for line in (ROOT / document).read_text().splitlines() if line.startswith("| ")]
