"""The commands as a whole: each is documented, and answers programs too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from compose.cli.commands import app

COMMANDS = Path(__file__).resolve().parents[2] / "docs/commands.md"
PROCESSES = {"up", "front", "steward", "init", "token"}
"""They run on, or are for scripts, and answer no program."""


def every_command(group: Any = None, name: str = "") -> Iterator[tuple[str, Any]]:
    group = group or typer.main.get_command(app)
    for word, command in group.commands.items():
        full = f"{name} {word}".strip()
        if hasattr(command, "commands"):
            yield from every_command(command, full)
        else:
            yield full, command


def test_there_are_commands() -> None:
    names = [name for name, _ in every_command()]
    assert {"status", "node list", "metrics summary", "key create", "bench"} <= set(names)
    assert len(names) == len(set(names))


def test_the_page_of_commands_lists_every_command() -> None:
    """Red when a command is added without a word about it, and when the page has one that is no more."""
    page = COMMANDS.read_text().partition("The processes that `trivet up` starts")[0]
    listed = re.findall(r"^trivet ((?:[a-z][a-z-]* )*[a-z][a-z-]*)", page, re.MULTILINE)
    assert sorted(listed) == sorted(name for name, _ in every_command() if name not in PROCESSES - {"up"})


def test_every_command_answers_in_json() -> None:
    for name, command in every_command():
        options = {option for parameter in command.params for option in parameter.opts}
        assert "--json" in options or name in PROCESSES, name
        assert "--data" in options or name in PROCESSES, name


def test_every_command_and_option_says_what_it_is_for() -> None:
    for name, command in every_command():
        assert command.help, name
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{name} {parameter.name}"
