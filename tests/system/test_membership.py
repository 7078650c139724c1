"""`trivet node …` on real stores, under load: nodes come, go and die, and every object reads back."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from catalog import nodes, placements
from catalog.statement import Reader
from tests.system.conftest import CLEAN_CONFIG, Store, is_running, until
from tests.system.redundancy import with_catalog

BUCKET = "members"
WRITERS = 4
KEYS_PER_WRITER = 25
MIB = 1 << 20
OPTIONS = ("--fronts", "1", "--grace-s", "2")
Maker = Callable[..., Store]


def trivet(store: Store, *words: str) -> Any:
    """A command for people, answered in JSON; fails when it is refused."""
    done = store.trivet(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def states(store: Store) -> dict[str, str]:
    """Of all but those that were removed, sorted by name."""
    rows = with_catalog(store, lambda catalog: catalog.read(nodes.list_nodes))
    return dict(sorted((row.name, row.state) for row in rows if row.state != "removed"))


def is_empty(store: Store, name: str) -> bool:
    return any(node["name"] == name and node.get("empty") for node in trivet(store, "node", "list"))


def layouts(store: Store) -> tuple[list[tuple[str, ...]], dict[str, str]]:
    """The assignments in use, and the region of each node: by name, for numbers may have gaps."""

    def look(reader: Reader) -> tuple[list[tuple[str, ...]], dict[str, str]]:
        rows = {row.number: row for row in nodes.list_nodes(reader)}
        regions = {row.name: row.region for row in rows.values()}
        return [
            tuple(rows[number].name for number in use.nodes) for use in placements.in_use(reader)
        ], regions

    return with_catalog(store, lambda catalog: catalog.read(look))


def body_of(seed: int) -> bytes:
    random = Random(seed)
    size = random.choice((1, 4096, 20_000, 20_000, 20_000, MIB + 17, 2 * MIB))
    return hashlib.shake_128(seed.to_bytes(8, "big")).digest(size)


class Load:
    """Clients that write, overwrite and read back until they are told to stop. `failures` are requests that the
    store refused or answered wrongly: there must be none.
    """

    def __init__(self, store: Store) -> None:
        self.expected: dict[str, int] = {}
        self.failures: list[str] = []
        self.requests = 0
        self._store = store
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(WRITERS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        until(lambda: self.requests > 4 * WRITERS, "the clients are at work")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        client = self._store.unmanaged_client(CLEAN_CONFIG)
        random = Random(number)
        seed = number << 32
        try:
            while not self._stop.is_set():
                seed += 1
                key = f"{number}/{random.randrange(KEYS_PER_WRITER)}"
                client.put_object(Bucket=BUCKET, Key=key, Body=body_of(seed))
                self.expected[key] = seed
                self._read(client, f"{number}/{random.randrange(KEYS_PER_WRITER)}")
                self.requests += 2
        except (BotoCoreError, ClientError) as error:
            self.failures.append(str(error))
        finally:
            client.close()

    def _read(self, client: Any, key: str) -> None:
        if key in self.expected:
            body = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            if body != body_of(self.expected[key]):
                self.failures.append(f"{key} is wrong")


def verify(store: Store, expected: dict[str, int]) -> None:
    client = store.client()
    for key, seed in expected.items():
        assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == body_of(seed), key


def await_whole(store: Store) -> None:
    until(lambda: trivet(store, "repair", "status")["whole"], "every object is whole again", 90.0)


def lose(store: Store, name: str) -> None:
    """A node's disk dies: its process, and all that it had written."""
    os.kill(store.pids()[name], signal.SIGKILL)
    shutil.rmtree(store.data / name, ignore_errors=True)


def restart(store: Store) -> None:
    assert store.stop() == 0
    store.start()


