"""The file lock under which all commits and checkpoints of all processes happen (S16).

Two flocks, as a turnstile: whoever wants the lock takes `<lock>.turn`, then the lock, then leaves the turnstile.
A process that releases the lock and wants it again at once finds the turnstile taken by the one that waits, and
queues behind it: between two busy processes the lock alternates, where a single flock would mostly be won back
by the one that is running. flock blocks in the kernel, so waiting costs nothing; the kernel releases both when
the holder dies.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def lock_path(catalog: Path) -> Path:
    """The lock file of the catalog at this path."""
    return catalog.with_name("catalog.lock")


class FileLock:
    """Held by one open instance at a time, over all processes. Not for use by two threads at once."""

    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._lock = os.open(path, flags, 0o600)
        self._turn = os.open(path.with_name(path.name + ".turn"), flags, 0o600)

    def try_acquire(self) -> bool:
        """Take the lock if nobody has it or waits for it."""
        try:
            fcntl.flock(self._turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)
        return True

    def acquire(self) -> None:
        """Wait for the lock, however long: to be run in a thread, the limit is the caller's."""
        fcntl.flock(self._turn, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)

    def release(self) -> None:
        """Give the lock to the next."""
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def close(self) -> None:
        """Release and forget the files."""
        os.close(self._lock)
        os.close(self._turn)
