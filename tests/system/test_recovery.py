"""A node's disk dies, and `trivet node recover` makes every object whole again: how far it is, and how long it took."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable

import pytest

from catalog import leases
from catalog.engine import Catalog
from catalog.statement import Reader
from cluster.operations import Operation, cancel, get
from cluster.reports.cluster import ClusterHealth, ClusterStats, cluster_health, cluster_stats
from cluster.reports.incidents import REDUNDANCY, Incident, incidents, summarise_incidents
from cluster.reports.moments import ms_of
from cluster.reports.redundancy import repair_report
from cluster.steward import progress
from cluster.steward.progress import RepairProgress
from compose.settings import Settings
from compose.wiring import asked_nodes
from tests.compose.in_process import Done
from tests.system.conftest import Store, until
from tests.system.redundancy import below_full_redundancy, with_catalog
from tests.system.test_membership import lose, states, trivet

BUCKET = "recovered"
OBJECTS = 150
SIZE = 100_000
OPTIONS = ("--fronts", "1", "--grace-s", "2")
RATE = "--repair-bytes-per-s"
WAIT_S = 60.0
Maker = Callable[..., Store]


def filled(new_store: Maker, rebuild_s: int) -> Store:
    """A rebuild of one of its nodes takes about so long."""
    store: Store = new_store((*OPTIONS, RATE, str(OBJECTS * SIZE // rebuild_s)))
    store.start()
    client = store.client()
    client.create_bucket(Bucket=BUCKET)
    for number in range(OBJECTS):
        client.put_object(Bucket=BUCKET, Key=f"{number}", Body=body(number))
    until(lambda: not below_full_redundancy(store), "nothing that was late to begin with is left")
    return store


def body(number: int) -> bytes:
    return number.to_bytes(2, "big") * (SIZE // 2)


def verify(store: Store) -> None:
    client = store.client()
    for number in range(OBJECTS):
        assert client.get_object(Bucket=BUCKET, Key=f"{number}")["Body"].read() == body(number)


def operation(store: Store, number: int) -> Operation:
    return with_catalog(store, lambda catalog: catalog.read(lambda reader: get(reader, number)))


def followed(store: Store, number: int) -> tuple[list[Operation], float]:
    """All that was seen of an operation until it was over, and when by our clock every object was whole."""
    seen: list[Operation] = []
    whole_s = 0.0

    async def watch(catalog: Catalog) -> None:
        nonlocal whole_s
        async with asyncio.timeout(WAIT_S):
            while not seen or seen[-1].state == "running":
                seen.append(await catalog.read(lambda reader: get(reader, number)))
                if not whole_s and (await catalog.read(repair_report)).whole:
                    whole_s = time.time()
                await asyncio.sleep(0.02)

    with_catalog(store, watch)
    return seen, whole_s


def told(store: Store) -> list[Incident]:
    return with_catalog(
        store, lambda catalog: catalog.read(lambda reader: incidents(reader, 0, int(time.time() * 1000) + 1))
    )


def reports(store: Store) -> tuple[ClusterHealth, ClusterStats]:
    settings = Settings.read({}, {"data": store.data})

    async def ask(catalog: Catalog) -> tuple[ClusterHealth, ClusterStats]:
        async with asked_nodes(settings, catalog) as node_set:
            return await cluster_health(catalog, node_set), await cluster_stats(catalog, node_set)

    return with_catalog(store, ask)


@pytest.mark.timeout(180)
def test_p2_a_lost_node_is_recovered_and_its_incident_told(new_store: Maker) -> None:
    """The times of the incidents agree with our own clock within a second. Red when the end of a redundancy incident
    was the moment when the node was back, and when an operation was begun without its total."""
    store = filled(new_store, 3)
    until(lambda: reports(store)[0].status == "healthy", "all is well to begin with")
    stats = reports(store)[1]
    assert (stats.nodes, stats.silent, stats.stored_blocks >= 3 * OBJECTS) == ({"up": 3}, (), True)
    assert [(code.k, code.m) for code in stats.codes] == [(2, 1)]
    assert stats.capacity_bytes >= stats.free_bytes > 0
    assert 0 < stats.live_bytes <= stats.used_bytes
    killed_s = time.time()
    lose(store, "node-2")
    begun = trivet(store, "node", "recover", "node-2")
    assert begun["notes"] == []
    assert begun["operation"]["total"] == OBJECTS
    seen, whole_s = followed(store, begun["operation"]["id"])
    dones = [each.done for each in seen]
    assert dones == sorted(dones)
    assert any(0 < done < OBJECTS for done in dones), "its progress was to be seen"
    last = seen[-1]
    assert (last.state, last.done, last.total) == ("done", OBJECTS, OBJECTS)
    of_it = [each for each in told(store) if each.node == "node-2" and each.began_ms / 1000 > killed_s - 0.5]
    node, redundancy = sorted(of_it, key=lambda each: each.kind == REDUNDANCY)
    assert (node.kind, node.node, node.outcome) == ("node-lost", "node-2", "recovered")
    assert (redundancy.kind, redundancy.outcome) == (REDUNDANCY, "recovered")
    assert abs(node.began_ms / 1000 - killed_s) < 1
    assert abs(redundancy.began_ms / 1000 - killed_s) < 1
    assert redundancy.ended_ms is not None
    assert abs(redundancy.ended_ms / 1000 - whole_s) < 1
    summary = summarise_incidents([node, redundancy])
    assert (summary.failures, summary.recovered, summary.restored) == (1, 1, 1)
    assert summary.mttr_mean_s == pytest.approx(whole_s - killed_s, abs=2)
    until(lambda: reports(store)[0].status == "healthy", "all is well in the end")
    verify(store)


def run(store: Store, *words: str) -> Done:
    """A command for people as they would see it."""
    return store.trivet(*words)


@pytest.mark.long
@pytest.mark.timeout(180)
def test_a_node_that_is_down_is_told_and_one_that_is_up_is_read(new_store: Maker) -> None:
    """The commands that watch end with what became of it."""
    store: Store = new_store(OPTIONS)
    store.start()
    store.client().create_bucket(Bucket=BUCKET)
    store.client().put_object(Bucket=BUCKET, Key="0", Body=body(0))
    frozen_s = time.time()
    os.kill(store.pids()["node-2"], signal.SIGSTOP)
    until(lambda: states(store)["node-2"] == "down", "the frozen node is down")
    health, stats = reports(store)
    assert health.status == "degraded"
    (reason,) = [reason for reason in health.reasons if reason.node == "node-2"]
    assert reason.what.startswith("node-2 is down since 20")
    assert "trivet node recover node-2 --lost" in reason.do
    assert abs(ms_of(reason.since_at or "0") / 1000 - frozen_s) < 1.5
    assert stats.silent == ("node-2",)
    refused = run(store, "node", "recover", "node-2")
    assert refused.returncode == 1
    assert "node-2 is down, but its data is in" in refused.stderr
    os.kill(store.pids()["node-2"], signal.SIGCONT)
    until(lambda: states(store)["node-2"] == "up", "it is back")
    first = next(each for each in told(store) if each.node == "node-2")
    assert (first.kind, first.outcome) == ("node-down", "recovered")
    watched = run(store, "node", "recover", "node-2", "--watch")
    assert watched.returncode == 0, watched.stderr
    assert watched.stdout.splitlines()[-1].startswith("recovery of node-2: done, 1 of 1 blobs")


@pytest.mark.long
@pytest.mark.timeout(180)
def test_a_drain_is_followed_to_its_end(new_store: Maker) -> None:
    """Then the node can be removed: what was deleted lately is gone too."""
    store: Store = new_store(OPTIONS)
    store.start()
    store.client().create_bucket(Bucket=BUCKET)
    store.client().put_object(Bucket=BUCKET, Key="0", Body=body(0))
    trivet(store, "node", "add", str(store.data.parent / "disk-4"))
    until(lambda: states(store).get("node-4") == "up", "the new node is up")
    drained = run(store, "node", "drain", "node-1", "--watch", "--json")
    assert drained.returncode == 0, drained.stderr
    assert '"state": "done"' in drained.stdout.splitlines()[-1]
    assert trivet(store, "node", "remove", "node-1")["state"] == "removed"


@pytest.mark.long
@pytest.mark.timeout(240)
def test_p2_a_cancelled_recovery_pauses_and_survives_a_steward(new_store: Maker) -> None:
    """The next steward, ten seconds later, goes on with it."""
    store = filled(new_store, 12)
    lose(store, "node-3")
    number = trivet(store, "node", "recover", "node-3")["operation"]["id"]
    until(lambda: operation(store, number).done > 0, "it has begun")
    with_catalog(store, lambda catalog: catalog.write(lambda tx: cancel(tx, number)))
    assert operation(store, number).state == "cancelled"
    counter = renewals(store)
    until(lambda: renewals(store) > counter + 1 and rests(store), "what was in flight is done")
    assert any("repair is paused until" in reason.what for reason in reports(store)[0].reasons)
    rest = reports(store)[1].redundancy.reduced_blobs
    assert 0 < rest < OBJECTS
    counter = renewals(store)
    until(lambda: renewals(store) > counter + 1, "the steward is at work")
    assert reports(store)[1].redundancy.reduced_blobs == rest
    again = trivet(store, "node", "recover", "node-3")["operation"]
    assert (again["total"], again["state"]) == (rest, "running")
    until(lambda: operation(store, again["id"]).done > 0, "it goes on")
    os.kill(store.pids()["steward"], signal.SIGKILL)
    seen, _ = followed(store, again["id"])
    assert (seen[-1].state, seen[-1].done) == ("done", rest)
    until(lambda: reports(store)[0].status == "healthy", "all is well in the end")
    verify(store)


def rests(store: Store) -> bool:
    def look(reader: Reader) -> bool:
        state = progress.read(reader, RepairProgress)
        return state is not None and not state.bytes_per_s

    return with_catalog(store, lambda catalog: catalog.read(look))


def renewals(store: Store) -> int:
    return with_catalog(store, lambda catalog: catalog.read(leases.read)).counter
