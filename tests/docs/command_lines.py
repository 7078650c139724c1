"""Which commands of ours a piece of shell names, and what is wrong with them: looked up, not run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import cache
from io import StringIO
from typing import Any

import typer.main

from compose.cli import processes
from compose.cli.commands import app
from compose.cli.main import is_process

_SUBSTITUTION = re.compile(r"\$\(([^()]*)\)")
_COMMENT = re.compile(r"(?m)(^|\s)# .*$")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*")
_PROGRAMS = ("trivet", ".venv/bin/trivet", "/usr/local/bin/trivet", "/opt/trivet/.venv/bin/trivet")
_BEFORE = frozenset(("sudo", "exec", "env", "then", "do", "if", "!", "while", "until"))
_EVERYWHERE = frozenset(("--help", "--version", "--install-completion"))


def simple_commands(shell: str) -> Iterator[list[str]]:
    """The words of each simple command, without comments and assignments."""
    text = _COMMENT.sub(r"\1", shell.replace("\\\n", " "))
    scanner = shlex.shlex(text, posix=True, punctuation_chars="();<>|&\n")
    scanner.whitespace = " \t"
    scanner.whitespace_split = True
    scanner.commenters = ""
    words: list[str] = []
    for token in scanner:
        if token and set(token) <= set("();|&\n"):
            yield words
            words = []
        elif words or not (_ASSIGNMENT.fullmatch(token) or token in _BEFORE):
            words.append(token)
    yield words


def our_commands(shell: str) -> Iterator[list[str]]:
    """The arguments of each `trivet` in it, also of one inside `$( … )` or behind `docker-compose exec SERVICE`."""
    for inside in _SUBSTITUTION.findall(shell):
        yield from our_commands(inside)
    for words in simple_commands(_SUBSTITUTION.sub("x", shell)):
        named = next((at for at, word in enumerate(words) if word in _PROGRAMS), None)
        if named is not None and (named == 0 or "exec" in words[:named] or "run" in words[:named]):
            yield [word for word in words[named + 1 :] if set(word) - set("<>")]


@cache
def _options_of_process(name: str) -> frozenset[str]:
    said = StringIO()
    with suppress(SystemExit), redirect_stdout(said), redirect_stderr(said):
        processes.run(name, ["--help"])
    return frozenset(re.findall(r"--[a-z][a-z-]*", said.getvalue()))


def complaint(arguments: list[str]) -> str | None:
    """What is wrong with the command; None when the program would understand it. Values are not looked at, and `…`
    stands for more of them."""
    if not arguments or arguments[0] in _EVERYWHERE:
        return None
    given = [word.partition("=")[0] for word in arguments if word.startswith("--")]
    if is_process(arguments):
        unknown = [option for option in given if option not in _options_of_process(arguments[0])]
        return f"no option {unknown[0]}" if unknown else None
    command: Any = typer.main.get_command(app)
    rest = list(arguments)
    while hasattr(command, "commands"):
        if rest and rest[0] in command.commands:
            command = command.commands[rest.pop(0)]
        elif rest and rest[0] == "--config":
            del rest[:2]
        else:
            return f"no command {rest[0]}" if rest else None
    return _misused(command, rest)


def _misused(command: Any, words: list[str]) -> str | None:
    options = {
        name: one for one in command.params for name in (*one.opts, *one.secondary_opts) if name[0] == "-"
    }
    plain = 0
    at = 0
    while at < len(words):
        name, equals, _ = words[at].partition("=")
        if not name.startswith("-"):
            plain += 1
        elif name in options:
            at += 0 if equals or getattr(options[name], "is_flag", False) else 1
        elif name not in _EVERYWHERE:
            return f"no option {name}"
        at += 1
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    needed = sum(one.required for one in arguments)
    most = len(words) if any(one.nargs == -1 for one in arguments) else len(arguments)
    return None if needed <= plain <= most or "…" in words else f"{plain} arguments, not {needed} to {most}"
