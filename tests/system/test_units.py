"""The systemd units for real: each command and environment as the unit has it, with a test in systemd's place."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import boto3
import pytest

from tests.system.conftest import CLEAN_CONFIG, ROOT, STOP_WAIT_S, WITH_US, is_running, own_environment, until

UNITS = ROOT / "compose" / "systemd"
INSTALLED = "/opt/trivet/bin/trivet"
SECRETS = {
    "root_access_key": "root-of-the-units",
    "root_secret_key": "hush-this-is-secret",
    "metrics_token": "hush-this-scrapes",
}
BEAT_S = 0.5


class Unit:
    """What a unit file says of its process."""

    def __init__(self, name: str, instance: str = "") -> None:
        self._text = (UNITS / name).read_text().replace("%i", instance)

    def value(self, key: str) -> str:
        (found,) = re.findall(rf"^{key}=(.*)$", self._text, re.MULTILINE)
        return str(found)

    def command(self) -> list[str]:
        """The installed program is this checkout's."""
        program, *words = self.value("ExecStart").split()
        assert program == INSTALLED
        return [sys.executable, "-m", "compose.cli.main", *words]

    def environment(self, home: Path) -> dict[str, str]:
        """With `home` as the state directory."""
        pairs = re.findall(r"^Environment=(\w+)=(\S+)$", self._text, re.MULTILINE)
        assert self.value("StateDirectory") == "trivet"
        return own_environment({name: text.replace("/var/lib/trivet", str(home)) for name, text in pairs})


class Manager:
    """systemd's ear."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(60)
        self.environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": str(int(2_000_000 * BEAT_S))}

    def hear(self) -> str:
        return self._socket.recv(1000).decode()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with closing(Manager(tmp_path / "notify")) as made:
        yield made


@contextmanager
def started(
    command: list[str], environment: dict[str, str], log: Path, folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Ends with the block, whatever happens; in the working directory that systemd would give it."""
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [*WITH_US, *command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_WAIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()


def _configuration(tmp_path: Path, port: int) -> Path:
    """What stands in /etc/trivet: the file, and the secrets in files of their own."""
    lines = [f"port = {port}", "fronts = 1", 'region = "eu-west-1"']
    for name, secret in SECRETS.items():
        (tmp_path / name).write_text(secret + "\n")
        (tmp_path / name).chmod(0o600)
        lines.append(f'{name}_file = "{tmp_path / name}"')
    file = tmp_path / "trivet.toml"
    file.write_text("\n".join(lines))
    return file


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _processes(home: Path) -> list[int]:
    return [int(path.read_text()) for path in (home / "run").glob("*.pid")]


def _visible(pids: list[int]) -> bytes:
    """What `ps` shows of them to everybody."""
    return b"\n".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids)


