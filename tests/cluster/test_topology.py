"""Which nodes a process prefers, judged by its own links."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from cluster import wire
from cluster.topology import NodeInfo, NodeSet
from tests.cluster.conftest import connect, until
from tests.cluster.nodes import CLUSTER_ID, SECRET, RealNodes
from tests.cluster.proxy import Proxy

pytestmark = pytest.mark.usefixtures("silent_loop")


def linked_to(infos: list[NodeInfo], here: tuple[str, str] | None = None) -> NodeSet:
    return NodeSet.connecting(infos, secret=SECRET, cluster_id=CLUSTER_ID, role=wire.Role.FRONT, here=here)


async def test_alive_is_what_is_connected_and_open_for_writes(nodes: RealNodes) -> None:
    draining = replace(nodes[2].info, state="draining")
    removed = replace(nodes[3].info, state="removed")
    async with linked_to([nodes[1].info, draining, removed]) as linked:
        assert linked.alive() == []
        assert await linked.wait_up(10) == 2
        assert linked.alive() == [nodes[1].info]
        assert linked.usable(2), "a draining node still serves reads"
        assert linked.link(3) is None
        assert not linked.usable(3)
        assert linked.order_for_read([3, 2, 1]) == [2, 1]


async def test_a_node_the_catalog_calls_down_is_used_as_soon_as_it_is_connected(nodes: RealNodes) -> None:
    async with linked_to([replace(nodes[1].info, state="down")]) as linked:
        assert await linked.wait_up(10) == 1
        assert [node.number for node in linked.alive()] == [1]


async def test_wait_up_says_how_many_there_are_when_time_is_over(own_nodes: RealNodes) -> None:
    own_nodes[2].kill()
    async with connect(own_nodes) as linked:
        assert await linked.wait_up(10, nodes_min=2) == 2
        assert await linked.wait_up(0.05) == 2
        assert len(asyncio.all_tasks()) == 4, "the links' keepers and this test"


async def test_s10_a_stalled_node_gets_no_new_blob_where_others_suffice(tmp_path: Path) -> None:
    """Break caught: `for_write` returning `alive` always."""
    with RealNodes(tmp_path, 4) as running:
        async with AsyncExitStack() as stack:
            proxy = await stack.enter_async_context(Proxy(running[4].info))
            linked = linked_to([*running.infos[:3], proxy.info])
            await stack.enter_async_context(linked)
            assert await linked.wait_up(10) == 4
            assert len(linked.for_write(3)) == 4
            proxy.replies_flow.clear()
            link = linked.link(4)
            assert link is not None
            link.call(int(wire.Op.SYNC), wire.encode(wire.Sync(link.incarnation, 0)), None, 10)
            await until(lambda: link.is_stalled(writing=True), "node 4 is stalled")
            assert [node.number for node in linked.for_write(3)] == [1, 2, 3]
            assert len(linked.for_write(4)) == 4, "needed all the same"
            proxy.replies_flow.set()
            await until(lambda: len(linked.for_write(3)) == 4, "trusted again")


async def test_near_nodes_are_read_first_but_stalled_ones_last(nodes: RealNodes) -> None:
    infos = [
        nodes[1].info,
        replace(nodes[2].info, region="here", zone="b"),
        replace(nodes[3].info, region="here", zone="a"),
    ]
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(Proxy(infos[2]))
        linked = await stack.enter_async_context(linked_to([*infos[:2], proxy.info], ("here", "a")))
        assert await linked.wait_up(10) == 3
        assert linked.order_for_read([1, 2, 3]) == [3, 2, 1]
        link = linked.link(3)
        assert link is not None
        proxy.replies_flow.clear()
        link.call(int(wire.Op.STATUS), wire.encode(wire.StatusRequest()), None, 10)
        await until(link.is_stalled, "node 3 is stalled")
        assert linked.order_for_read([1, 2, 3]) == [2, 1, 3]
        assert not linked.usable(3)
