"""What the bench measures: a store of its own, and the floor; both started from the command line."""

from __future__ import annotations

import configparser
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from conformance.bench.plan import Endpoint

TRIVET = (sys.executable, "-m", "compose.cli.main")
# A store must not outlive a benchmark that was killed: SIGTERM when its parent is gone.
WITH_US = ("setpriv", "--pdeathsig", "TERM") if shutil.which("setpriv") else ()
LOST_NODE = "node-2"
STOP_WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Target:
    """A running endpoint, the keys to it, and its processes by name."""

    host: str
    port: int
    access_key: str
    secret_key: str = field(repr=False)
    pids: dict[str, int]
    data: Path = Path()
    """The store's directory."""

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.host, self.port, access_key=self.access_key, secret_key=self.secret_key)

    def lose_node(self) -> tuple[str, float]:
        """A node's disk dies: its process is killed and its directory goes at the same moment, so that the process
        which the supervisor starts in its place finds nothing and refuses. Its name, and when (time.perf_counter).
        """
        pid = int((self.data / "run" / f"{LOST_NODE}.pid").read_text())
        lost = self.data / f"{LOST_NODE}.lost"
        killed_at = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        (self.data / LOST_NODE).rename(lost)
        shutil.rmtree(lost)
        return LOST_NODE, killed_at


class TargetFailed(Exception):
    """It did not start, or did not stop."""


@contextlib.contextmanager
def running_store(data: Path, options: tuple[str, ...] = ()) -> Iterator[Target]:
    """A store in the directory `data` on a free port. Its log goes to `data`/../store.log."""
    with (data.parent / "store.log").open("wb") as log:
        process = subprocess.Popen(
            [*WITH_US, *TRIVET, "up", "--data", str(data), "--port", "0", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        url = urlsplit(_announced_endpoint(process))
        pids = {path.stem: int(path.read_text()) for path in sorted((data / "run").glob("*.pid"))}
        access_key, secret_key = _credentials(data / "credentials")
        assert url.hostname is not None
        assert url.port is not None
        yield Target(url.hostname, url.port, access_key, secret_key, pids, data)
    finally:
        _stop(process)


@contextlib.contextmanager
def running_floor() -> Iterator[Target]:
    """An empty Starlette application on the same HTTP server as the store's fronts."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        process = subprocess.Popen(
            [*WITH_US, *TRIVET, "floor", "--listen-fd", str(listener.fileno())], pass_fds=(listener.fileno(),)
        )
        host, port = listener.getsockname()
    try:
        # The connection is taken when the server has started: it waits in the socket's queue until then.
        with socket.create_connection((host, port), timeout=STOP_WAIT_S) as probe:
            probe.sendall(b"GET / HTTP/1.1\r\nHost: floor\r\nConnection: close\r\n\r\n")
            if not probe.recv(4096).startswith(b"HTTP/1.1 200"):
                raise TargetFailed("the floor did not answer")
        yield Target(host, port, "", "", {"floor": process.pid})
    finally:
        _stop(process)


def _announced_endpoint(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        found = re.match(r"\s*endpoint\s+(http://\S+)", line.decode())
        if found:
            return found.group(1)
    raise TargetFailed(f"the store did not start (exit code {process.wait()})")


def _credentials(path: Path) -> tuple[str, str]:
    parser = configparser.RawConfigParser()
    parser.read(path)
    section = parser["trivet"]
    return section["aws_access_key_id"], section["aws_secret_access_key"]


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.communicate(timeout=STOP_WAIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise TargetFailed("did not stop when it was told to") from None
