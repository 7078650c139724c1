"""One line of why a test was skipped or failed. Loaded by a foreign pytest too: standard library and pytest only."""

from __future__ import annotations

import pytest

LENGTH_MAX = 300


def reason_of(report: pytest.TestReport) -> str:
    """Empty for what passed."""
    if report.passed:
        return ""
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    where = "" if report.when == "call" else f"{report.when}: "
    crash = getattr(report.longrepr, "reprcrash", None)
    message = crash.message if crash is not None else report.longreprtext.strip().rpartition("\n")[2]
    return where + " ".join(message.split())[:LENGTH_MAX]
