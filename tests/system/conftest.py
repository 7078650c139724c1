"""Real stores for tests: `trivet up` in a temporary directory on a free port, stopped by its process id.

Their catalog is a file, as people have it who set nothing. With TRIVET_TEST_CATALOG=postgresql in the environment each
of them has a database of its own on a real PostgreSQL, and at least two fronts: the same tests, word for word.
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config

from tests import service_model
from tests.compose import in_process
from tests.postgres import PostgresServer, empty_database

ROOT = Path(__file__).resolve().parents[2]
TRIVET = (sys.executable, "-m", "compose.cli.main")
STOP_WAIT_S = 40.0
# A store must not outlive a test run that was killed: SIGTERM when its parent is gone.
WITH_US = ("setpriv", "--pdeathsig", "TERM") if shutil.which("setpriv") else ()
ON_POSTGRESQL = {"": False, "postgresql": True}[os.environ.get("TRIVET_TEST_CATALOG", "")]
embedded_only = pytest.mark.skipif(ON_POSTGRESQL, reason="about a catalog that is a file")
_FRONTS = {"TRIVET_FRONTS": "2"} if ON_POSTGRESQL else {}
"""For stores whose test says nothing of them."""
CLEAN_CONFIG = Config(retries={"total_max_attempts": 1}, connect_timeout=10, read_timeout=60)


def own_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without settings and credentials that would lead a store or a client
    astray.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TRIVET_", "AWS_", "RCLONE_"))
    }
    return {**kept, "PYTHONPATH": str(ROOT), "TRIVET_CONFIG": "none", **(extra or {})}


def until(condition: Callable[[], bool], what: str, wait_s: float = 30.0) -> None:
    """Waits for a condition in another process; fails naming it."""
    give_up_at = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < give_up_at, f"not within {wait_s} s: {what}"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Whether the process exists and is more than a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Store:
    """One `trivet up`. `start` may be called again after `stop` or `kill_all`: same data, another port."""

    server: ClassVar[PostgresServer | None] = None
    """Where the catalogs are; None: in the stores' own directories."""

    def __init__(
        self, folder: Path, options: tuple[str, ...] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        self.data = folder / "data"
        self.log_path = folder / "store.log"
        self.banner = ""
        self.endpoint = ""
        self.access_key = ""
        self.secret_key = ""
        self.place: dict[str, str] = {}
        """What a command about this store must find in its environment beside `--data`."""
        self._options = options
        if self.server is not None:
            self.place = {"TRIVET_CATALOG": empty_database(self.server)}
        self._environment = own_environment({**_FRONTS, **(environment or {}), **self.place})
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: list[Any] = []
        self._plain_client: Any = None

    def start(self) -> None:
        """Returns when the endpoint is printed; fails with the log when that does not happen."""
        assert self._process is None, "it runs already"
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*WITH_US, *TRIVET, "up", "--data", str(self.data), "--port", "0", *self._options],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        self.banner = ""
        for line in self._process.stdout:
            self.banner += line.decode()
            if line.strip().endswith(b"s3 ls"):
                break
        found = re.search(r"^  endpoint +(\S+)$", self.banner, re.MULTILINE)
        assert found, f"the store did not start:\n{self.log()}"
        self.endpoint = found.group(1)
        self._read_credentials()

    def _read_credentials(self) -> None:
        self.access_key = self._environment.get("TRIVET_ROOT_ACCESS_KEY", "")
        self.secret_key = self._environment.get("TRIVET_ROOT_SECRET_KEY", "")
        if not self.access_key:
            parser = configparser.RawConfigParser()
            parser.read(self.data / "credentials")
            self.access_key = parser["trivet"]["aws_access_key_id"]
            self.secret_key = parser["trivet"]["aws_secret_access_key"]

    def log(self) -> str:
        return self.log_path.read_text()

    def trivet(self, *words: str) -> in_process.Done:
        """A command for people about this store, in this process."""
        return in_process.trivet(self.data, *words, environment=self.place)

    @property
    def catalog(self) -> Path | str:
        """For `Catalog.open`: the file, or the database's URL."""
        return self.place.get("TRIVET_CATALOG") or self.data / "catalog.sqlite"

    def catalog_files(self) -> list[Path]:
        """All that the disk has of the catalog; of a database, all that its server has."""
        if self.server is None:
            return list(self.data.glob("catalog.sqlite*"))
        return [path for path in self.server.folder.rglob("*") if path.is_file()]

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def pids(self) -> dict[str, int]:
        """Each running process of the store by the name of its pid file; only processes that are ours."""
        found = {}
        for path in (self.data / "run").glob("*.pid"):
            try:
                pid = int(path.read_text() or 0)
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if b"compose.cli.main" in command:
                found[path.stem] = pid
        return found

    def client(self, *, config: Config | None = None, host: str = "") -> Any:
        """A boto3 client; the plain one is made once. It is closed with the store."""
        if config is None and not host and self._plain_client is not None:
            return self._plain_client
        made = self.unmanaged_client(CLEAN_CONFIG.merge(config) if config else CLEAN_CONFIG, host)
        self._clients.append(made)
        if config is None and not host:
            self._plain_client = made
        return made

    def unmanaged_client(self, config: Config, host: str = "") -> Any:
        """A boto3 client that its user closes; may be called from any thread. Its answers are held to AWS's model."""
        parts = urlsplit(self.endpoint)
        client = boto3.session.Session().client(
            "s3",
            endpoint_url=f"http://{host or parts.hostname}:{parts.port}",
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=config,
        )
        service_model.watch(client)
        return client

    def client_environment(self, home: Path) -> dict[str, str]:
        """What aws-cli and rclone need to reach this store and nothing else."""
        return own_environment(
            {
                "HOME": str(home),
                "AWS_ACCESS_KEY_ID": self.access_key,
                "AWS_SECRET_ACCESS_KEY": self.secret_key,
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_ENDPOINT_URL": self.endpoint,
                "AWS_EC2_METADATA_DISABLED": "true",
                "RCLONE_CONFIG": str(home / "rclone.conf"),
                "RCLONE_CONFIG_TRIVET_TYPE": "s3",
                "RCLONE_CONFIG_TRIVET_PROVIDER": "Other",
                "RCLONE_CONFIG_TRIVET_ENDPOINT": self.endpoint,
                "RCLONE_CONFIG_TRIVET_REGION": "us-east-1",
                "RCLONE_CONFIG_TRIVET_ENV_AUTH": "true",
            }
        )

    def interrupt(self) -> int:
        """Ctrl-C as a terminal sends it, to the foreground process group; the exit code."""
        os.killpg(self.pid, signal.SIGINT)
        return self._wait()

    def stop(self) -> int:
        """SIGTERM; the exit code. Nothing happens when it does not run."""
        if self._process is None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        return self._wait()

    def kill_all(self) -> None:
        """SIGKILL to every process at once, as a power cut would end them."""
        pids = self.pids()
        for pid in sorted(pids.values()):
            os.kill(pid, signal.SIGKILL)
        self._wait()
        until(lambda: not any(is_running(pid) for pid in pids.values()), "all processes are gone")

    def _wait(self) -> int:
        assert self._process is not None
        self.close_clients()
        try:
            code = self._process.wait(STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            for pid in self.pids().values():
                os.kill(pid, signal.SIGKILL)
            self._process.wait()
            raise AssertionError(f"did not stop within {STOP_WAIT_S} s:\n{self.log()}") from None
        finally:
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None
        return code

    def close_clients(self) -> None:
        for client in self._clients:
            client.close()
        self._clients.clear()
        self._plain_client = None


@pytest.fixture(scope="session", autouse=True)
def _catalogs(request: pytest.FixtureRequest) -> None:
    if ON_POSTGRESQL:
        Store.server = request.getfixturevalue("postgres_server")


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One store for all tests that only use it; each test makes its own bucket."""
    shared = Store(tmp_path_factory.mktemp("store"))
    shared.start()
    yield shared
    shared.stop()


@pytest.fixture
def new_store(tmp_path: Path) -> Iterator[Callable[..., Store]]:
    """Makes stores that a test may kill: `new_store(options, environment)`, not yet started."""
    made: list[Store] = []

    def make(options: tuple[str, ...] = (), environment: Mapping[str, str] | None = None) -> Store:
        folder = tmp_path / f"store-{len(made)}"
        folder.mkdir()
        made.append(Store(folder, options, environment))
        return made[-1]

    yield make
    for each in made:
        each.stop()
