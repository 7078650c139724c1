"""One contract for every FileLayer: the machine's and the one that tests break."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from cluster.node.files import FileLayer, RealFiles, _lies_in_memory
from tests.cluster.node.memory_disk import MemoryDisk


@pytest.fixture(params=["real", "memory"])
def files(request: pytest.FixtureRequest) -> FileLayer:
    return RealFiles() if request.param == "real" else MemoryDisk()


def test_a_file_is_created_once_and_opened_again(files: FileLayer, tmp_path: Path) -> None:
    path = tmp_path / "a.seg"
    with pytest.raises(FileNotFoundError):
        files.open(path)
    fd = files.open(path, create=True)
    with pytest.raises(FileExistsError):
        files.open(path, create=True)
    again = files.open(path)
    assert files.size(path) == 0
    files.close(again)
    files.close(fd)


def test_what_was_written_is_read(files: FileLayer, tmp_path: Path) -> None:
    fd = files.open(tmp_path / "a", create=True)
    assert files.pwritev(fd, [b"ab", bytearray(b"cd"), memoryview(b"ef")], 4) == 6
    buffer = bytearray(20)
    assert files.preadv(fd, buffer, 0) == 10
    assert bytes(buffer[:10]) == b"\0\0\0\0abcdef"
    assert files.preadv(fd, memoryview(buffer)[:2], 6) == 2
    assert bytes(buffer[:2]) == b"cd"
    assert files.preadv(fd, buffer, 10) == 0
    assert files.preadv(fd, bytearray(4), 4, nowait=True) == 4  # just written: in the page cache
    with pytest.raises(OSError, match=r"nvalid|negative") as caught:
        files.preadv(fd, buffer, -8)
    assert caught.value.errno == errno.EINVAL
    files.fdatasync(fd)
    files.drop_cache(fd)
    assert files.preadv(fd, buffer, 0) == 10
    assert files.size(tmp_path / "a") == 10
    files.close(fd)


def test_the_disk_is_read_at_any_offset(files: FileLayer, tmp_path: Path) -> None:
    path = tmp_path / "a"
    fd = files.open(path, create=True)
    content = os.urandom(20_007)
    files.pwritev(fd, [content], 0)
    for offset, length in ((0, 20_007), (0, 1), (1, 4095), (4095, 2), (4096, 4096), (777, 12_345)):
        assert bytes(files.read_disk(path, offset, length)) == content[offset : offset + length]
    files.fdatasync(fd)
    assert bytes(files.read_disk(path, 20_000, 100)) == content[20_000:]
    assert bytes(files.read_disk(path, 20_007, 10)) == b""
    assert bytes(files.read_disk(path, 99_999, 10)) == b""
    files.close(fd)
    files.unlink(path)
    with pytest.raises(FileNotFoundError):
        files.read_disk(path, 0, 1)


def test_directories(files: FileLayer, tmp_path: Path) -> None:
    folder = tmp_path / "x" / "y"
    files.make_dir(folder)
    files.make_dir(folder)
    assert files.list(folder) == []
    files.close(files.open(folder / "b", create=True))
    files.close(files.open(folder / "a", create=True))
    files.fsync_dir(folder)
    assert files.list(folder) == ["a", "b"]
    files.unlink(folder / "a")
    assert files.list(folder) == ["b"]
    with pytest.raises(FileNotFoundError):
        files.unlink(folder / "a")
    assert files.free_bytes(tmp_path) > 0


def test_small_files_are_replaced_whole(files: FileLayer, tmp_path: Path) -> None:
    path = tmp_path / "fence.json"
    with pytest.raises(FileNotFoundError):
        files.read_file(path)
    (tmp_path / "fence.json.tmp").write_bytes(b"of a crash")
    files.replace_file(path, b"one")
    files.replace_file(path, b"two")
    assert files.read_file(path) == b"two"


def test_a_lock_is_held_by_one(files: FileLayer, tmp_path: Path) -> None:
    fd = files.lock(tmp_path / "lock")
    with pytest.raises(BlockingIOError):
        files.lock(tmp_path / "lock")
    files.close(fd)
    files.close(files.lock(tmp_path / "lock"))


def test_s2_the_disk_is_read_past_the_page_cache(tmp_path: Path) -> None:
    """The cache is told to forget nothing, and nothing new enters it. Red with a cached read."""
    files = RealFiles()
    path = tmp_path / "a"
    fd = files.open(path, create=True)
    files.pwritev(fd, [bytes(1 << 20)], 0)
    files.fdatasync(fd)
    files.drop_cache(fd)
    if _lies_in_memory(fd):
        pytest.skip("this file system is its page cache")
    assert len(files.read_disk(path, 0, 1 << 20)) == 1 << 20
    assert not _is_cached(files, fd)  # asked once: to ask starts a read-ahead
    files.preadv(fd, bytearray(1 << 20), 0)
    assert _is_cached(files, fd)
    assert len(files.read_disk(path, 0, 1 << 20)) == 1 << 20
    assert _is_cached(files, fd)
    files.close(fd)


def _is_cached(files: RealFiles, fd: int) -> bool:
    try:
        return files.preadv(fd, bytearray(4096), 8192, nowait=True) == 4096
    except BlockingIOError:
        return False


class Refusing:
    """os.preadv and os.open of a file system that lacks something, and a count of calls."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.nowait_calls = self.direct_calls = 0
        self.fstype = "tmpfs"
        self.device = os.stat(directory).st_dev
        self._preadv, self._open = os.preadv, os.open
        monkeypatch.setattr(os, "preadv", self.preadv)
        monkeypatch.setattr(os, "open", self.open)
        monkeypatch.setattr(Path, "read_text", self.mounts)

    def preadv(self, fd: int, buffers: Sequence[bytearray], offset: int, flags: int = 0) -> int:
        if flags & os.RWF_NOWAIT:
            self.nowait_calls += 1
            raise OSError(errno.EOPNOTSUPP, "not here")
        return self._preadv(fd, buffers, offset, flags)

    def open(self, path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_DIRECT:
            self.direct_calls += 1
            raise OSError(errno.EINVAL, "not here")
        return self._open(path, flags, mode)

    def mounts(self) -> str:
        number = f"{os.major(self.device)}:{os.minor(self.device)}"
        return (
            "21 1 0:99 / /proc rw,relatime - proc proc rw\n"
            f"36 1 {number} / / rw,relatime master:1 - {self.fstype} none rw,size=1k\n"
        )


@pytest.fixture
def refusing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Refusing:
    return Refusing(tmp_path, monkeypatch)


def test_without_nowait_memory_is_read_at_once(refusing: Refusing, tmp_path: Path) -> None:
    """Found on a tmpfs: every read failed. It is tried once, not at every read."""
    files = RealFiles()
    fd = files.open(tmp_path / "a", create=True)
    files.pwritev(fd, [b"abc"], 0)
    refusing.fstype = "tmpfs"
    for _ in range(3):
        assert files.preadv(fd, bytearray(3), 0, nowait=True) == 3
    assert refusing.nowait_calls == 1
    files.close(fd)


def test_without_nowait_a_disk_is_waited_for_in_the_pool(refusing: Refusing, tmp_path: Path) -> None:
    """Red when the fallback is a plain read: the event loop would wait for the disk."""
    files = RealFiles()
    fd = files.open(tmp_path / "a", create=True)
    files.pwritev(fd, [b"abc"], 0)
    refusing.fstype = "nfs4"
    for _ in range(3):
        with pytest.raises(BlockingIOError):
            files.preadv(fd, bytearray(3), 0, nowait=True)
        assert files.preadv(fd, bytearray(3), 0) == 3
    assert refusing.nowait_calls == 1
    files.close(fd)


def test_without_direct_reads_the_cache_is_dropped(refusing: Refusing, tmp_path: Path) -> None:
    files = RealFiles()
    fd = files.open(tmp_path / "a", create=True)
    files.pwritev(fd, [b"abcdef"], 0)
    for _ in range(3):
        assert bytes(files.read_disk(tmp_path / "a", 2, 9)) == b"cdef"
    assert refusing.direct_calls == 1
    files.close(fd)


def test_new_files_are_private(tmp_path: Path) -> None:
    files = RealFiles()
    fd = files.open(tmp_path / "a", create=True)
    assert os.fstat(fd).st_mode & 0o077 == 0
    assert not os.get_inheritable(fd)
    files.close(fd)
