"""The data directory of ``trivet up``: what lies where, who holds it, which process is which.

::

    DIR/credentials          root access and secret key (0600), an AWS shared credentials file
    DIR/cluster.secret       what the processes prove to each other (0600), 64 hexadecimal digits
    DIR/catalog.sqlite       the catalog (with its -wal, -shm, .lock and ballast)
    DIR/node-1 … node-N      one storage node each, unless they were put elsewhere
    DIR/run/lock             held (flock) by the running `trivet up`
    DIR/run/*.pid            supervisor, front-1 …, node-1 …, steward
    DIR/run/*.sock           where node-1 … listen for fronts and steward
    DIR/run/metrics/         what each front has counted since the store's start (see s3front.metrics.slots)
    DIR/run/control.sock     where the supervisor hears the commands for people (see compose.control)
"""

from __future__ import annotations

import fcntl
import os
import time
from dataclasses import dataclass
from pathlib import Path

from compose.refusal import StartRefused


@dataclass(frozen=True, slots=True)
class DataDir:
    root: Path

    @property
    def credentials(self) -> Path:
        return self.root / "credentials"

    @property
    def cluster_secret(self) -> Path:
        return self.root / "cluster.secret"

    @property
    def catalog(self) -> Path:
        return self.root / "catalog.sqlite"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def metrics(self) -> Path:
        return self.run / "metrics"

    def node(self, number: int) -> Path:
        return self.root / f"node-{number}"

    def stored(self, directory: Path) -> str:
        """A node's directory as the catalog keeps it: relative inside the data directory, so that this can
        be moved as a whole.
        """
        root, directory = self.root.resolve(), directory.resolve()
        return str(directory.relative_to(root) if directory.is_relative_to(root) else directory)

    def home(self, stored: str) -> Path:
        """The inverse of `stored`."""
        return self.root.resolve() / stored

    @property
    def control(self) -> Path:
        return self.run / "control.sock"

    def pid_file(self, process: str) -> Path:
        return self.run / f"{process}.pid"

    def node_socket(self, process: str) -> Path:
        return self.run / f"{process}.sock"

    def hold(self, wait_s: float) -> int:
        """Makes the directory where it is missing and takes it for this process: a descriptor to keep open.

        Child processes inherit the descriptor, and the lock with it: while one of them still runs after
        its supervisor was killed, nobody else starts here. That is waited for, up to `wait_s`. Raises
        StartRefused when another `trivet up` holds the directory or it can't be written.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.run.mkdir(mode=0o700, exist_ok=True)
            lock = os.open(self.run / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartRefused(f"the data directory {self.root} can't be used: {error.strerror}") from error
        give_up_at = time.monotonic() + wait_s
        while not _locks(lock):
            holder = self._holder()
            if holder is None and time.monotonic() < give_up_at:
                time.sleep(0.1)  # flock has no time limit of its own
                continue
            os.close(lock)
            who = f"process {holder}" if holder else "what is left of a killed one"
            raise StartRefused(
                f"the data directory {self.root} is in use by a running trivet ({who}); stop that one "
                "first, or choose another directory: make up DATA=DIR"
            )
        return lock

    def _holder(self) -> int | None:
        """The supervisor that holds the directory, if it still runs."""
        try:
            pid = int(self.pid_file("supervisor").read_text())
            os.kill(pid, 0)
        except PermissionError:
            return pid
        except (OSError, ValueError):
            return None
        return pid


def _locks(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner reads; after a crash it is there whole or not at all."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
