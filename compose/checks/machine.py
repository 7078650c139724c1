"""Python, packages, SQLite, clock and limits of this machine."""

from __future__ import annotations

import os
import re
import resource
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from cluster.version import VERSION
from compose import running
from compose.checks.finding import Finding, Subject, bad, ok, warn

_PYTHON_MIN = (3, 11)
_NEEDED = re.compile(r"([A-Za-z0-9._-]+)\s*>=\s*([0-9.]+)\s*$")
_FILES_MIN = 4096
_FILES_FULL = 0.8
_JUMP_S = 5.0
_FUTURE_S = 2.0
_FILES_LOOKED_AT = 2000


def versions(_subject: Subject) -> Iterator[Finding]:
    """Python and the packages that this release needs."""
    python = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < _PYTHON_MIN:
        yield bad(
            "python", f"{python} is too old", "install Python 3.11 or newer, remove .venv and run make again"
        )
    else:
        yield ok("python", python)
    try:
        needed = metadata.requires("trivet") or []
    except metadata.PackageNotFoundError:
        yield warn(
            "packages", "the package trivet is not installed here", "run it from the .venv that make makes"
        )
        return
    faults = [fault for line in needed if (fault := _package_fault(line))]
    for fault in faults:
        yield bad("packages", fault, "run make: it installs requirements.lock")
    if not faults:
        yield ok("packages", f"trivet {VERSION}, and what it needs")


def _package_fault(line: str) -> str:
    """Extras have a condition behind a semicolon, and may be missing."""
    found = _NEEDED.match(line)
    if found is None:
        return ""
    name, least = found.groups()
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return f"{name} is missing"
    if _numbers(version) < _numbers(least):
        return f"{name} is {version}, and {least} or newer is needed"
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    leading = re.match(r"[0-9.]*", version)
    return tuple(int(part) for part in (leading[0] if leading else "").split(".") if part)


def sqlite(_subject: Subject) -> Iterator[Finding]:
    """The library is one that does not corrupt the catalog (S16)."""
    from catalog import sqlite as engine
    from catalog.errors import CatalogRefused

    version = engine.runtime_version()
    try:
        engine.check_version(version)
    except CatalogRefused as refusal:
        yield bad("sqlite", str(refusal), "run make: the pysqlite3 of requirements.lock brings a good one")
    else:
        yield ok("sqlite", ".".join(map(str, version)))


def open_files(subject: Subject) -> Iterator[Finding]:
    """Each client connection and each segment in use is an open file."""
    faults = []
    for name, pid in subject.running.items():
        limit, used = _limit_of(pid), _used_by(pid)
        if limit is not None and used is not None and used > limit * _FILES_FULL:
            faults.append(f"{name} has {used:,} of {limit:,} open")
    do = "raise the limit (ulimit -H -n 65536, or LimitNOFILE= of its systemd unit) and start the store again"
    for fault in faults:
        yield bad("open files", fault, do)
    pids = list(subject.running.values())
    limits = [limit for limit in map(_limit_of, pids) if limit is not None]
    # One that is started takes all that it may have.
    least = min(limits, default=resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    whose = "a process of the store" if limits else "a process started here"
    if least != resource.RLIM_INFINITY and least < _FILES_MIN:
        yield warn("open files", f"{whose} may have {least:,} open", do)
    elif not faults:
        yield ok("open files", f"{whose} may have {'any number' if least < 0 else f'{least:,}'} open")


def _limit_of(pid: int) -> int | None:
    try:
        lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("Max open files"):
            soft = line.split()[3]
            return int(soft) if soft.isdigit() else resource.RLIM_INFINITY
    return None


def _used_by(pid: int) -> int | None:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None


def clock(subject: Subject) -> Iterator[Finding]:
    """The wall clock agrees with what was written by it, and has not jumped under the running processes."""
    do = "have the clock kept by NTP (timedatectl); times in listings and grace periods go by it"
    faults = [
        warn("clock", f"it has jumped by {jump_s:+.0f} s since {name} was started", do)
        for name, pid in subject.running.items()
        if name != "supervisor"  # it may wait for the directory before it writes its file
        if (jump_s := jumped_s(subject.place.pid_file(name), pid)) is not None and abs(jump_s) > _JUMP_S
    ]
    ahead_s = _newest_s(_looked_at(subject)) - time.time()
    if ahead_s > _FUTURE_S:
        faults.append(
            warn(
                "clock", f"files of the store were written {ahead_s:.0f} s in the future: it was set back", do
            )
        )
    yield from faults[:3]
    if not faults:
        yield ok(
            "clock",
            time.strftime("%Y-%m-%d %H:%M:%S UTC, not set back since files were written", time.gmtime()),
        )


def jumped_s(pid_file: Path, pid: int) -> float | None:
    """By how much the wall clock moved more than the time that passed since the process wrote its pid file."""
    lived_s = running.started_s_ago(pid)
    if lived_s is None:
        return None
    try:
        return (time.time() - pid_file.stat().st_mtime) - lived_s
    except OSError:
        return None


def _looked_at(subject: Subject) -> list[Path]:
    root = subject.place.root
    return [root, root / "run", *sorted(root.glob("node-*"))] if root.is_dir() else []


def _newest_s(directories: list[Path]) -> float:
    newest_s = 0.0
    for directory in directories:
        try:
            with os.scandir(directory) as entries:
                for _, entry in zip(range(_FILES_LOOKED_AT), entries, strict=False):
                    newest_s = max(newest_s, entry.stat(follow_symlinks=False).st_mtime)
        except OSError:
            continue  # its own check says that it can't be read
    return newest_s
