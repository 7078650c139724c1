"""A database file appears under its name whole and durable, or not at all."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from catalog.errors import CatalogRefused

_LOGS = ("-wal", "-shm", "-journal")


@contextmanager
def made_whole(path: Path) -> Iterator[Path]:
    """Yields an empty file, for the owner only, to be filled and closed; it then gets the name `path`. What a
    crash leaves under the temporary name is no obstacle. Raises CatalogRefused when there is something under the
    name already, or another process is making it."""
    refuse_occupied(path)
    growing = path.with_name(path.name + ".new")
    file = _claim(growing)
    try:
        os.ftruncate(file, 0)
        _unlink_logs(growing)
        yield growing
        os.fsync(file)
        refuse_occupied(path)
        growing.rename(path)
        _sync_directory(path.parent)
    except BaseException:
        growing.unlink(missing_ok=True)
        raise
    finally:
        _unlink_logs(growing)
        os.close(file)


def refuse_occupied(path: Path) -> None:
    """Raises CatalogRefused when a database is there, or the log of one that is gone: SQLite would apply that
    to whatever file comes under the name."""
    for there in (path, *(Path(f"{path}{end}") for end in _LOGS)):
        if there.exists():
            raise CatalogRefused(f"{there} exists: move it away, or name another file")


def _claim(growing: Path) -> int:
    # SQLite gives its log and index the mode of the file: for the owner only.
    file = os.open(growing, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not _locked(growing, file):
        os.close(file)
        raise CatalogRefused(f"{growing} is being written by another process")
    os.fchmod(file, 0o600)
    return file


def _locked(growing: Path, file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever held the lock may have given the file its name, or deleted it, before we had it.
        return os.path.samestat(os.stat(growing), os.fstat(file))
    except (BlockingIOError, FileNotFoundError):
        return False


def _unlink_logs(growing: Path) -> None:
    for end in _LOGS:
        Path(f"{growing}{end}").unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def moving_path(path: Path) -> Path:
    """Where the file lies while it is being moved."""
    return path.with_name(f"{path.stem}.moving{path.suffix}")


def moved_path(path: Path) -> Path:
    """Where it lies afterwards: nothing needs it any more."""
    return path.with_name(f"{path.stem}.moved{path.suffix}")
