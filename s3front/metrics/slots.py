"""The slots of a front in a file that all fronts of the machine map: each writes its own and reads those of all.

A count is one addition in memory, and what a killed front had counted stays (the pages are the kernel's): the front
that is started in its place goes on counting there, so that counters never fall. The files mean something only
while the store runs; nothing of them is synced.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from s3front.metrics.layout import HASH_SLOT, MAGIC, MAGIC_SLOT, PID_SLOT, Layout

log = logging.getLogger("trivet.s3front.metrics")

_SLOT_BYTES = 8
_SUFFIX = ".slots"
_TWINS_MAX = 16


class Slots:
    """The slots of this process. `view` is what counts: ``view[at] += 1``."""

    def __init__(self, layout: Layout, directory: Path | None, name: str) -> None:
        """`directory` None: in memory, for this process alone. It is made where it is missing. A name that another
        running process uses gets a number. When the file can't be had (a full disk), it is logged and the slots
        lie in memory: a front must not fail because of its figures.
        """
        self.layout = layout
        self.directory = directory
        self._file = -1
        if directory is not None:
            try:
                self._file = _claimed(directory, name, layout)
            except OSError as error:
                log.warning("figures of this front are kept in memory only: %s", error)
        # MAP_SHARED is mmap's default; a hole in the file can't be met, _claimed has filled it.
        self._map = mmap.mmap(self._file, layout.slots * _SLOT_BYTES)
        self.view = memoryview(self._map).cast("Q")
        self.view[MAGIC_SLOT] = MAGIC
        self.view[HASH_SLOT] = layout.hash
        self.view[PID_SLOT] = os.getpid()
        for at in layout.gauge_at.values():
            self.view[at] = 0

    def read(self) -> list[int]:
        """All slots as they are now."""
        return self.view.tolist()

    def close(self) -> None:
        """Let go of the file, which stays; for tests, a process just ends."""
        self.view.release()
        self._map.close()
        if self._file >= 0:
            os.close(self._file)


class Reading(NamedTuple):
    """The slots of one front. `alive`: its process runs; else its counters count and its gauges don't."""

    front: str
    alive: bool
    slots: list[int]


def read_all(own: Slots, name: str) -> list[Reading]:
    """The slots of all fronts that count in this machine's directory, by name; `own` is one of them, by `name` where
    it has no file. Slots of another layout, another release's, are left out.
    """
    found = [] if own.directory is None else list(_readings(own.directory, own.layout))
    if not any(reading.slots[PID_SLOT] == os.getpid() for reading in found):
        found.append(Reading(name, alive=True, slots=own.read()))
    return found


def _readings(directory: Path, layout: Layout) -> Iterator[Reading]:
    for path in sorted(directory.glob(f"*{_SUFFIX}")):
        slots = _read_file(path, layout)
        if slots is not None:
            yield Reading(path.name.removesuffix(_SUFFIX), _runs(slots[PID_SLOT]), slots)


def _read_file(path: Path, layout: Layout) -> list[int] | None:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if os.fstat(file).st_size != layout.slots * _SLOT_BYTES:
            return None
        # Slot by slot from the map: each is read whole, where a copy of bytes may meet one half written.
        with (
            mmap.mmap(file, 0, prot=mmap.PROT_READ) as mapped,
            memoryview(mapped) as raw,
            raw.cast("Q") as view,
        ):
            slots = view.tolist()
    finally:
        os.close(file)
    return slots if (slots[MAGIC_SLOT], slots[HASH_SLOT]) == (MAGIC, layout.hash) else None


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _claimed(directory: Path, name: str, layout: Layout) -> int:
    """A descriptor of this process's file, locked for as long as it is open, with all its blocks allocated.

    Raises OSError when there is no room.
    """
    directory.mkdir(mode=0o700, exist_ok=True)
    for twin in range(1, _TWINS_MAX + 1):
        path = directory / f"{name if twin == 1 else f'{name}.{twin}'}{_SUFFIX}"
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not _locks(file):
            os.close(file)
            continue
        if not _fits(file, path, layout):
            os.close(file)
            file = _replaced(path)
        try:
            os.posix_fallocate(file, 0, layout.slots * _SLOT_BYTES)
        except OSError:
            os.close(file)
            raise
        return file
    raise OSError(f"{_TWINS_MAX} processes are called {name}")


def _fits(file: int, path: Path, layout: Layout) -> bool:
    return os.fstat(file).st_size == 0 or _read_file(path, layout) is not None


def _replaced(path: Path) -> int:
    """In the place of another release's file. A new one, never the old one cut: somebody may have it mapped."""
    draft = path.with_suffix(".new")
    file = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    _locks(file)
    os.replace(draft, path)
    return file


def _locks(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
