"""One contract for every FileLayer: the machine's and the one that tests break."""

import errno
import os
from pathlib import Path

import pytest

from cluster.node.files import FileLayer, RealFiles
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


def test_new_files_are_private(tmp_path: Path) -> None:
    files = RealFiles()
    fd = files.open(tmp_path / "a", create=True)
    assert os.fstat(fd).st_mode & 0o077 == 0
    assert not os.get_inheritable(fd)
    files.close(fd)
