"""A real node process on a disk that forgets: what was not synced is gone when the process is killed.

So SIGKILL of such a node is a power cut. Only file contents are volatile; the index file is LMDB's own.
"""

import os
import threading
from collections.abc import Sequence
from pathlib import Path

from cluster.node.files import RealFiles
from codec.block import Buffer
from tests.cluster.nodes import RealNode, RealNodes

_Inode = tuple[int, int]


class VolatileFiles(RealFiles):
    """Keeps all written bytes in memory until the file is synced."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inodes: dict[int, _Inode] = {}  # by descriptor
        self._unsynced: dict[_Inode, list[tuple[int, bytes]]] = {}  # (offset, bytes) in order

    def open(self, path: Path, *, create: bool = False) -> int:
        fd = super().open(path, create=create)
        stat = os.fstat(fd)
        with self._lock:
            self._inodes[fd] = stat.st_dev, stat.st_ino
        return fd

    def close(self, fd: int) -> None:
        with self._lock:
            self._inodes.pop(fd, None)
        super().close(fd)

    def size(self, path: Path) -> int:
        stat = path.stat()
        with self._lock:
            writes = self._unsynced.get((stat.st_dev, stat.st_ino), [])
            return max([stat.st_size, *(offset + len(content) for offset, content in writes)])

    def read_disk(self, path: Path, offset: int, length: int) -> Buffer:
        fd = self.open(path)
        try:
            buffer = memoryview(bytearray(length))
            return buffer[: self.preadv(fd, buffer, offset)]
        finally:
            self.close(fd)

    def pwritev(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        content = b"".join(buffers)
        with self._lock:
            self._unsynced.setdefault(self._inodes[fd], []).append((offset, content))
        return len(content)

    def preadv(self, fd: int, buffer: bytearray | memoryview, offset: int, nowait: bool = False) -> int:
        view = memoryview(buffer)
        with self._lock:
            writes = list(self._unsynced.get(self._inodes[fd], []))
            filled = super().preadv(fd, view, offset, nowait)
        for at, content in writes:
            start, stop = max(at, offset), min(at + len(content), offset + len(view))
            if start < stop:
                view[start - offset : stop - offset] = content[start - at : stop - at]
                filled = max(filled, stop - offset)
        return filled

    def fdatasync(self, fd: int) -> None:
        with self._lock:
            for offset, content in self._unsynced.pop(self._inodes[fd], []):
                assert os.pwrite(fd, content, offset) == len(content)
        super().fdatasync(fd)


class VolatileNode(RealNode):
    """A node whose `kill` is a power cut."""

    files = VolatileFiles

    def power_cycle(self) -> None:
        """Lose what was not synced, and start again."""
        self.kill()
        self.start()


class VolatileNodes(RealNodes):
    """Several of them."""

    def __init__(self, directory: Path, count: int = 3) -> None:
        super().__init__(directory, count, VolatileNode)

    def power_cycle(self) -> None:
        """The power fails for all that run, and comes back; those that did not run stay away."""
        running = [node for node in self.nodes if node.runs]
        for node in running:
            node.kill()
        for node in running:
            node.launch()
        for node in running:
            node.wait_ready()
