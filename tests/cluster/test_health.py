"""What the steward says of the nodes: states, events with their order, and the last word of each node."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from catalog import leases, work
from catalog import nodes as catalog_nodes
from catalog.engine import Catalog, CatalogSettings
from cluster import wire
from cluster.link import LinkSettings
from cluster.steward import progress
from cluster.steward.health import HealthWatch
from cluster.steward.progress import PAUSE_MS_MAX, RepairPause
from cluster.steward.services import StewardServices, StewardSettings
from cluster.steward.tenure import Tenure
from cluster.topology import NodeSet
from tests.catalog.fresh import fresh_catalog
from tests.cluster.conftest import until
from tests.cluster.nodes import CLUSTER_ID, SECRET, RealNodes
from tests.cluster.proxy import Proxy

pytestmark = pytest.mark.usefixtures("silent_loop")

STATUS = int(wire.Op.STATUS)


class Ward:
    """Three nodes, known to a catalog, watched by a steward in office whose clock the test moves."""

    def __init__(self, catalog: Catalog, nodes: NodeSet, tenure: Tenure) -> None:
        self.catalog = catalog
        self.nodes = nodes
        self.tenure = tenure
        self.now = 1000.0
        self.watch = self.new_watch()

    def new_watch(self) -> HealthWatch:
        settings = StewardSettings(status_deadline_s=0.2)
        return HealthWatch(StewardServices(self.catalog, self.nodes, settings, lambda: self.now))

    async def states(self, after_s: float = 0.3) -> list[str]:
        """Look once, some time later; the states then."""
        self.now += after_s
        await self.watch.step(self.tenure)
        return [row.state for row in await catalog_nodes.current(self.catalog)]

    async def set_state(self, number: int, state: str) -> None:
        await self.tenure.write(lambda tx: catalog_nodes.set_state(tx, number, state))

    async def events(self) -> list[tuple[str, int | None]]:
        events = await self.catalog.read(work.list_events)
        return [(event.kind, event.node) for event in events if event.kind != "node-up" or event.node == 2]

    async def paused(self) -> bool:
        return await self.tenure.write(lambda tx: progress.paused_until(tx, tx.now_ms)) is not None

    async def lost(self, number: int) -> None:
        link = self.nodes.link(number)
        assert link is not None
        await until(lambda: not link.up, f"node {number} is lost")


@pytest_asyncio.fixture
async def ward(tmp_path: Path, own_nodes: RealNodes) -> AsyncIterator[Ward]:
    async with AsyncExitStack() as stack:
        yield await opened(stack, tmp_path / "catalog.sqlite", own_nodes, linked_to(own_nodes))


def linked_to(running: RealNodes) -> NodeSet:
    return NodeSet.connecting(running.infos, secret=SECRET, cluster_id=CLUSTER_ID, role=wire.Role.STEWARD)


async def opened(stack: AsyncExitStack, path: Path, running: RealNodes, linked: NodeSet) -> Ward:
    fresh_catalog(path, cluster_id=CLUSTER_ID)
    catalog = Catalog.open(path, CatalogSettings(ballast_bytes=1 << 16))
    await catalog.start()
    stack.push_async_callback(catalog.close)
    for info in running.infos:
        await catalog.write(
            lambda tx, info=info: catalog_nodes.register(  # type: ignore[misc]
                tx,
                node_id=info.node_id,
                name=info.name,
                region=info.region,
                zone=info.zone,
                host=info.address[0],
                port=info.address[1],
            )
        )
    tenure = await Tenure.begin(catalog, "a steward", await catalog.read(leases.read))
    await stack.enter_async_context(linked)
    assert await linked.wait_up(10) == 3
    return Ward(catalog, linked, tenure)


async def test_a_dead_node_is_suspect_then_down_then_up(ward: Ward, own_nodes: RealNodes) -> None:
    assert await ward.states() == ["up", "up", "up"]
    assert sorted(ward.watch.statuses) == [1, 2, 3]
    own_nodes[2].kill()
    await ward.lost(2)
    assert await ward.states() == ["up", "suspect", "up"]
    assert sorted(ward.watch.statuses) == [1, 3]
    assert await ward.states(1.0) == ["up", "suspect", "up"]
    assert await ward.states(1.0) == ["up", "down", "up"]
    assert await ward.states(100.0) == ["up", "down", "up"]
    own_nodes[2].start()
    link = ward.nodes.link(2)
    assert link is not None
    async with asyncio.timeout(30):
        await link.wait_up()
    assert await ward.states() == ["up", "up", "up"]
    assert await ward.events() == [
        ("node-up", 2),
        ("node-suspect", 2),
        ("node-down", 2),
        ("node-up", 2),
    ]


async def test_p2_a_pause_of_repair_ends_when_another_node_goes_down(
    ward: Ward, own_nodes: RealNodes
) -> None:
    """Red when a forgotten pause outlived the loss of a second node: repair stood still while a third could cost
    objects. A node that only is slow for a moment does not end it."""
    await ward.states()
    await ward.tenure.write(lambda tx: progress.write(tx, RepairPause(tx.now_ms + PAUSE_MS_MAX)))
    own_nodes[2].kill()
    await ward.lost(2)
    assert (await ward.states(), await ward.paused()) == (["up", "suspect", "up"], True)
    assert (await ward.states(1.0), await ward.paused()) == (["up", "suspect", "up"], True)
    assert (await ward.states(1.0), await ward.paused()) == (["up", "down", "up"], False)
    assert (await ward.events())[-2:] == [("node-down", 2), ("repair-resumed", None)]
    await ward.tenure.write(lambda tx: progress.write(tx, RepairPause(tx.now_ms + PAUSE_MS_MAX)))
    assert (await ward.states(100.0), await ward.paused()) == (["up", "down", "up"], True), (
        "it was down before"
    )


async def test_a_pause_of_the_stewards_own_makes_nobody_down(ward: Ward, own_nodes: RealNodes) -> None:
    """It was frozen for a minute in the middle of a question. Red when the first unanswered one counted from
    when it was asked: all nodes were down at once, and their shards about to be rebuilt."""
    assert await ward.states() == ["up", "up", "up"]
    own_nodes[3].freeze()
    stepping = asyncio.ensure_future(ward.watch.step(ward.tenure))
    await asyncio.sleep(0)
    ward.now += 60.0
    await stepping
    own_nodes[3].thaw()
    assert await ward.states(0.0) in (["up", "up", "suspect"], ["up", "up", "up"])
    assert ("node-down", 3) not in await ward.events()


async def test_a_frozen_node_is_down_within_three_seconds(tmp_path: Path, own_nodes: RealNodes) -> None:
    """By real time and the settings that the steward uses. Red with five seconds of silence."""
    async with AsyncExitStack() as stack:
        ward = await opened(stack, tmp_path / "catalog.sqlite", own_nodes, linked_to(own_nodes))
        settings = StewardSettings()
        watch = HealthWatch(StewardServices(ward.catalog, ward.nodes, settings))
        await watch.step(ward.tenure)
        own_nodes[2].freeze()
        frozen_s = time.monotonic()
        seen: dict[str, float] = {}
        while "down" not in seen:
            await watch.step(ward.tenure)
            state = (await catalog_nodes.current(ward.catalog))[1].state
            seen.setdefault(state, time.monotonic() - frozen_s)
            assert time.monotonic() - frozen_s < 10
            asked_s = time.monotonic()
            await until(lambda: time.monotonic() > asked_s + settings.health_s, "the next look")  # noqa: B023
        own_nodes[2].thaw()
        print(f"a frozen node: {seen}")
        assert seen["suspect"] < 1.2
        assert seen["down"] < 3.0


async def test_a_new_steward_does_not_suspect_nodes_that_it_has_not_yet_reached(
    ward: Ward, own_nodes: RealNodes
) -> None:
    """Its links are just being made, one of them to a frozen node. Red when a node counts as silent before the
    first attempt to connect is over: each takeover wrote `node-suspect` of nodes that were well."""
    assert await ward.states() == ["up", "up", "up"]
    ward.nodes = NodeSet.connecting(
        own_nodes.infos,
        secret=SECRET,
        cluster_id=CLUSTER_ID,
        role=wire.Role.STEWARD,
        settings=LinkSettings(connect_s_max=0.5),
    )
    ward.watch = ward.new_watch()
    assert await ward.states() == ["up", "up", "up"], "no link is made yet"
    own_nodes[2].freeze()
    async with ward.nodes:
        await ward.nodes.wait_up(10, nodes_min=2)
        assert await ward.states(100.0) == ["up", "up", "up"]
        link = ward.nodes.link(2)
        assert link is not None
        await until(lambda: link.tried, "the first attempt is over")
        assert await ward.states() == ["up", "suspect", "up"]
        assert await ward.states(3.0) == ["up", "down", "up"]
        own_nodes[2].thaw()
    assert await ward.events() == [("node-up", 2), ("node-suspect", 2), ("node-down", 2)]


async def test_an_operators_decision_is_not_overruled(ward: Ward) -> None:
    await ward.set_state(1, "draining")
    await ward.set_state(2, "removed")
    assert await ward.states() == ["draining", "removed", "up"]
    assert sorted(ward.watch.statuses) == [1, 3], "a draining node is still asked, a removed one is not"


async def test_a_joining_node_that_does_not_run_yet_is_waited_for(ward: Ward, own_nodes: RealNodes) -> None:
    own_nodes[1].kill()
    await ward.lost(1)
    assert await ward.states(10.0) == ["joining", "up", "up"]
    assert await ward.states(10.0) == ["joining", "up", "up"]


async def test_what_nodes_say_of_their_disks_becomes_events(tmp_path: Path, own_nodes: RealNodes) -> None:
    claims: dict[str, object] = {}

    def rewrite(frame: wire.Frame) -> list[wire.Frame]:
        if frame.op != STATUS:
            return [frame]
        status = msgspec.structs.replace(wire.decode_node_status(frame.header), **claims)
        return [frame._replace(header=wire.encode(status))]

    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(Proxy(own_nodes[2].info))
        proxy.replies = rewrite
        infos = [own_nodes[1].info, proxy.info, own_nodes[3].info]
        linked = NodeSet.connecting(infos, secret=SECRET, cluster_id=CLUSTER_ID, role=wire.Role.STEWARD)
        ward = await opened(stack, tmp_path / "catalog.sqlite", own_nodes, linked)
        changes: list[dict[str, object]] = [
            {},
            {"read_only": True},
            {"read_only": True, "failing": True},
            {"failing": True, "damage": {"page": 2}},
            {"damage": {"page": 2}},
        ]
        for change in changes:
            claims.clear()
            claims.update(change)
            for _ in range(2):
                assert await ward.states() == ["up", "up", "up"]
        assert ward.watch.statuses[2].damage == {"page": 2}
        assert await ward.events() == [
            ("node-up", 2),
            ("node-full", 2),
            ("node-failing", 2),
            ("node-writable", 2),
            ("node-damage", 2),
            ("node-working", 2),
        ]
