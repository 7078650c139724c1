"""What the cluster says of itself, with real nodes: figures, and whether all is well and what to do if not."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from catalog import leases, nodes, schema, work
from catalog.model import FaultReport
from catalog.statement import Statement
from catalog.transaction import Transaction
from cluster import wire
from cluster.reports import cluster as cluster_module
from cluster.reports.cluster import (
    Code,
    Reason,
    cluster_health,
    cluster_stats,
    node_statuses,
)
from cluster.reports.moments import ms_of
from cluster.reports.redundancy import is_whole
from cluster.steward import progress
from cluster.steward.progress import RepairPause
from tests.cluster.nodes import RealNodes
from tests.cluster.steward_world import STRIPE, World, report

pytestmark = pytest.mark.usefixtures("silent_loop")

NO_STEWARD = "no steward is at work"


@pytest.fixture
def world(own_world: World) -> World:
    """They kill nodes, and count what these hold."""
    return own_world


async def health(world: World) -> tuple[str, list[str]]:
    """Status and what, with a steward that has just been seen."""
    found = await cluster_health(world.catalog, world.nodes)
    return found.status, [reason.what for reason in found.reasons]


async def reason(world: World, part: str) -> Reason:
    found = await cluster_health(world.catalog, world.nodes)
    (named,) = [reason for reason in found.reasons if part in reason.what]
    assert named.do
    assert "/" not in named.what + named.do.replace("trivet", ""), "it may be shown to anybody"
    return named


async def test_figures_of_a_cluster(world: World) -> None:
    """Exact, as the nodes count them. Red when a copy of each block was counted once for all nodes, and when a
    removed node counted."""
    for number in range(4):
        await world.put(b"%d" % number, 3 * STRIPE)
    stats = await cluster_stats(world.catalog, world.nodes)
    assert stats.stored_blocks == 4 * 3 * 3
    assert stats.live_bytes == 4 * 3 * STRIPE * 3 // 2
    assert stats.nodes == {"up": 3}
    assert stats.regions == {"region-1": 1, "region-2": 1, "region-3": 1}
    assert stats.codes == (Code(2, 1),)
    assert (stats.buckets, stats.silent, stats.damaged_blocks) == (1, (), 0)
    assert stats.used_bytes >= stats.live_bytes
    assert stats.capacity_bytes > stats.free_bytes > 0
    assert stats.redundancy.whole
    await world.set_state(3, "removed")
    stats = await cluster_stats(world.catalog, world.nodes)
    assert (stats.nodes, stats.stored_blocks) == ({"up": 2}, 4 * 3 * 2)
    assert (stats.redundancy.reduced_blobs, stats.redundancy.reduced_bytes) == (4, 4 * 3 * STRIPE)


async def test_what_lies_in_the_buckets(world: World) -> None:
    def use(tx: Transaction) -> None:
        tx.execute(Statement(schema.bucket_usage.delete()))
        for bucket_id, objects, versions, size in ((1, 3, 5, 1000), (2, 1, 1, 24)):
            values = (bucket_id, objects, versions, size)
            tx.execute(
                Statement(schema.bucket_usage.insert(), "bucket_id", "objects", "versions", "bytes"), values
            )

    assert (await cluster_stats(world.catalog, world.nodes)).overhead is None
    await world.catalog.write(use)
    stats = await cluster_stats(world.catalog, world.nodes)
    assert (stats.buckets, stats.objects, stats.versions, stats.logical_bytes) == (1, 4, 6, 1024)
    assert stats.overhead == stats.used_bytes / 1024


async def test_a_frozen_node_does_not_hold_up_the_others(world: World, own_nodes: RealNodes) -> None:
    """Red when nodes were asked one after the other, or without a deadline."""
    own_nodes[1].freeze()
    own_nodes[3].freeze()
    began_s = time.monotonic()
    states = await node_statuses(world.catalog, world.nodes)
    assert time.monotonic() - began_s < 0.9
    assert [state.status is None for state in states] == [True, False, True]
    stats = await cluster_stats(world.catalog, world.nodes)
    assert stats.silent == ("node-1", "node-3")
    assert stats.overhead is None
    own_nodes[1].thaw()
    own_nodes[3].thaw()


async def test_all_is_well_while_a_steward_renews_its_lease(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red when a holder that does not renew any more counted as one at work."""
    assert await health(world) == ("degraded", [NO_STEWARD])
    tenure = await world.tenure()
    monkeypatch.setattr(cluster_module, "_watches", type(cluster_module._watches)())
    monkeypatch.setattr(cluster_module, "_LEASE_EXPIRY_S", 0.05)
    assert await health(world) == ("healthy", [])
    deadline = time.monotonic() + 30
    while await health(world) == ("healthy", []):
        assert time.monotonic() < deadline, "its lease stands still"
        await asyncio.sleep(0.01)
    assert await health(world) == ("degraded", [NO_STEWARD])
    await tenure.renew()
    assert await health(world) == ("healthy", [])


