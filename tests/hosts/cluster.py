"""A store whose processes are started one by one, each on a host of its own or all on this one."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from tests.system.conftest import ROOT, STOP_WAIT_S, TRIVET, WITH_US, own_environment, until

ACCESS_KEY, SECRET_KEY = "root-of-hosts", "hush-this-is-secret"


@dataclass
class Process:
    """One process, with what starts it again."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    log_path: Path
    ready: str
    """Stands in its log when it can work."""
    listener: socket.socket | None = None
    running: subprocess.Popen[bytes] | None = field(default=None)
    seen: int = 0

    def start(self) -> None:
        assert self.running is None, f"{self.name} runs already"
        self.seen = len(self.log())
        descriptors = () if self.listener is None else (self.listener.fileno(),)
        with self.log_path.open("ab") as log:
            self.running = subprocess.Popen(
                [*WITH_US, *self.command],
                cwd=ROOT,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=descriptors,
                start_new_session=True,
            )

    def log(self) -> str:
        return self.log_path.read_text() if self.log_path.exists() else ""

    def until_ready(self) -> None:
        until(lambda: self.ready in self.log()[self.seen :], f"{self.name} is ready", 30)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """The exit code; 0 when it does not run."""
        if self.running is None:
            return 0
        self.running.send_signal(number)
        try:
            return self.running.wait(STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            self.running.kill()
            self.running.wait()
            raise
        finally:
            self.running = None

    def restart(self) -> None:
        """As systemd does it; fails when the process does not leave in good order."""
        assert self.stop() == 0, self.log()
        self.start()


class Cluster:
    """`folder` holds everything; `catalog` is a URL, or empty for the file."""

    def __init__(self, folder: Path, catalog: str = "") -> None:
        self.folder = folder
        self.data = folder / "data"
        self.token = folder / "token"
        self.processes: dict[str, Process] = {}
        self._environment = own_environment(
            {
                "TRIVET_DATA": str(self.data),
                "TRIVET_CONFIG": "none",
                "TRIVET_CATALOG": catalog,
                "TRIVET_CATALOG_COPIES": "0",
                "TRIVET_ROOT_ACCESS_KEY": ACCESS_KEY,
                "TRIVET_ROOT_SECRET_KEY": SECRET_KEY,
                "TRIVET_REBUILD_AFTER_S": "3600",
            }
        )

    def found(self) -> None:
        self.command("init")
        self.token.touch(0o600)
        self.token.write_text(self.command("token"))
        self._environment["TRIVET_JOIN_TOKEN_FILE"] = str(self.token)

    def command(self, *arguments: str) -> str:
        done = subprocess.run(
            [*TRIVET, *arguments],
            env=self._environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def nodes(self) -> dict[str, str]:
        """State by name, as the catalog has it."""
        import json

        listed = json.loads(self.command("node", "list", "--json"))
        rows = listed["nodes"] if isinstance(listed, dict) else listed
        return {row["name"]: row["state"] for row in rows}

    def add(
        self,
        name: str,
        arguments: Sequence[str],
        ready: str,
        *,
        inside: Sequence[str] = (),
        listener: socket.socket | None = None,
    ) -> Process:
        """A process, started."""
        process = Process(
            name,
            [*inside, *TRIVET, *arguments],
            self._environment,
            self.folder / f"{name}.log",
            ready,
            listener,
        )
        self.processes[name] = process
        process.start()
        return process

    def add_node(self, name: str, address: str, fronts: str, inside: Sequence[str] = ()) -> Process:
        arguments = (
            *("node", "--node-name", name, "--region", f"r-{name}", "--dir", str(self.folder / name)),
            *("--listen", address, "--join", fronts),
        )
        return self.add(name, arguments, "joined by", inside=inside)

    def add_steward(self, name: str, inside: Sequence[str] = ()) -> Process:
        return self.add(name, ("steward", "--name", name), "", inside=inside)

    def add_front(
        self, name: str, listener: socket.socket, inside: Sequence[str] = (), region: str = "us-east-1"
    ) -> Process:
        arguments = ("front", "--name", name, "--region", region, "--listen-fd", str(listener.fileno()))
        return self.add(name, arguments, "serves S3 at", inside=inside, listener=listener)

    def close(self) -> None:
        for process in self.processes.values():
            if process.running is not None:
                process.running.send_signal(signal.SIGCONT)
                process.stop(signal.SIGKILL)
            if process.listener is not None:
                process.listener.close()


def client(endpoint: str, config: Config) -> Any:
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=config,
    )
