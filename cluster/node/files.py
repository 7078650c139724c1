"""The syscall seam: all file work of a node but the index goes through a FileLayer.

Tests and the simulation put a faulty layer here (short writes, failed syncs, a full disk). There is no
truncate: recovery never shortens a segment (S4).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from codec.block import Buffer

IOVEC_MAX: Final = 1024  # buffers the kernel takes in one pwritev
_DIRECT_ALIGN: Final = 4096
_IN_MEMORY: Final = ("tmpfs", "ramfs")


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

    def read_disk(self, path: Path, offset: int, length: int) -> Buffer:
        """Up to `length` bytes from the disk itself, whatever the page cache holds of them (S2); fewer where
        the file ends. The cache stays as it is."""
        ...

    def make_dir(self, path: Path) -> None: ...

    def fsync_dir(self, path: Path) -> None: ...

    def unlink(self, path: Path) -> None: ...

    def list(self, path: Path) -> list[str]: ...

    def free_bytes(self, path: Path) -> int:
        """Bytes an unprivileged writer may still use."""
        ...

    def total_bytes(self, path: Path) -> int:
        """Size of the file system, used and free."""
        ...

    def read_file(self, path: Path) -> bytes: ...

    def replace_file(self, path: Path, content: bytes) -> None:
        """Durably put `content` at `path`: after a crash there is the old content or the new."""
        ...

    def lock(self, path: Path) -> int:
        """Take an exclusive lock that ends with this process; BlockingIOError when another holds it."""
        ...


class RealFiles:
    """The FileLayer of this machine, for one data directory: what its file system can't do is remembered."""

    _nowait_flags: int | None = os.RWF_NOWAIT  # None: any read may have to wait for the disk
    _direct = True  # reads past the page cache work

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
        flags = self._nowait_flags if nowait else 0
        if flags is None:
            raise BlockingIOError
        try:
            return os.preadv(fd, (buffer,), offset, flags)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP or not flags:
                raise
        self._nowait_flags = 0 if _lies_in_memory(fd) else None
        return self.preadv(fd, buffer, offset, nowait)

    def fdatasync(self, fd: int) -> None:
        os.fdatasync(fd)

    def drop_cache(self, fd: int) -> None:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def read_disk(self, path: Path, offset: int, length: int) -> Buffer:
        if self._direct:
            try:
                return _read_direct(path, offset, length)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
            self._direct = False
        return self._read_dropped(path, offset, length)

    def _read_dropped(self, path: Path, offset: int, length: int) -> Buffer:
        """`read_disk` where there is no O_DIRECT, as on a tmpfs before Linux 6.6. All of the file leaves the
        cache: the kernel keeps a large folio that is not wholly in the range given."""
        fd = self.open(path)
        try:
            self.drop_cache(fd)
            buffer = memoryview(bytearray(length))
            return buffer[: self.preadv(fd, buffer, offset)]
        finally:
            self.close(fd)

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

    def total_bytes(self, path: Path) -> int:
        stat = os.statvfs(path)
        return stat.f_blocks * stat.f_frsize

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


def _read_direct(path: Path, offset: int, length: int) -> memoryview:
    """Up to `length` bytes; buffer, offset and length have to be aligned for O_DIRECT."""
    start = offset - offset % _DIRECT_ALIGN
    span = offset + length - start
    buffer = memoryview(mmap.mmap(-1, span + -span % _DIRECT_ALIGN))
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    try:
        filled = 0
        while filled < span:
            got = os.preadv(fd, (buffer[filled:],), start + filled)
            filled += got
            if got % _DIRECT_ALIGN or not got:
                break  # the file ends here
    finally:
        os.close(fd)
    return buffer[offset - start : min(filled, span)]


def _lies_in_memory(fd: int) -> bool:
    """Whether a file's file system keeps all in memory, so that no read ever waits for a disk."""
    device = os.fstat(fd).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, source = line.partition(" - ")
        if mount.split()[2] == number:
            return source.split()[0] in _IN_MEMORY
    return False