async def test_a_node_that_is_down_is_named_with_its_time(world: World, own_nodes: RealNodes) -> None:
    await world.tenure()
    blob = await world.put(b"k")
    assert await world.catalog.read(is_whole)
    own_nodes[2].kill()
    await world.down(2)
    silent = await reason(world, "node-2 does not answer")
    assert (silent.node, silent.since_at, silent.critical) == ("node-2", None, False)
    before_ms = time.time_ns() // 1_000_000

    def fall(tx: Transaction) -> None:
        nodes.set_state(tx, 2, nodes.DOWN)
        work.record_event(tx, "node-down", node=2)

    await world.catalog.write(fall)
    down = await reason(world, "node-2 is down since 20")
    assert down.since_at is not None
    assert before_ms <= ms_of(down.since_at) <= time.time_ns() // 1_000_000
    assert "trivet node recover node-2 --lost" in down.do
    reduced = await reason(world, "1 blobs have less than full redundancy")
    assert reduced.since_at == down.since_at
    assert not await world.catalog.read(is_whole)
    assert (await health(world))[0] == "degraded"
    own_nodes[3].kill()
    await world.down(3)
    found = await cluster_health(world.catalog, world.nodes)
    assert found.status == "critical"
    assert found.reasons[0].what == "1 of 3 nodes answer; objects need 2 to be read"
    assert blob.k == 2


async def test_what_waits_or_is_lost(world: World) -> None:
    """Red when a blob that was given up counted as waiting for repair too."""
    await world.tenure()
    blob = await world.put(b"k")
    await report(world, blob, 0, 0, blob.nodes[0])
    assert await health(world) == ("degraded", ["1 blobs have less than full redundancy"])
    assert not await world.catalog.read(is_whole)
    fault = FaultReport(0, 0, 0, "unreadable")
    await world.catalog.write(lambda tx: work.report_faults(tx, blob.id, [fault]))
    lost = await reason(world, "1 blobs can't be read")
    assert lost.critical
    assert await health(world) == (
        "critical",
        ["1 blobs can't be read: too many of their shards are bad or gone"],
    )
    await world.set_state(blob.nodes[0], nodes.DRAINING)
    stuck = await reason(world, "can't be drained: 1 blobs on it")
    assert stuck.node == f"node-{blob.nodes[0]}"


async def test_what_an_operator_has_stopped(world: World) -> None:
    await world.tenure()
    await world.catalog.write(lambda tx: progress.write(tx, RepairPause(tx.now_ms + 60_000)))
    assert "trivet repair resume" in (await reason(world, "repair is paused until 20")).do
    await world.catalog.write(lambda tx: progress.write(tx, RepairPause(0)))
    assert await health(world) == ("healthy", [])
    await world.catalog.write(_restored)
    assert "trivet orphans allow" in (await reason(world, "since the catalog was restored")).do
    await world.catalog.write(leases.allow_orphans)
    assert await health(world) == ("healthy", [])


def _restored(tx: Transaction) -> None:
    tx.execute(Statement(schema.meta.update().values(orphans_allowed=0), "orphans_allowed"), (0,))
    tx.touch_configuration()


@pytest.mark.parametrize(("field", "part"), [("read_only", "node-2 is full"), ("failing", "node-2 fails")])
async def test_a_disk_that_is_full_or_fails(
    world: World, monkeypatch: pytest.MonkeyPatch, field: str, part: str
) -> None:
    """As the node says it: the answer of a real one, changed on its way."""
    await world.tenure()
    _say(world, monkeypatch, 2, field)
    found = await reason(world, part)
    assert (found.node, found.critical) == ("node-2", False)


async def test_disks_so_full_that_nothing_can_be_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red when each full disk is judged for itself: one node alone takes no write either."""
    await world.tenure()
    _say(world, monkeypatch, 1, "read_only")
    _say(world, monkeypatch, 2, "read_only")
    found = await reason(world, "node-2 is full")
    assert found.critical
    assert (await cluster_health(world.catalog, world.nodes)).status == "critical"


def _say(world: World, monkeypatch: pytest.MonkeyPatch, node: int, field: str) -> None:
    """Have a node's answers say so, on their way."""
    link = world.nodes.link(node)
    assert link is not None
    call = link.call

    async def changed(*arguments: object, **options: object) -> wire.Frame:
        reply = await call(*arguments, **options)  # type: ignore[arg-type]
        said = msgspec.structs.replace(wire.decode_node_status(reply.header), **{field: True})
        return reply._replace(header=wire.encode(said))

    monkeypatch.setattr(link, "call", changed)


async def test_one_that_joins(world: World) -> None:
    await world.tenure()
    await world.set_state(3, nodes.JOINING)
    assert await health(world) == ("healthy", []), "it answers: the steward will see it"

    def register(tx: Transaction) -> None:
        nodes.register(tx, node_id=bytes(16), name="new", region="r", zone="z", host="127.0.0.1", port=1)

    await world.catalog.write(register)
    assert (await reason(world, "new has not joined yet")).node == "new"
