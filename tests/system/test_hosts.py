"""Processes that are started by themselves, on this host and with the embedded catalog; and `trivet restart`.

Several hosts are in tests/hosts.
"""

from __future__ import annotations

import signal
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from catalog.lock import FileLock, lock_path
from tests.hosts.cluster import ACCESS_KEY, SECRET_KEY, Cluster, client
from tests.hosts.load import BUCKET, Load
from tests.system.conftest import CLEAN_CONFIG, TRIVET, Store, own_environment, until


def states(cluster: Cluster) -> dict[str, tuple[str, int]]:
    """State and port by name."""
    with closing(sqlite3.connect(f"file:{cluster.data}/catalog.sqlite?mode=ro", uri=True)) as catalog:
        rows = catalog.execute("SELECT name, state, port FROM nodes WHERE state <> 'removed'").fetchall()
    return {name: (state, port) for name, state, port in rows}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def froze_outside_the_lock(process: subprocess.Popen[bytes], cluster: Cluster) -> bool:
    """Or it goes on: who is frozen with the catalog's lock stops all who write, until a supervisor ends it (S16), and
    there is none here."""
    process.send_signal(signal.SIGSTOP)
    lock = FileLock(lock_path(cluster.data / "catalog.sqlite"))
    try:
        until(
            lambda: " T" in Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2][:2], "it stands"
        )
        if lock.try_acquire():
            return True
    finally:
        lock.close()
    process.send_signal(signal.SIGCONT)
    return False


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    made.close()


def test_processes_started_one_by_one_become_a_store(cluster: Cluster) -> None:
    """Nodes may come before the front that they tell of themselves; a node that comes back elsewhere is found there; an
    empty directory does not take a known node's place (S23)."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
    cluster.found()
    assert "is there" in cluster.command("init"), "a second time changes nothing"
    for name in ("a", "b", "c"):
        cluster.add_node(name, f"127.0.0.1:{free_port()}", endpoint)
    cluster.add_steward("steward-1")
    front = cluster.add_front("front-1", listener)
    until(lambda: [state for state, _ in states(cluster).values()] == ["up"] * 3, "all nodes are up")
    s3 = client(endpoint, CLEAN_CONFIG)
    s3.create_bucket(Bucket=BUCKET)

    def writes() -> bool:
        try:
            s3.put_object(Bucket=BUCKET, Key="first", Body=b"x" * 100_000)
        except s3.exceptions.ClientError:
            return False
        return True

    until(writes, "the front has links to the nodes")

    moved = cluster.processes.pop("c")
    assert moved.stop() == 0
    before = states(cluster)["c"]
    cluster.add_node("c", f"127.0.0.1:{free_port()}", endpoint)
    until(
        lambda: states(cluster)["c"] != before and states(cluster)["c"][0] == "up",
        "c is found where it is now",
    )

    lost = cluster.processes.pop("b")
    assert lost.stop() == 0
    (cluster.folder / "b").rename(cluster.folder / "unmounted")
    stranger = cluster.add_node("b", f"127.0.0.1:{free_port()}", endpoint)
    until(lambda: "is its disk mounted?" in stranger.log()[stranger.seen :], "the empty directory is refused")
    assert s3.get_object(Bucket=BUCKET, Key="first")["Body"].read() == b"x" * 100_000
    assert stranger.stop() == 0

    token = cluster.token.read_text().strip()
    for process in cluster.processes.values():
        assert token not in process.log()
        assert token[20:] not in process.log()
    assert front.stop() == 0
    s3.close()


def test_a_front_leaves_and_comes_back_under_a_held_socket_and_no_client_notices(cluster: Cluster) -> None:
    """Clients without any retry. Red when the front left without waiting for what was under way."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
    cluster.found()
    for name in ("a", "b", "c"):
        cluster.add_node(name, f"127.0.0.1:{free_port()}", endpoint)
    cluster.add_steward("steward-1")
    front = cluster.add_front("front-1", listener)
    until(lambda: [state for state, _ in states(cluster).values()] == ["up"] * 3, "all nodes are up")
    s3 = client(endpoint, CLEAN_CONFIG)
    s3.create_bucket(Bucket=BUCKET)
    s3.close()
    until(lambda: front.log().count("is connected") >= 3, "the front has links to the nodes")
    with Load([endpoint] * 3, CLEAN_CONFIG) as load:
        for _ in range(2):
            before = load.done
            until(lambda before=before: load.done > before + 20, "there is load")  # type: ignore[misc]
            front.restart()
    assert load.failures == []


def test_a_store_is_restarted_process_by_process_under_load(new_store: Callable[..., Store]) -> None:
    """`trivet restart`, and clients without any retry."""
    store = new_store(
        ("--fronts", "2"),
        {"TRIVET_ROOT_ACCESS_KEY": ACCESS_KEY, "TRIVET_ROOT_SECRET_KEY": SECRET_KEY},
    )
    store.start()
    store.client().create_bucket(Bucket=BUCKET)
    before = store.pids()
    with Load([store.endpoint] * 2, CLEAN_CONFIG) as load:
        done = subprocess.run(
            [*TRIVET, "restart", "--data", str(store.data)],
            env=own_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    after = store.pids()
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] == before[name]} == {"supervisor"}
    assert load.failures == []


def test_a_frozen_steward_is_succeeded_and_gives_up_when_it_thaws(cluster: Cluster) -> None:
    cluster.found()
    processes = [cluster.add_steward("steward-1"), cluster.add_steward("steward-2")]
    until(lambda: any("in office" in process.log() for process in processes), "one is in office")
    holder = next(process for process in processes if "in office" in process.log())
    other = next(process for process in processes if process is not holder)
    assert holder.running is not None
    running = holder.running
    until(lambda: froze_outside_the_lock(running, cluster), "it is frozen")
    until(lambda: "in office" in other.log(), "the other one took over")
    running.send_signal(signal.SIGCONT)
    until(lambda: "lease" in holder.log().rpartition("in office")[2], "the first one knows it")
    assert other.stop() == 0
    assert holder.stop() == 0
