"""A real PostgreSQL for tests: the machine's own server binaries, a data directory and a port of its own.

`postgres_server` (tests/conftest.py) is the one most tests use; tests that stop or kill a server make one.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from catalog import engine

CLUSTER_ID = b"cluster-of-tests"

_USER = "trivet"
_START_WAIT_S = 60.0
_POLL_S = 0.01
_NO_SERVER = "no PostgreSQL server binaries found: install the package postgresql"
_databases = count(1)


@cache
def binaries() -> Path | None:
    """The directory of the newest server's programs; None where there is none."""
    found = shutil.which("postgres")
    if found is not None:
        return Path(found).resolve().parent
    packaged = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    return max(packaged, key=lambda path: int(path.parent.name), default=None)


def required_binaries() -> Path:
    """The same; where there is none the test is skipped, and fails in CI (CI=true)."""
    found = binaries()
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(_NO_SERVER)
        pytest.skip(_NO_SERVER)
    return found


def _unprivileged() -> pwd.struct_passwd:
    """Whom the server runs as when the tests are root's, which it refuses to be."""
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise LookupError("neither postgres nor nobody is a user here")


class PostgresServer:
    """One server. It syncs as in operation (`fsync`), listens on 127.0.0.1 only, and ends with the test process,
    however that ends. Not started by construction."""

    def __init__(self, *, settings: Sequence[str] = (), host: str = "127.0.0.1") -> None:
        self._bin = required_binaries()
        self.host = host
        self.folder = Path(tempfile.mkdtemp(prefix="trivet-postgres-"))
        self.port = _free_port(host)
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._template: str | None = None
        if os.getuid() == 0:
            user = _unprivileged()
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        # With a language of its own, as servers have: its order of texts is not the order of their bytes.
        locale = ("--no-locale", "--locale-provider=icu", "--icu-locale=en-US")
        self._run("initdb", "-D", self._data, "-U", _USER, "-A", "trust", "-E", "UTF8", *locale, "-N")

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def _as_user(self, program: str, *arguments: str) -> list[str]:
        command = [str(self._bin / program), *arguments]
        # The parent's death is told to the server, which then ends at once.
        prefix = ["setpriv", "--pdeathsig", "QUIT"]
        if os.getuid() == 0:
            user = _unprivileged()
            prefix += [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        return [*prefix, "--", *command]

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            self._as_user(program, *arguments), cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"

    def start(self) -> None:
        """Returns when it takes connections."""
        assert self._process is None, "it runs"
        options = [
            f"listen_addresses={self.host}",
            f"port={self.port}",
            f"unix_socket_directories={self.folder}",
            "shared_buffers=32MB",
            "max_connections=100",
            *self._settings,
        ]
        arguments = [part for option in options for part in ("-c", option)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._as_user("postgres", "-D", self._data, *arguments),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_WAIT_S
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
            except psycopg.OperationalError:
                assert self._process.poll() is None, f"PostgreSQL did not start:\n{self.log()}"
                assert time.monotonic() < deadline, f"PostgreSQL does not answer:\n{self.log()}"
                time.sleep(_POLL_S)
            else:
                return

    def stop(self) -> None:
        """As an operator's restart does: its clients are cut off, what is committed is on the disk."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """As a crash does: all of its processes at once, and no shutdown checkpoint."""
        self._end(signal.SIGQUIT)

    def freeze(self) -> None:
        """As a disk that stalls does, to the last of its processes: connections stand, and nothing is answered."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """The stall is over."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, which: signal.Signals) -> None:
        assert self._process is not None, "it does not run"
        # The parent first: it starts no other while the rest of them are told.
        self._process.send_signal(which)
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        for child in children.split():
            try:
                os.kill(int(child), which)
            except ProcessLookupError:
                continue

    def restart(self) -> None:
        """Stop and start, on the same port."""
        self.stop()
        self.start()

    def dump_into(self, url: str, target: str) -> None:
        """Put all that is in one database into another, an empty one, by way of a dump."""
        dump = str(self.folder / "dump")
        self._run("pg_dump", "--format=custom", f"--file={dump}", url)
        self._run("pg_restore", f"--dbname={target}", "--exit-on-error", dump)

    def place_of(self, folder: Path) -> str:
        """The name of a new tablespace in a folder, which becomes the server's."""
        if os.getuid() == 0:
            user = _unprivileged()
            os.chown(folder, user.pw_uid, user.pw_gid)
        name = f"place_{next(_databases)}"
        self.execute(f"CREATE TABLESPACE {name} LOCATION '{folder}'")
        return name

    def close(self) -> None:
        """End it and remove its files."""
        if self._process is not None:
            self.thaw()
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, how: signal.Signals) -> None:
        assert self._process is not None, "it does not run"
        self._process.send_signal(how)
        self._process.wait(timeout=_START_WAIT_S)
        self._process = None

    @property
    def running(self) -> bool:
        """Whether it was started and not ended."""
        return self._process is not None

    def url(self, database: str) -> str:
        """Where a database of it is."""
        return f"postgresql://{_USER}@{self.host}:{self.port}/{database}"

    def log(self) -> str:
        """What it has said so far."""
        return (self.folder / "log").read_text(errors="replace")

    def execute(self, text: str, *, database: str = "postgres") -> list[tuple[object, ...]]:
        """One statement in autocommit, as the server's owner; its rows if it has any."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(text.encode())
            return cursor.fetchall() if cursor.description is not None else []

    def template(self) -> str:
        """The name of a database with a catalog as `engine.create` leaves it; nobody connects to it."""
        if self._template is None:
            url = empty_database(self)
            engine.create(url, cluster_id=CLUSTER_ID, nodes_hold_data=False)
            self._template = url.rsplit("/", 1)[1]
        return self._template


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def _database(server: PostgresServer, *, template: str, encoding: str = "UTF8") -> str:
    name = f"trivet_{next(_databases)}"
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} ENCODING {}").format(
        sql.Identifier(name), sql.Identifier(template), sql.Literal(encoding)
    )
    if encoding != "UTF8":
        statement += sql.SQL(" LOCALE_PROVIDER libc LOCALE 'C'")
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(statement)
    return server.url(name)


def empty_database(server: PostgresServer, *, encoding: str = "UTF8") -> str:
    """The URL of a new database without tables: for `trivet init` and the like."""
    return _database(server, template="template0", encoding=encoding)


def new_database(server: PostgresServer) -> str:
    """The URL of a new database with an empty catalog, which has an identity of its own."""
    url = _database(server, template=server.template())
    with psycopg.connect(url) as connection:
        connection.execute(
            "UPDATE meta SET catalog_id = %s, clock_ms = %s, created_ms = %s",
            (os.urandom(16), *(time.time_ns() // 1_000_000,) * 2),
        )
    return url


def drop_database(server: PostgresServer, url: str) -> None:
    """Remove it, whoever is connected."""
    name = sql.Identifier(url.rsplit("/", 1)[1])
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
