"""The syscall seam: all file work of a node but the index goes through a FileLayer.

Tests and the simulation put a faulty layer here (short writes, failed syncs, a full disk). There is no
truncate: recovery never shortens a segment (S4).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from codec.block import Buffer

IOVEC_MAX: Final = 1024  # buffers the kernel takes in one pwritev


class FileLayer(Protocol):
    """What a node asks of a file system. All methods raise OSError; a write may be short."""

    def open(self, path: Path, *, create: bool = False) -> int:
        """Open for reading and writing; with `create` the file must not exist yet."""
        ...

    def close(self, fd: int) -> None: ...

    def size(self, path: Path) -> int: ...

    def pwritev(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        """Write at most IOVEC_MAX buffers; returns the bytes written, maybe fewer than given."""
        ...

    def preadv(self, fd: int, buffer: bytearray | memoryview, offset: int, nowait: bool = False) -> int:
        """Fill `buffer` as far as the file goes. With `nowait` raises BlockingIOError instead of
        waiting for the disk; the bytes then returned may also be fewer than there are."""
        ...

    def fdatasync(self, fd: int) -> None: ...

    def drop_cache(self, fd: int) -> None:
        """Forget clean cached pages, so that the next read shows what the disk holds (S2)."""
        ...

    def make_dir(self, path: Path) -> None: ...

    def fsync_dir(self, path: Path) -> None: ...

    def unlink(self, path: Path) -> None: ...

    def list(self, path: Path) -> list[str]: ...

    def free_bytes(self, path: Path) -> int:
        """Bytes an unprivileged writer may still use."""
        ...

    def read_file(self, path: Path) -> bytes: ...

    def replace_file(self, path: Path, content: bytes) -> None:
        """Durably put `content` at `path`: after a crash there is the old content or the new."""
        ...

    def lock(self, path: Path) -> int:
        """Take an exclusive lock that ends with this process; BlockingIOError when another holds it."""
        ...


class RealFiles:
    """The FileLayer of this machine."""

    def open(self, path: Path, *, create: bool = False) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0)
        return os.open(path, flags, 0o600)

    def close(self, fd: int) -> None:
        os.close(fd)

    def size(self, path: Path) -> int:
        return os.stat(path).st_size

    def pwritev(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        return os.pwritev(fd, buffers, offset)

    def preadv(self, fd: int, buffer: bytearray | memoryview, offset: int, nowait: bool = False) -> int:
        return os.preadv(fd, (buffer,), offset, os.RWF_NOWAIT if nowait else 0)

    def fdatasync(self, fd: int) -> None:
        os.fdatasync(fd)

    def drop_cache(self, fd: int) -> None:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def make_dir(self, path: Path) -> None:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def fsync_dir(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def list(self, path: Path) -> list[str]:
        return sorted(os.listdir(path))

    def free_bytes(self, path: Path) -> int:
        stat = os.statvfs(path)
        return stat.f_bavail * stat.f_frsize

    def read_file(self, path: Path) -> bytes:
        return path.read_bytes()

    def replace_file(self, path: Path, content: bytes) -> None:
        draft = path.with_name(path.name + ".tmp")
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        draft.replace(path)
        self.fsync_dir(path.parent)

    def lock(self, path: Path) -> int:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise
        return fd
