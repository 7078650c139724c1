"""The command line without a process of its own: most of a command's time is Python's start."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from compose.cli.commands import run_command


class Done(NamedTuple):
    """As subprocess has it."""

    returncode: int
    stdout: str
    stderr: str


def trivet(data: Path, *words: str, environment: Mapping[str, str] | None = None) -> Done:
    """A command for people on the store in `data`, as a process without terminal and without settings but those of
    `environment` would run it. Not for a test that has an event loop."""
    said, problems = io.StringIO(), io.StringIO()
    code = 0
    plain = {name: value for name, value in os.environ.items() if not name.startswith("TRIVET_")}
    plain["TRIVET_CONFIG"] = "none"  # this machine may have a store of its own
    with (
        mock.patch.object(sys, "argv", ["trivet", *words, "--data", str(data)]),
        mock.patch.dict(os.environ, {**plain, **(environment or {})}, clear=True),
        redirect_stdout(said),
        redirect_stderr(problems),
    ):
        try:
            run_command()
        except SystemExit as end:
            code = int(end.code or 0)
    return Done(code, said.getvalue(), problems.getvalue())
