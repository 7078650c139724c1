"""`trivet up` as a person meets it: start, refusals, deaths of processes, stop."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.system.conftest import ROOT, TRIVET, Store, embedded_only, is_running, own_environment, until

PROCESSES = {"supervisor", "front-1", "node-1", "node-2", "node-3", "steward"}
Maker = Callable[..., Store]


def refused(*options: str, environment: dict[str, str] | None = None) -> str:
    """What a start that must fail says on stderr."""
    finished = subprocess.run(
        [*TRIVET, "up", *options],
        cwd=ROOT,
        env=own_environment(environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode != 0
    assert finished.stdout == ""
    return finished.stderr


def put_and_get(store: Store, key: str) -> None:
    client = store.client()
    client.put_object(Bucket="kept", Key=key, Body=b"kept " + key.encode())
    assert client.get_object(Bucket="kept", Key=key)["Body"].read() == b"kept " + key.encode()


def serves(store: Store, key: str) -> bool:
    try:
        put_and_get(store, key)
    except ClientError:
        return False
    return True


def test_up_prints_what_a_person_needs_and_logs_no_secret(new_store: Maker) -> None:
    store = new_store(("--fronts", "1"))
    store.start()
    assert set(store.pids()) == PROCESSES
    assert store.access_key in store.banner
    assert store.secret_key in store.banner
    assert str(store.data / "credentials") in store.banner
    assert stat.S_IMODE((store.data / "credentials").stat().st_mode) == 0o600
    assert {"credentials", "node-1", "node-2", "node-3", "run"} <= set(os.listdir(store.data))
    assert store.catalog_files()
    store.client().create_bucket(Bucket="kept")
    assert store.secret_key not in store.log()
    for name, pid in store.pids().items():
        command = Path(f"/proc/{pid}/cmdline").read_text()
        assert store.secret_key not in command, name


def test_the_printed_aws_line_works(store: Store, tmp_path: Path) -> None:
    line = store.banner.strip().splitlines()[-1].strip()
    aws = shlex.quote(shutil.which("aws", path=str(Path(TRIVET[0]).parent)) or "aws")
    finished = subprocess.run(
        ["bash", "-c", re.sub(r" aws ", f" {aws} ", line, count=1)],
        env=own_environment({"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (0, "")


def test_ctrl_c_stops_every_process_and_the_next_run_works(new_store: Maker) -> None:
    store = new_store()
    store.start()
    store.client().create_bucket(Bucket="kept")
    put_and_get(store, "before")
    pids = store.pids()
    assert store.interrupt() == 0
    assert not any(is_running(pid) for pid in pids.values())
    assert os.listdir(store.data / "run") == ["lock"]
    ends = re.findall(r"(\S+) (?:ended|did not stop)", store.log())
    assert not ends, "it was a clean stop of each"
    store.start()
    assert store.client().get_object(Bucket="kept", Key="before")["Body"].read() == b"kept before"


def test_a_taken_port_is_named_and_nothing_is_created(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = refused("--port", str(port), "--data", str(tmp_path / "data"))
    assert f"port {port}" in said
    assert "PORT=" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_a_data_directory_in_use_is_refused(store: Store) -> None:
    said = refused("--port", "0", "--data", str(store.data))
    assert f"process {store.pid}" in said
    assert said.count("\n") == 1
    assert store.client().list_buckets()["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_half_a_pair_of_credentials_is_refused_before_anything_is_created(tmp_path: Path) -> None:
    said = refused("--data", str(tmp_path / "data"), environment={"TRIVET_ROOT_ACCESS_KEY": "root"})
    assert "TRIVET_ROOT_SECRET_KEY is not" in said
    assert not (tmp_path / "data").exists()


def test_credentials_from_the_environment(new_store: Maker) -> None:
    store = new_store((), {"TRIVET_ROOT_ACCESS_KEY": "operator", "TRIVET_ROOT_SECRET_KEY": "a-given-secret"})
    store.start()
    store.client().create_bucket(Bucket="kept")
    assert not (store.data / "credentials").exists()
    assert "a-given-secret" not in store.banner + store.log()


@pytest.mark.parametrize("name", ["front-1", "node-2", "steward"])
def test_a_process_that_dies_is_started_again_and_the_log_says_so(store: Store, name: str) -> None:
    before = store.pids()[name]
    os.kill(before, signal.SIGKILL)
    until(lambda: store.pids().get(name, before) != before, f"{name} runs again")
    until(lambda: store.log().count(f"{name} is ready") >= 2, f"{name} is ready again")
    assert f"{name} ended (SIGKILL): starting it again" in store.log()
    client = store.client()
    client.create_bucket(Bucket=f"restart-{name}")
    until(lambda: _puts(client, f"restart-{name}"), "writes work again")


def _puts(client: object, bucket: str) -> bool:
    try:
        client.put_object(Bucket=bucket, Key="x", Body=b"x")  # type: ignore[attr-defined]
    except ClientError:
        return False
    return True


def test_children_end_when_the_supervisor_is_killed(new_store: Maker) -> None:
    store = new_store()
    store.start()
    store.client().create_bucket(Bucket="kept")
    pids = store.pids()
    os.kill(pids.pop("supervisor"), signal.SIGKILL)
    until(lambda: not any(is_running(pid) for pid in pids.values()), "children end by themselves")
    store.stop()
    store.start()
    put_and_get(store, "after")


def test_a_node_process_loads_no_sql_no_coding_no_http(store: Store, tmp_path: Path) -> None:
    """Shared objects of a running node, and every module that its command imports before it serves."""
    maps = Path(f"/proc/{store.pids()['node-1']}/maps").read_text()
    for library in ("sqlite", "erasurecode", "isal", "httptools", "lxml", "sqlalchemy"):
        assert library not in maps
    command = [TRIVET[0], "-X", "importtime", *TRIVET[1:], "node", "--dir", str(tmp_path / "none")]
    ids = ["--cluster-id", "00" * 16, "--node-id", "00" * 16]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        finished = subprocess.run(
            [*command, *ids, "--listen-fd", str(listener.fileno())],
            cwd=ROOT,
            env=own_environment({"TRIVET_DATA": str(store.data)}),
            pass_fds=(listener.fileno(),),
            capture_output=True,
            text=True,
            check=False,
        )
    assert "holds no node" in finished.stderr
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in finished.stderr.splitlines()}
    assert "cluster" in imported
    assert not imported & {
        *("sqlalchemy", "alembic", "sqlite3", "pysqlite3", "pyeclib", "starlette", "uvicorn", "httptools"),
        *("lxml", "s3front", "catalog", "http"),
    }


def test_s27_the_log_says_once_that_nodes_share_a_disk(store: Store) -> None:
    assert store.log().count("some nodes share a disk") == 1


def test_nodes_in_directories_of_their_own(new_store: Maker, tmp_path: Path) -> None:
    disks = [tmp_path / f"disk-{number}" for number in (1, 2, 3)]
    store = new_store(tuple(word for disk in disks for word in ("--node-dir", str(disk))))
    store.start()
    store.client().create_bucket(Bucket="kept")
    put_and_get(store, "spread")
    assert all((disk / "node.json").exists() for disk in disks)
    assert not (store.data / "node-1").exists()


def test_the_same_directory_for_two_nodes_is_refused(tmp_path: Path) -> None:
    options = [word for name in ("a", "b", "a") for word in ("--node-dir", str(tmp_path / name))]
    assert "same directory" in refused("--data", str(tmp_path / "data"), *options)
    assert not (tmp_path / "data").exists()


@embedded_only
def test_s18_no_catalog_is_made_beside_nodes_with_data(new_store: Maker) -> None:
    store = new_store()
    store.start()
    store.client().create_bucket(Bucket="kept")
    store.stop()
    for path in store.data.glob("catalog.sqlite*"):
        path.unlink()
    said = refused("--port", "0", "--data", str(store.data))
    assert "catalog" in said
    assert "node-1" in said
    assert not (store.data / "catalog.sqlite").exists()


@pytest.mark.long
def test_s23_a_known_node_refuses_an_empty_directory_and_the_others_serve(new_store: Maker) -> None:
    """An unmounted disk: the store comes up without it (P2), and nothing is created in its place."""
    store = new_store()
    store.start()
    store.client().create_bucket(Bucket="kept")
    put_and_get(store, "before")
    store.stop()
    shutil.move(store.data / "node-2", store.data / "elsewhere")
    (store.data / "node-2").mkdir()
    store.start()
    assert os.listdir(store.data / "node-2") == []
    assert "node-2 is missing: starting without it" in store.log()
    assert store.client().get_object(Bucket="kept", Key="before")["Body"].read() == b"kept before"
    store.stop()
    (store.data / "node-2").rmdir()
    shutil.move(store.data / "elsewhere", store.data / "node-2")
    store.start()
    until(lambda: serves(store, "again"), "writes work with all nodes")