def test_the_store_of_one_machine(tmp_path: Path, manager: Manager) -> None:
    """It says that it is ready when it is, beats, keeps its secrets, and ends its work on SIGTERM.

    Red when READY=1 is said before the endpoint answers, when the supervisor does not beat, and when the file's
    credentials do not reach the fronts.
    """
    unit, home, port = Unit("trivet.service"), tmp_path / "state", _free_port()
    environment = {
        **unit.environment(home),
        **manager.environment,
        "TRIVET_CONFIG": str(_configuration(tmp_path, port)),
    }
    log = tmp_path / "log"
    with started(unit.command(), environment, log, tmp_path) as process:
        assert manager.hear() == "READY=1", log.read_text()
        client = boto3.session.Session().client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="eu-west-1",
            aws_access_key_id=SECRETS["root_access_key"],
            aws_secret_access_key=SECRETS["root_secret_key"],
            config=CLEAN_CONFIG,
        )
        with closing(client):
            client.create_bucket(
                Bucket="units", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
            )
            client.put_object(Bucket="units", Key="key", Body=b"body")
            assert client.get_object(Bucket="units", Key="key")["Body"].read() == b"body"
        with pytest.raises(urllib.error.HTTPError, match=r"401|403"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/-/metrics")
        assert [manager.hear() for _ in range(3)] == ["WATCHDOG=1"] * 3
        pids = _processes(home)
        assert len(pids) == 6, "supervisor, three nodes, steward, front"
        seen = _visible(pids)
        process.send_signal(signal.SIGTERM)
        heard = manager.hear()
        while heard == "WATCHDOG=1":
            heard = manager.hear()
        assert heard == "STOPPING=1"
        assert process.wait(STOP_WAIT_S) == 0
        until(lambda: not any(is_running(pid) for pid in pids), "all processes are gone")
    for name in ("root_secret_key", "metrics_token"):
        assert SECRETS[name].encode() not in seen + log.read_bytes()
    assert float(unit.value("TimeoutStopSec")) > 3 * 10, "three stages, and each may take stop_wait_s"


def test_a_mistake_is_not_tried_again_and_again(tmp_path: Path) -> None:
    """systemd restarts what failed, but not with an exit code that says that it is of no use."""
    unit = Unit("trivet.service")
    file = tmp_path / "trivet.toml"
    file.write_text("prot = 9000")
    environment = {**unit.environment(tmp_path / "state"), "TRIVET_CONFIG": str(file)}
    with started(unit.command(), environment, tmp_path / "log", tmp_path) as process:
        assert process.wait(STOP_WAIT_S) == int(unit.value("RestartPreventExitStatus"))
    assert "write port, or remove the line" in (tmp_path / "log").read_text()
    assert not (tmp_path / "state").exists()


@pytest.mark.skipif(
    shutil.which("systemd-socket-activate") is None,
    reason="systemd-socket-activate is not installed (package systemd)",
)
def test_a_front_takes_the_socket_of_its_unit(tmp_path: Path, manager: Manager) -> None:
    """The first connection starts it, and is answered. Red when it listens on a port of its own."""
    unit, home, port = Unit("trivet-front.service"), tmp_path / "state", _free_port()
    environment = {**unit.environment(home), "TRIVET_CONFIG": str(_configuration(tmp_path, port))}
    init = [sys.executable, "-m", "compose.cli.main", "init"]
    subprocess.run(init, env=environment, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    # What it does not know of it does not pass on.
    passed = [f"--setenv={name}" for name in environment if name.startswith(("TRIVET_", "PYTHON"))]
    told = [f"--setenv={name}={text}" for name, text in manager.environment.items()]
    command = ["systemd-socket-activate", f"--listen=127.0.0.1:{port}", *passed, *told, *unit.command()]
    log = tmp_path / "log"
    with started(command, environment, log, tmp_path) as process:
        until(lambda: b"Listening on" in log.read_bytes(), "systemd-socket-activate listens")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/health/live", timeout=30) as answer:
            assert answer.status == 200
        assert manager.hear() == "READY=1"
        assert manager.hear() == "WATCHDOG=1"
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_WAIT_S) == 0, log.read_text()
    assert re.search(r"^ListenStream=\d+$", (UNITS / "trivet-front.socket").read_text(), re.MULTILINE)


def test_a_steward_by_itself(tmp_path: Path, manager: Manager) -> None:
    unit, home = Unit("trivet-steward.service"), tmp_path / "state"
    environment = {**unit.environment(home), **manager.environment}
    init = [sys.executable, "-m", "compose.cli.main", "init"]
    subprocess.run(init, env=environment, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    with started(unit.command(), environment, tmp_path / "log", tmp_path) as process:
        assert manager.hear() == "READY=1", (tmp_path / "log").read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_WAIT_S) == 0


def test_a_node_is_told_its_name_and_its_place() -> None:
    """tests/hosts run such nodes; here it is that the unit gives each instance its own."""
    unit = Unit("trivet-node@.service", "node-7")
    assert unit.command()[3:] == ["node", "--dir", "/var/lib/trivet/node-7"]
    assert unit.environment(Path("/var/lib/trivet"))["TRIVET_NODE_NAME"] == "node-7"
    assert unit.value("EnvironmentFile") == "-/etc/trivet/node-7.env"
    assert "%" not in unit.value("ExecStart")
    assert os.path.isabs(unit.value("ExecStart"))
