"""A machine of its own for a document: its blocks run as they are written, with their paths, addresses and ports.

Namespaces make it: processes, network and mounts of its own. What the document starts ends with it, port 9000 is
free, and /srv, /mnt, /etc and /var/lib are folders of the test (with a copy of what /etc holds). A document that speaks
of several machines gets one such set of folders for each; their addresses 10.x.y.z are all in this one network.
"""

from __future__ import annotations

import os
import queue
import re
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import pytest

from tests.docs.markdown import ROOT, Interrupt, steps
from tests.system.conftest import own_environment

BLOCK_WAIT_S = 45.0
_NOT_HERE = "not installed here: "
_NO_NAMESPACES = "no namespaces can be made here (root, or user namespaces, with unshare, mount and ip)"
_UNSHARE = ("--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--net")
_OWN_FOLDERS = ("etc", "srv", "mnt", "var/lib")
_OF_THE_TREE = ("Makefile", "pyproject.toml", "requirements.lock", "requirements-dev.lock", ".venv")

_SET_UP = """
set -eu
ip link set lo up
for address in $DOCUMENT_ADDRESSES; do ip address add "$address/32" dev lo; done
cp -a /etc/. "$DOCUMENT_FOLDER/etc"
rm -rf "$DOCUMENT_FOLDER/etc/trivet"
for address in $DOCUMENT_ADDRESSES; do
    mkdir -p "$DOCUMENT_FOLDER/hosts/$address"
    cp -a "$DOCUMENT_FOLDER"/{etc,srv,mnt,var} "$DOCUMENT_FOLDER/hosts/$address"
done
for folder in $DOCUMENT_FOLDERS; do mount --bind "$DOCUMENT_FOLDER/$folder" "/$folder"; done
cd "$DOCUMENT_FOLDER/home"
"""

_SHIMS = {
    # The tree that is tested, whatever is installed.
    "trivet": 'exec "$DOCUMENT_PYTHON" -m compose.cli.main "$@"',
    # Nothing is to be installed into the environment that other tests use meanwhile.
    "make": 'exec /usr/bin/make -o .venv/.runtime -o .venv/.dev "$@"',
    "sudo": 'exec "$@"',
    # A command on another machine of the document.
    "on-host": """
host=$1; shift
exec unshare --mount sh -euc '
    for folder in $DOCUMENT_FOLDERS; do mount --bind "$0/$folder" "/$folder"; done
    exec "$@"
' "$DOCUMENT_FOLDER/hosts/$host" "$@"
""",
    "ssh": 'host=$1; shift; exec on-host "$host" sh -euc "$*"',
    "scp": """
for last; do :; done
target="$DOCUMENT_FOLDER/hosts/${last%%:*}${last#*:}"
while [ $# -gt 1 ]; do cp -p "$1" "$target"; shift; done
""",
}


