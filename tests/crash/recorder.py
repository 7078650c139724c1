"""What a program asks of the disk, call by call, as strace sees it.

The program is real and unchanged; the recording is complete, whatever library made the call (the node's
segments, LMDB, SQLite). Marks that the program writes to a file of their own tell how far it had got.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_CALLS: Final = (
    "openat,open,creat,pwrite64,pwritev,pwritev2,write,writev,fdatasync,fsync,rename,renameat,renameat2,"
    "unlink,unlinkat,lseek,ftruncate,fallocate,link,linkat,symlink,sync_file_range,msync"
)
_LINE: Final = re.compile(r"^(\d+) +(?:<\.\.\. (\w+) resumed>)?(.*)$")
_CALL: Final = re.compile(r"^(\w+)\((.*)\) += (-?\d+)")
_FD: Final = re.compile(r"^(\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2})*)>")
_TEXT: Final = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_BASE: Final = re.compile(r'iov_base="((?:\\x[0-9a-f]{2})*)"')


@dataclass(frozen=True, slots=True)
class Event:
    """One successful call. `kind`: create, write, write_through (O_DSYNC), truncate, sync (of a file or of
    a directory), rename, unlink or mark.

    `path` and `target` are relative to the recorded directory. `began`: how many events had ended when this
    one began; a sync covers what had been written by then.
    """

    kind: str
    path: str
    began: int
    offset: int = 0
    data: bytes = b""
    target: str = ""


def available() -> bool:
    """Whether strace is there and may trace."""
    if shutil.which("strace") is None:
        return False
    return (
        subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode
        == 0
    )


def record(arguments: Sequence[str], directory: Path, marks: Path, folder: Path) -> list[Event]:
    """Run `python <arguments>` and return what it did below `directory`, in order. `marks`: a file outside of it,
    each write to which becomes a mark. Raises CalledProcessError."""
    output = folder / "strace.out"
    command = ["strace", "-f", "-y", "-xx", "-s", str(1 << 24), "-e", f"trace={_CALLS}", "-o", str(output)]
    subprocess.run([*command, sys.executable, *arguments], check=True)
    with output.open(encoding="ascii") as lines:
        events = list(_parse(lines, str(directory), str(marks)))
    output.unlink()
    return events


def _parse(lines: Iterator[str], directory: str, marks: str) -> Iterator[Event]:
    unfinished: dict[str, tuple[str, int]] = {}
    reading = _Reading(directory, marks)
    ended = 0
    for line in lines:
        found = _LINE.match(line.rstrip("\n"))
        assert found is not None, line[:200]
        pid, resumed, text = found.groups()
        began = ended
        if text.endswith("<unfinished ...>"):
            unfinished[pid] = (text.removesuffix("<unfinished ...>").rstrip(), began)
            continue
        if resumed is not None:
            head, began = unfinished.pop(pid)
            text = head + text
        call = _CALL.match(text)
        if call is None or int(call[3]) < 0:  # a signal, the end of a process, a call that failed
            continue
        event = reading.event(call[1], call[2], int(call[3]), began)
        if event is not None:
            ended += 1
            yield event


class _Reading:
    """Turns calls into events; remembers where descriptors stand, and which of them write through to the disk."""

    def __init__(self, directory: str, marks: str) -> None:
        self._directory = directory
        self._marks = marks
        self._through: set[str] = set()
        self._offsets: dict[str, int] = {}

    def event(self, name: str, arguments: str, result: int, began: int) -> Event | None:
        """None for a call that changes nothing below the directory."""
        if name.startswith("open"):
            return self._open(arguments, result, began)
        if name.startswith(("rename", "unlink")):
            return self._name(name, arguments, began)
        descriptor = _FD.match(arguments)
        assert descriptor is not None, f"{name}({arguments[:100]})"
        absolute = _plain(descriptor[2]).decode()
        if absolute == self._marks and name == "write":
            return Event("mark", "", began, data=_plain(_TEXT.findall(arguments)[0]))
        if absolute == self._directory and name == "fsync":
            return Event("sync", "", began)
        if name == "lseek":
            self._offsets[descriptor[1]] = result
            return None
        path = self._inside(absolute)
        return self._change(name, arguments, result, began, path, descriptor[1]) if path else None

    def _open(self, arguments: str, result: int, began: int) -> Event | None:
        path = self._inside(_plain(_TEXT.findall(arguments)[0]).decode())
        self._offsets[str(result)] = 0
        (self._through.add if "SYNC" in arguments else self._through.discard)(str(result))
        return Event("create", path, began) if path and "O_CREAT" in arguments else None

    def _name(self, name: str, arguments: str, began: int) -> Event | None:
        paths = [self._inside(_plain(text).decode()) for text in _TEXT.findall(arguments)]
        if not all(paths):
            return None
        if name.startswith("rename"):
            return Event("rename", paths[0], began, target=paths[1])
        return Event("unlink", paths[0], began)

    def _change(  # noqa: PLR0917 - what a line of strace holds
        self, name: str, arguments: str, result: int, began: int, path: str, descriptor: str
    ) -> Event:
        if name in ("fdatasync", "fsync"):
            return Event("sync", path, began)
        if "write" in name:
            bases = _BASE.findall(arguments) or _TEXT.findall(arguments)
            data = b"".join(map(_plain, bases))[:result]
            if name.startswith("p"):
                offset = int(arguments.rsplit(", ", 2)[1 if name == "pwritev2" else 2])
            else:
                offset = self._offsets[descriptor]
                self._offsets[descriptor] += result
            kind = "write_through" if descriptor in self._through else "write"
            return Event(kind, path, began, offset, data)
        if name == "ftruncate":
            return Event("truncate", path, began, int(arguments.rsplit(", ", 1)[1]))
        if name == "fallocate":
            return Event("truncate", path, began, sum(map(int, arguments.rsplit(", ", 2)[1:])))
        raise AssertionError(f"a call that the model of the disk does not know: {name}({arguments[:100]}")

    def _inside(self, path: str) -> str:
        """Relative to the directory; empty for what lies elsewhere."""
        return path[len(self._directory) + 1 :] if path.startswith(self._directory + "/") else ""


def _plain(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", ""))
