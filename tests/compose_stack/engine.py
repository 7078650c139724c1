"""A Docker engine: the one that is reachable, or one of our own that ends with the test run."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.conftest import WITH_US

_START_WAIT_S = 60.0
_STOP_WAIT_S = 60.0


class Engine:
    """Where `docker` and Compose go. `environment` has what an index of packages needs in a build, and no settings."""

    def __init__(self, host: str) -> None:
        # docker-compose 1.29 is written in Python, with a package called as one of ours: no PYTHONPATH to this tree.
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("TRIVET_") and name != "PYTHONPATH"
        }
        self.environment = {**kept, "DOCKER_HOST": host} if host else kept

    def docker(self, *arguments: str, wait_s: float = 300) -> str:
        """What it prints; fails with what it complains about."""
        return run(["docker", *arguments], self.environment, wait_s)

    def has_image(self, tag: str) -> bool:
        return bool(self.docker("image", "ls", "--quiet", tag).strip())

    def answers(self) -> bool:
        asked = subprocess.run(
            ["docker", "info"], env=self.environment, capture_output=True, check=False, timeout=60
        )
        return asked.returncode == 0


@contextmanager
def reachable_engine(folder: Path) -> Iterator[Engine]:
    """Skips the test, with the reason, where no engine can run."""
    if shutil.which("docker") is None:
        pytest.skip("Docker is not installed (Debian: apt-get install docker.io)")
    theirs = Engine(os.environ.get("DOCKER_HOST", ""))
    if theirs.answers():
        yield theirs
        return
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("no Docker engine is reachable, and only root can start one (dockerd)")
    with _own_engine(folder) as ours:
        yield ours


@contextmanager
def _own_engine(folder: Path) -> Iterator[Engine]:
    folder.mkdir()
    host, log_path = f"unix://{folder}/docker.sock", folder / "log"
    with log_path.open("wb") as log:
        engine = subprocess.Popen(
            [
                *(*WITH_US, "dockerd", "--host", host, "--pidfile", str(folder / "pid")),
                *("--data-root", str(folder / "data"), "--exec-root", str(folder / "exec")),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        ours, give_up_at = Engine(host), time.monotonic() + _START_WAIT_S
        while not ours.answers():
            if engine.poll() is not None or time.monotonic() > give_up_at:
                last_lines = log_path.read_text().splitlines()[-5:]
                pytest.skip("no Docker engine can run here: " + "; ".join(last_lines))
            time.sleep(0.2)
        yield ours
    finally:
        engine.terminate()
        try:
            engine.wait(_STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            engine.kill()
            engine.wait()


def run(command: Sequence[str], environment: Mapping[str, str], wait_s: float) -> str:
    """What it prints; fails with what it complains about."""
    done = subprocess.run(
        command,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=wait_s,
    )
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
    return done.stdout
