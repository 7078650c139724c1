"""Whether a store runs, seen from outside: its supervisor by the pid file, without asking it anything."""

from __future__ import annotations

import os
from pathlib import Path

from compose.data_dir import DataDir

_PROC = Path("/proc")
_PROGRAM = b"compose.cli.main"


def supervisor_pid(place: DataDir) -> int | None:
    """The process that runs the store of this directory; None when none does. A pid that a program of another
    kind has meanwhile is not taken for it.
    """
    return pid_of(place, "supervisor")


def pid_of(place: DataDir, process: str) -> int | None:
    """The running process with that pid file: supervisor, front-1, steward and so on."""
    try:
        pid = int(place.pid_file(process).read_text())
        command = (_PROC / str(pid) / "cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if _PROGRAM in command else None


def processes(place: DataDir) -> dict[str, int]:
    """All running processes of the store by name, the supervisor too."""
    names = sorted(path.stem for path in place.run.glob("*.pid")) if place.run.is_dir() else []
    found = {name: pid_of(place, name) for name in names}
    return {name: pid for name, pid in found.items() if pid is not None}


def environment_of(pid: int) -> dict[str, str]:
    """The TRIVET_ variables that a process was started with, secrets too; nothing when it may not be looked at."""
    try:
        block = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return {}
    pairs = (entry.partition(b"=") for entry in block.split(b"\0") if entry.startswith(b"TRIVET_"))
    return {name.decode(): value.decode(errors="surrogateescape") for name, _, value in pairs}


def started_s_ago(pid: int) -> float | None:
    """How long the process has run, by the clock that is never set; None when it is gone."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(") ")[2].split()
        uptime_s = float((_PROC / "uptime").read_text().split()[0])
    except OSError:
        return None
    return uptime_s - int(fields[19]) / os.sysconf("SC_CLK_TCK")
