"""A FileLayer in memory that knows what is durable, and fails on demand.

What `fdatasync` has not covered is lost, or torn, by a power cut; a process kill loses nothing written. A
failed sync behaves as Linux does: the pages stay in the cache, look clean, and are not on the disk (S2).
"""

from __future__ import annotations

import errno
import os
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from codec.block import Buffer

SECTOR_BYTES = 512


@dataclass
class MemoryFile:
    live: bytearray = field(default_factory=bytearray)  # what a read shows
    durable: bytearray = field(default_factory=bytearray)  # what the disk holds
    pending: list[tuple[int, bytes]] = field(default_factory=list)  # written, not synced

    def settle(self) -> None:
        for offset, data in self.pending:
            _write(self.durable, offset, data)
        self.pending.clear()


class PowerOff(Exception):
    """The machine stops within a call; nothing but `power_cut` or `kill` may follow."""


@dataclass
class Trap:
    """The next call of `op` on a path that ends with `suffix` fails, after `skip` that don't."""

    op: str
    code: int
    suffix: str = ""
    skip: int = 0
    short: int | None = None  # pwritev: bytes written before it fails


def _write(target: bytearray, offset: int, data: bytes) -> None:
    if len(target) < offset + len(data):
        target.extend(bytes(offset + len(data) - len(target)))
    target[offset : offset + len(data)] = data