@pytest.mark.timeout(240)
def test_p2_p7_nodes_come_and_go_under_load_and_nothing_is_lost(new_store: Maker) -> None:
    """Add a fourth node, drain the first and remove it, all while clients work; restart; no request fails."""
    store = new_store(OPTIONS)
    store.start()
    store.client().create_bucket(Bucket=BUCKET)
    with Load(store) as load:
        added = trivet(store, "node", "add", str(store.data.parent / "disk-4"))
        assert (added["name"], added["notes"]) == ("node-4", [])
        until(lambda: states(store)["node-4"] == "up", "the new node is up")
        trivet(store, "node", "drain", "node-1")
        until(lambda: is_empty(store, "node-1"), "the drained node is empty", 60.0)
        trivet(store, "node", "remove", "node-1")
        until(lambda: "node-1" not in store.pids(), "the removed node's process has ended")
        done = load.requests
        until(lambda: load.requests > done + 20, "clients go on without it")
    assert load.failures == []
    assert states(store) == {"node-2": "up", "node-3": "up", "node-4": "up"}
    shutil.rmtree(store.data / "node-1")
    verify(store, load.expected)
    restart(store)
    verify(store, load.expected)
    used, regions = layouts(store)
    assert all({"node-2", "node-3", "node-4"} == set(layout) for layout in used)
    assert all(len({regions[node] for node in layout}) == 3 for layout in used), "one shard a region"


@pytest.mark.timeout(240)
@pytest.mark.long
def test_s23_a_dead_node_is_replaced_and_its_data_rebuilt(new_store: Maker) -> None:
    """Under load; the store is restarted in the midst of it. Afterwards the loss of another node loses nothing."""
    store = new_store((*OPTIONS, "--repair-bytes-per-s", str(8 * MIB)))
    store.start()
    store.client().create_bucket(Bucket=BUCKET)
    with Load(store) as load:
        until(lambda: len(load.expected) > 60, "there is something to lose")
        lose(store, "node-2")
        replaced = trivet(store, "node", "replace", "node-2", "--dir", str(store.data.parent / "disk-2"))
        assert replaced["notes"] == []
        until(lambda: states(store)["node-2"] == "up", "the new node is up")
    assert load.failures == []
    assert not trivet(store, "repair", "status")["whole"], "the restart comes in the midst of it"
    restart(store)
    await_whole(store)
    verify(store, load.expected)
    lose(store, "node-3")
    verify(store, load.expected)


@pytest.mark.long
@pytest.mark.timeout(240)
def test_p2_four_and_two_on_six_nodes(new_store: Maker) -> None:
    """Two nodes may be lost, and after their replacement another two."""
    store = new_store((*OPTIONS, "--data-shards", "4", "--parity-shards", "2"))
    store.start()
    assert list(states(store)) == [f"node-{n}" for n in range(1, 7)]
    client = store.client()
    client.create_bucket(Bucket=BUCKET)
    expected = {f"key-{seed}": seed for seed in range(25)}
    for key, seed in expected.items():
        client.put_object(Bucket=BUCKET, Key=key, Body=body_of(seed))
    store.stop()
    for name in ("node-2", "node-5"):
        shutil.rmtree(store.data / name)
    for name in ("node-2", "node-5"):
        trivet(store, "node", "replace", name)
    store.start()
    verify(store, expected)
    await_whole(store)
    used, regions = layouts(store)
    assert all(
        sorted(regions[node] for node in layout) == sorted(2 * list(set(regions.values()))) for layout in used
    )
    for name in ("node-1", "node-6"):
        lose(store, name)
    verify(store, expected)


@pytest.mark.long
def test_a_node_is_removed_while_another_process_of_it_is_still_stopping(new_store: Maker) -> None:
    """A frozen node that is replaced under its name: the old process is gone before the new one has its socket. Red
    when the old one was forgotten instead of stopped, and when a refresh started no processes."""
    store = new_store((*OPTIONS, "--stop-wait-s", "2"))
    store.start()
    store.client().create_bucket(Bucket=BUCKET)
    old = store.pids()["node-3"]
    os.kill(old, signal.SIGSTOP)
    try:
        until(lambda: states(store)["node-3"] == "down", "the frozen node is noticed")
        trivet(store, "node", "replace", "node-3", "--dir", str(store.data.parent / "disk-3"))
    finally:
        if is_running(old):
            os.kill(old, signal.SIGCONT)
    assert not is_running(old)
    until(lambda: states(store)["node-3"] == "up", "the new node is up")
    assert store.pids()["node-3"] != old
    restart(store)
    assert states(store) == {"node-1": "up", "node-2": "up", "node-3": "up"}
    assert Path(trivet(store, "node", "list")[2]["directory"]).name == "disk-3"
