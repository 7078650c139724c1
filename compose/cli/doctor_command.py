"""``trivet doctor``: is all well, and what is to be done where it is not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import typer

from compose.cli.store_access import AsJson, Data, print_json
from compose.config_file import CONFIG_VARIABLE, NO_FILE
from compose.refusal import EXIT_NOT_DONE, StartRefused
from compose.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from compose.checks.finding import Finding

_STYLES = {"ok": "green", "warn": "yellow", "bad": "bold red"}


def doctor(*, data: Data = None, as_json: AsJson = False) -> None:
    """Check settings, versions, disks, clock, catalog and nodes, and say what to do. Changes nothing.

    Exit code 1 when something is bad; warnings alone leave it 0.
    """
    import msgspec

    from compose.doctor import findings, subject_of, worst

    found = []
    console = None if as_json else _console()
    for finding in findings(subject_of(_settings(data))):
        found.append(finding)
        if console is not None:
            _say(console, finding)
    if console is None:
        print_json({"state": worst(found), "findings": msgspec.to_builtins(found)})
    else:
        counts = [f"{n} {state}" for state in _STYLES if (n := sum(each.state == state for each in found))]
        console.print(", ".join(counts), highlight=False)
    if worst(found) == "bad":
        raise typer.Exit(EXIT_NOT_DONE)


def _settings(data: Path | None) -> Settings:
    """With defaults for what can't be read: a check of its own says so."""
    try:
        return Settings.read(os.environ, {"data": data})
    except StartRefused:
        return Settings.read(
            {CONFIG_VARIABLE: NO_FILE}, {"data": data or os.environ.get("TRIVET_DATA") or None}
        )


def _console() -> Console:
    from rich.console import Console

    return Console(soft_wrap=True)


def _say(console: Console, finding: Finding) -> None:
    from rich.text import Text

    line = Text.assemble(
        (f"{finding.state:<5}", _STYLES[finding.state]), f"{finding.check:<15} {finding.detail}"
    )
    if finding.do:
        line.append(f" -> {finding.do}", style="cyan")
    console.print(line)
