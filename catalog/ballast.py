"""A file that only takes up room, freed when the catalog's disk is full so that deletes still work (S27)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

_RETRY_S = 5.0


class Ballast:
    """One file beside the catalog, shared by all processes: while it is missing, the disk counts as full."""

    def __init__(self, path: Path, size_bytes: int, monotonic: Callable[[], float]) -> None:
        self._path = path
        self._size_bytes = size_bytes
        self._monotonic = monotonic
        self._tried = -_RETRY_S

    def present(self) -> bool:
        """Whether the reserve is whole."""
        return os.path.exists(self._path)

    def free(self) -> bool:
        """Give the room to the catalog; whether there was any to give."""
        self._tried = self._monotonic()
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            return False
        return True

    def restore(self) -> bool:
        """Set the reserve up, or again once there is room for twice its size. Tries every few seconds at
        most; whether it is there now."""
        now = self._monotonic()
        if now - self._tried < _RETRY_S:
            return False
        self._tried = now
        room = os.statvfs(self._path.parent)
        if room.f_bavail * room.f_frsize < 2 * self._size_bytes:
            return False
        return self._allocate()

    def _allocate(self) -> bool:
        # Under another name until it is whole: a crash must not leave a ballast without weight.
        growing = self._path.with_name(self._path.name + ".new")
        file = os.open(growing, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.posix_fallocate(file, 0, self._size_bytes)
            os.rename(growing, self._path)
        except OSError:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(growing)
            return False
        finally:
            os.close(file)
        return True
