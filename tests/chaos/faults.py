"""Faults for a running store. Never more than one node is hit at a time, which is what m = 1 promises to bear."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from tests.system.conftest import Store, is_running, until

NODES = 3
_RESTART_S_MAX = 60.0


def node_name(number: int) -> str:
    return f"node-{number}"


def kill(store: Store, process: str) -> None:
    """SIGKILL; returns when the supervisor has started it again."""
    old = store.pids()[process]
    os.kill(old, signal.SIGKILL)
    until(lambda: not is_running(old), f"{process} is gone")
    until(lambda: store.pids().get(process, old) != old, f"{process} is back", _RESTART_S_MAX)


@contextmanager
def frozen(store: Store, process: str) -> Iterator[None]:
    """SIGSTOP until the end of the block. The supervisor kills what stands still for too long."""
    pid = store.pids()[process]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def flip_bits(directory: Path, random: Random, count: int) -> int:
    """Flip `count` bits in the segment files of a node, behind its back; how many were flipped."""
    segments = [
        path for path in sorted((directory / "segments").glob("*.seg")) if path.stat().st_size > 65_536
    ]
    for _ in range(count if segments else 0):
        path = random.choice(segments)
        # Not in the first record: a segment's own header is the node's business, not a block.
        at = random.randrange(4096, path.stat().st_size)
        with path.open("r+b") as file:
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ 1 << random.randrange(8)]))
    return count if segments else 0


class SmallDisk:
    """A tmpfs of its own for one node, which can be filled up. Needs root."""

    def __init__(self, folder: Path, size_bytes: int) -> None:
        self.folder = folder
        self._filler = folder / "filler"
        folder.mkdir(parents=True)
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "trivet-test", str(folder)], check=True
        )

    @staticmethod
    def possible() -> bool:
        """Whether this process may mount."""
        return os.geteuid() == 0 and shutil.which("mount") is not None

    @contextmanager
    def full(self) -> Iterator[None]:
        """Nothing fits on it any more until the end of the block."""
        with self._filler.open("wb") as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 20))
                file.flush()
        try:
            yield
        finally:
            self._filler.unlink()

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


class Cable:
    """A Unix socket in front of a node's: what passes can be cut, or held up as by a network that loses all."""

    def __init__(self, path: Path, target: str) -> None:
        self.path = path
        self._target = target
        self._flows = threading.Event()
        self._flows.set()
        self._cut = False
        self._sockets: set[socket.socket] = set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        threading.Thread(target=self._serve, daemon=True).start()

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Connections break and none can be made until the end of the block."""
        self._cut = True
        self._break()
        try:
            yield
        finally:
            self._cut = False

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Not a byte passes until the end of the block; connections seem to stand."""
        self._flows.clear()
        try:
            yield
        finally:
            self._flows.set()

    def close(self) -> None:
        self._cut = True
        self._flows.set()
        self._listener.close()
        self._break()
        self.path.unlink(missing_ok=True)

    def _break(self) -> None:
        for each in list(self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                try:
                    if self._cut:
                        raise ConnectionRefusedError
                    far.connect(self._target)
                except OSError:
                    near.close()
                    far.close()
                    continue
                self._sockets |= {near, far}
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(1 << 18):
                self._flows.wait()
                sink.sendall(data)
        except OSError:
            pass  # one end broke; both are closed below
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._sockets.discard(source)
        source.close()


Fault = Callable[[], contextlib.AbstractContextManager[None]]
