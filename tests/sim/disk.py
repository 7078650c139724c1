"""A node's disk in memory that can lose power between any two system calls, and lies on demand."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from codec.block import BlockCorrupt, BlockKey, Buffer, RecordType, parse_header
from tests.cluster.node.memory_disk import MemoryDisk


class PowerLost(BaseException):
    """The machine went off within a system call. Not an Exception: nothing may handle it."""


class SimDisk(MemoryDisk):
    """`fuse`: how many more changing system calls happen before the power goes. `spoiled`: what the next
    write of a block gets wrong on the platter, while the page cache holds the right bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.fuse: int | None = None
        self.spoil = False
        self.may_spoil: Callable[[BlockKey], bool] = lambda key: False
        self.on_spoiled: Callable[[Path, int], None] = lambda path, offset: None  # file, offset of the record

    def _burn(self) -> None:
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse <= 0:
                self.fuse = None
                raise PowerLost

    def pwritev(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        self._burn()
        n = super().pwritev(fd, buffers, offset)
        if self.spoil:
            self._spoil(fd, buffers, offset)
        return n

    def _spoil(self, fd: int, buffers: Sequence[Buffer], offset: int) -> None:
        """Change a byte in the middle of the first shard among the buffers that may be spoiled."""
        path, file = self._file(fd)
        at = offset
        for buffer in buffers:
            try:
                header = parse_header(buffer)
            except BlockCorrupt:  # a payload, whose header was the buffer before
                at += len(buffer)
                continue
            where = at + header.header_bytes + header.payload_length // 2
            start, data = file.pending[-1]
            is_shard = header.type == RecordType.SHARD and where < start + len(data)
            if is_shard and self.may_spoil(header.key):
                wrong = bytearray(data)
                wrong[where - start] ^= 0x55
                file.pending[-1] = (start, bytes(wrong))
                self.spoil = False
                self.on_spoiled(path, at)
                return
            at += len(buffer)

    def fdatasync(self, fd: int) -> None:
        self._burn()
        super().fdatasync(fd)

    def open(self, path: Path, *, create: bool = False) -> int:
        if create:
            self._burn()
        return super().open(path, create=create)

    def fsync_dir(self, path: Path) -> None:
        self._burn()
        super().fsync_dir(path)

    def unlink(self, path: Path) -> None:
        self._burn()
        super().unlink(path)

    def replace_file(self, path: Path, content: bytes) -> None:
        self._burn()
        super().replace_file(path, content)

    def power_cut(self, chance: random.Random) -> None:
        self.fuse = None
        super().power_cut(chance)

    def rot(self, path: Path, offset: int, *, cached: bool) -> None:
        """A byte changes on the platter; with `cached` the page cache still shows the right one."""
        file = self.files[path]
        if offset < len(file.durable):
            file.durable[offset] ^= 0x55
            if not cached and offset < len(file.live):
                file.live[offset] = file.durable[offset]