def _cannot(reason: str) -> NoReturn:
    """Skips the test; in CI (CI=true) none may be skipped."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@cache
def _unshare() -> tuple[str, ...] | None:
    """The command that makes namespaces here; None when there is none."""
    for more in ((), ("--user", "--map-root-user")):
        command = ("unshare", *more, *_UNSHARE)
        try:
            tried = subprocess.run(
                (*command, "ip", "link", "set", "lo", "up"), capture_output=True, check=False
            )
        except FileNotFoundError:
            return None
        if tried.returncode == 0:
            return command
    return None


class Terminal:
    """A shell that keeps variables and working directory from block to block, and stops at the first command that
    fails. Made anew for each document; a context manager."""

    def __init__(self, folder: Path, addresses: Sequence[str] = ()) -> None:
        command = _unshare()
        if command is None:
            _cannot(_NO_NAMESPACES)
        self._folder = folder
        self._count = 0
        self._running: list[tuple[str, Path]] = []
        for name in ("home", "blocks", "shims", *_OWN_FOLDERS):
            (folder / name).mkdir(parents=True)
        for name in _OF_THE_TREE:
            (folder / "home" / name).symlink_to(ROOT / name)
        for name, line in _SHIMS.items():
            shim = folder / "shims" / name
            shim.write_text(f"#!/bin/sh\n{line}\n")
            shim.chmod(0o755)
        environment = own_environment(
            {
                "HOME": str(folder / "home"),
                "PATH": f"{folder / 'shims'}:{ROOT / '.venv/bin'}:{os.environ['PATH']}",
                "DOCUMENT_FOLDER": str(folder),
                "DOCUMENT_PYTHON": str(ROOT / ".venv/bin/python"),
                "DOCUMENT_ADDRESSES": " ".join(addresses),
                "DOCUMENT_FOLDERS": " ".join(_OWN_FOLDERS),
                "AWS_EC2_METADATA_DISABLED": "true",
                "COLUMNS": "120",
            }
        )
        del environment["TRIVET_CONFIG"]  # its machine has an /etc/trivet of its own
        self._shell = subprocess.Popen(
            ("setpriv", "--pdeathsig", "KILL", *command, "bash", "--noprofile", "--norc"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        self._said: queue.Queue[str | None] = queue.Queue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self.do(_SET_UP, "the terminal is made")

    def _listen(self) -> None:
        assert self._shell.stdout is not None
        for line in self._shell.stdout:
            self._said.put(line.rstrip("\n"))
        self._said.put(None)

    def do(self, commands: str, what: str, host: str = "") -> str:
        """Runs them in the shell, or in a new one on that host; returns what they said. Fails with it when one of them
        fails."""
        script, output = self._script(commands)
        run = f"on-host {host} bash -eu {script}" if host else f". {script}"
        assert self._shell.stdin is not None
        self._shell.stdin.write(f"{run} >{output} 2>&1 </dev/null\necho done {self._count}\n")
        self._shell.stdin.flush()
        give_up_at = time.monotonic() + BLOCK_WAIT_S
        while True:
            try:
                said = self._said.get(timeout=max(0.0, give_up_at - time.monotonic()))
            except queue.Empty:
                pytest.fail(
                    f"{what}: not done within {BLOCK_WAIT_S} s:\n{output.read_text()}{self._others()}"
                )
            if said is None:
                pytest.fail(f"{what}: failed:\n{output.read_text()}{self._others()}")
            if said == f"done {self._count}":
                return output.read_text()

    def start(self, commands: str, ready: str, what: str, host: str = "") -> None:
        """Runs them as in a terminal of their own; returns when they have said `ready`."""
        script, output = self._script(commands)
        where = f"on-host {host} " if host else ""
        begin = (
            f"setsid env --default-signal=INT {where}bash -eu {script} >{output} 2>&1 </dev/null &\nlast=$!\n"
        )
        self.do(begin, what)
        process = self.do("echo $last", what).strip()
        self._running.append((process, output))
        give_up_at = time.monotonic() + BLOCK_WAIT_S
        while ready not in output.read_text():
            alive = self.do(f"kill -0 {process} && echo alive || true", what).startswith("alive")
            if not alive or time.monotonic() > give_up_at:
                pytest.fail(f"{what}: did not say {ready}:{self._others()}")
            time.sleep(0.1)

    def interrupt(self, what: str) -> None:
        """Ctrl-C to what was started last, and its end. The exit code is not looked at: a shell that is interrupted
        has one of its own."""
        group, _ = self._running.pop()
        self.do(f"kill -INT -- -{group}\nwait {group} || true", what)

    def write(self, path: str, content: str, what: str, host: str = "") -> None:
        """A file of the document."""
        source = self._folder / "blocks" / f"file-{self._count}"
        source.write_text(content)
        target = shlex.quote(path).replace("'~/", "~/'") if path.startswith("~/") else shlex.quote(path)
        self.do(f'mkdir -p "$(dirname {target})"\ncp {source} {target}', what, host)

    def _script(self, commands: str) -> tuple[Path, Path]:
        self._count += 1
        script = self._folder / "blocks" / f"{self._count}.sh"
        output = script.with_suffix(".out")
        script.write_text(commands)
        output.touch()
        return script, output

    def _others(self) -> str:
        """What else runs, and its last words."""
        return "".join(f"\n--- {path.name}:\n{path.read_text()[-3000:]}" for _, path in self._running)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The shell is the first process of its namespace: with it all others end."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        if kind is not None:
            self._shell.kill()
        with suppress(BrokenPipeError):
            self._shell.stdin.close()
        self._shell.wait()
        self._listener.join()
        self._shell.stdout.close()
        if kind is None:
            shutil.rmtree(self._folder)


def perform(document: str, folder: Path, *, needs: Sequence[str] = (), before: str = "") -> None:
    """Does what the document says, block by block. `needs` are programs of others; `before` are commands that the
    reader's machine did earlier."""
    missing = [program for program in needs if shutil.which(program) is None]
    if missing:
        _cannot(_NOT_HERE + ", ".join(missing))
    text = (ROOT / document).read_text()
    addresses = sorted(set(re.findall(r"\b10\.\d+\.\d+\.\d+\b(?!/)", text)))
    with Terminal(folder / "machine", addresses) as terminal:
        if before:
            terminal.do(before, f"{document}: before it begins")
        for step in steps(text):
            what = f"{document}:{step.line}"
            if isinstance(step, Interrupt):
                terminal.interrupt(what)
            elif step.kind == "file":
                terminal.write(step.words, step.text, what, step.host)
            elif step.kind == "runs on":
                terminal.start(step.text, step.words, what, step.host)
            elif step.language == "sh" and step.kind != "not run":
                terminal.do(step.text, what, step.host)
            elif step.language == "python":
                terminal.write(".block.py", step.text, what)
                terminal.do("python .block.py", what)