class MemoryDisk:
    def __init__(self, capacity_bytes: int = 1 << 40) -> None:
        self.capacity_bytes = capacity_bytes
        self.overstated_bytes = 0  # free_bytes promises what a write then does not find
        self.files: dict[Path, MemoryFile] = {}
        self.calls: Counter[str] = Counter()
        self.traps: list[Trap] = []
        self.calls_left: int | None = None  # the call after so many does not return (PowerOff)
        self.cold = False  # nothing is in the page cache
        self.unreadable: list[tuple[str, int, int]] = []  # suffix, start, stop: EIO
        self._entries: dict[Path, MemoryFile] = {}  # durable directory entries
        self._dirs: set[Path] = set()
        self._fds: dict[int, tuple[Path, MemoryFile | None]] = {}
        self._next_fd = 1000

    # -- what happens to disks ---------------------------------------------------------------------------

    def kill(self) -> None:
        """The process dies: its fds and locks go, the page cache stays."""
        self.calls_left = None
        self._fds.clear()

    def power_cut(self, chance: random.Random) -> None:
        """Unsynced writes arrive, don't, or are torn by sectors; unsynced directory entries may vanish, and
        files whose removal was not synced may come back."""
        self.kill()
        known = self._entries | self.files
        self.files = {
            path: file
            for path, file in known.items()
            if (path in self._entries and path in self.files) or chance.random() < 0.5
        }
        self._entries = dict(self.files)
        for file in self.files.values():
            for offset, data in file.pending:
                fate = chance.random()
                if fate < 0.3:
                    _write(file.durable, offset, data)
                elif fate < 0.8:
                    self._tear(file, offset, data, chance)
            file.pending.clear()
            file.live = bytearray(file.durable)

    @staticmethod
    def _tear(file: MemoryFile, offset: int, data: bytes, chance: random.Random) -> None:
        at = 0
        while at < len(data):
            stop = min(len(data), (offset + at) // SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES - offset)
            if chance.random() < 0.5:
                _write(file.durable, offset + at, data[at:stop])
            at = stop

    def _spring(self, op: str, path: Path) -> Trap | None:
        self.calls[op] += 1
        if self.calls_left is not None:
            self.calls_left -= 1
            if self.calls_left < 0:
                raise PowerOff(f"in {op} of {path}")
        for trap in self.traps:
            if trap.op == op and str(path).endswith(trap.suffix):
                if trap.skip:
                    trap.skip -= 1
                    return None
                self.traps.remove(trap)
                return trap
        return None

    def _check(self, op: str, path: Path) -> None:
        trap = self._spring(op, path)
        if trap is not None:
            raise OSError(trap.code, os.strerror(trap.code), str(path))

    # -- FileLayer -----------------------------------------------------------------------------------------

    def open(self, path: Path, *, create: bool = False) -> int:
        self._check("open", path)
        if create:
            if path in self.files:
                raise FileExistsError(errno.EEXIST, "exists", str(path))
            self.files[path] = MemoryFile()
        elif path not in self.files:
            raise FileNotFoundError(errno.ENOENT, "missing", str(path))
        return self._give(path, self.files[path])

    def _give(self, path: Path, file: MemoryFile | None) -> int:
        self._next_fd += 1
        self._fds[self._next_fd] = (path, file)
        return self._next_fd

    def close(self, fd: int) -> None:
        self._fds.pop(fd, None)

    def open_files(self) -> set[Path]:
        return {path for path, _ in self._fds.values()}

    def open_fds(self) -> int:
        return len(self._fds)

    def _file(self, fd: int) -> tuple[Path, MemoryFile]:
        path, file = self._fds[fd]
        assert file is not None
        return path, file

    def size(self, path: Path) -> int:
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, "missing", str(path))
        return len(self.files[path].live)

    def pwritev(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        path, file = self._file(fd)
        trap = self._spring("pwritev", path)
        data = b"".join(bytes(buffer) for buffer in buffers)
        if trap is not None:
            if trap.short is None:
                raise OSError(trap.code, os.strerror(trap.code), str(path))
            if len(data) > trap.short:
                self.traps.append(Trap("pwritev", trap.code, trap.suffix))
                data = data[: trap.short]
        room = max(0, self._room() + max(0, len(file.live) - offset))
        if room == 0 and data:
            raise OSError(errno.ENOSPC, "full", str(path))
        data = data[:room]
        _write(file.live, offset, data)
        file.pending.append((offset, data))
        return len(data)

    def preadv(self, fd: int, buffer: bytearray | memoryview, offset: int, nowait: bool = False) -> int:
        path, file = self._file(fd)
        self._check("preadv", path)
        if nowait and self.cold:
            raise BlockingIOError
        for suffix, start, stop in self.unreadable:
            if str(path).endswith(suffix) and offset < stop and offset + len(buffer) > start:
                raise OSError(errno.EIO, "unreadable", str(path))
        if offset < 0:
            raise OSError(errno.EINVAL, "negative offset", str(path))
        data = file.live[offset : offset + len(buffer)]
        buffer[: len(data)] = data
        return len(data)

    def read_disk(self, path: Path, offset: int, length: int) -> Buffer:
        self._check("read_disk", path)
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, "missing", str(path))
        file = self.files[path]
        for suffix, start, stop in self.unreadable:
            if str(path).endswith(suffix) and offset < stop and offset + length > start:
                raise OSError(errno.EIO, "unreadable", str(path))
        content = file.durable + bytes(max(0, len(file.live) - len(file.durable)))
        for at, data in file.pending:  # dirty pages are written before the disk is read
            _write(content, at, data)
        return bytes(content[offset : offset + length])

    def fdatasync(self, fd: int) -> None:
        path, file = self._file(fd)
        trap = self._spring("fdatasync", path)
        if trap is not None:
            file.pending.clear()
            raise OSError(trap.code, os.strerror(trap.code), str(path))
        file.settle()

    def drop_cache(self, fd: int) -> None:
        _, file = self._file(fd)
        self.calls["drop_cache"] += 1
        size = len(file.live)  # of the inode, which is not a page
        file.live = file.durable + bytes(max(0, size - len(file.durable)))
        for offset, data in file.pending:
            _write(file.live, offset, data)

    def make_dir(self, path: Path) -> None:
        self._dirs.add(path)

    def fsync_dir(self, path: Path) -> None:
        self._check("fsync_dir", path)
        self._entries = {p: f for p, f in self._entries.items() if p.parent != path}
        self._entries.update((p, f) for p, f in self.files.items() if p.parent == path)

    def unlink(self, path: Path) -> None:
        self._check("unlink", path)
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, "missing", str(path))
        del self.files[path]

    def list(self, path: Path) -> list[str]:
        if path not in self._dirs:
            raise FileNotFoundError(errno.ENOENT, "missing", str(path))
        children = {p.name for p in self.files if p.parent == path}
        return sorted(children | {p.name for p in self._dirs if p.parent == path})

    def free_bytes(self, path: Path) -> int:
        return self._room() + self.overstated_bytes

    def total_bytes(self, path: Path) -> int:
        return self.capacity_bytes

    def _room(self) -> int:
        return self.capacity_bytes - sum(len(file.live) for file in self.files.values())

    def read_file(self, path: Path) -> bytes:
        self._check("read_file", path)
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, "missing", str(path))
        return bytes(self.files[path].live)

    def replace_file(self, path: Path, content: bytes) -> None:
        self._check("replace_file", path)
        file = MemoryFile(bytearray(content), bytearray(content))
        self.files[path] = file
        self._entries[path] = file

    def lock(self, path: Path) -> int:
        if any(held == path for held, _ in self._fds.values()):
            raise BlockingIOError
        return self._give(path, None)
