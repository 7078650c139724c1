"""The file lock: exclusive, fair, released by death."""

import fcntl
import signal
from pathlib import Path

from catalog.lock import FileLock
from tests.catalog.making import start_child, wait_for_line


def _wait_until_someone_queues(path: Path) -> None:
    with path.with_name(path.name + ".turn").open("w") as turn:
        while True:
            try:
                fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            fcntl.flock(turn, fcntl.LOCK_UN)


def test_only_one_holds_the_lock(tmp_path: Path) -> None:
    """Also within one process."""
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.try_acquire()
    assert not second.try_acquire()
    first.release()
    assert second.try_acquire()
    second.close()
    assert first.try_acquire()
    first.close()


def test_s16_whoever_releases_the_lock_queues_behind_whoever_waits(tmp_path: Path) -> None:
    """The waiting process is stopped, so that it can't be the quicker one. Break caught: a `try_acquire` that
    does not look at the turnstile wins the lock back."""
    lock = FileLock(tmp_path / "catalog.lock")
    assert lock.try_acquire()
    with start_child("hold", str(tmp_path / "catalog.sqlite")) as child:
        _wait_until_someone_queues(tmp_path / "catalog.lock")
        child.send_signal(signal.SIGSTOP)
        lock.release()
        won = lock.try_acquire()
        child.send_signal(signal.SIGCONT)
        lock.release()
        wait_for_line(child, "held")
        child.kill()
    assert not won
    lock.close()


def test_s16_a_dead_holder_holds_nothing(tmp_path: Path) -> None:
    """SIGKILL, as the supervisor does it to a frozen front."""
    lock = FileLock(tmp_path / "catalog.lock")
    with start_child("hold", str(tmp_path / "catalog.sqlite")) as child:
        wait_for_line(child, "held")
        assert not lock.try_acquire()
        child.kill()
    lock.acquire()
    lock.close()
