"""Which nodes a process prefers, judged by its own links; and how the set changes while it runs."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from cluster import wire
from cluster.errors import LinkDown, RemoteFault
from cluster.link import Link, LinkSettings
from cluster.topology import NodeInfo, NodeSet
from codec.block import page_checksums
from tests.cluster.conftest import connect, until
from tests.cluster.nodes import CLUSTER_ID, SECRET, RealNodes
from tests.cluster.proxy import Proxy

pytestmark = pytest.mark.usefixtures("silent_loop")


PUT, SYNC, STATUS = (int(op) for op in (wire.Op.PUT_BLOCK, wire.Op.SYNC, wire.Op.STATUS))
QUICK = LinkSettings(probe_s=0.02)


def linked_to(
    infos: list[NodeInfo], here: tuple[str, str] | None = None, settings: LinkSettings | None = None
) -> NodeSet:
    return NodeSet.connecting(
        infos, secret=SECRET, cluster_id=CLUSTER_ID, role=wire.Role.FRONT, here=here, settings=settings
    )


def link_of(linked: NodeSet, number: int) -> Link:
    link = linked.link(number)
    assert link is not None
    return link


def numbers(nodes: list[NodeInfo]) -> list[int]:
    return [node.number for node in nodes]


async def put(link: Link) -> None:
    """One durable block. Raises LinkError."""
    payload = b"any bytes"
    header = wire.PutBlock(bytes(16), 0, 0, 1, 1, 1, len(payload), page_checksums(payload), True)
    await link.call(PUT, wire.encode(header), payload, 10)


def ask_sync(link: Link) -> None:
    """A write whose reply nobody waits for."""
    link.call(SYNC, wire.encode(wire.Sync(link.incarnation, 0)), None, 10)


@pytest_asyncio.fixture
async def proxied(nodes: RealNodes) -> AsyncIterator[tuple[NodeSet, list[Proxy]]]:
    """All three nodes behind proxies, asked for their status often."""
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(Proxy(info)) for info in nodes.infos]
        linked = linked_to([proxy.info for proxy in proxies], settings=QUICK)
        await stack.enter_async_context(linked)
        assert await linked.wait_up(10) == 3
        yield linked, proxies


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
            ask_sync(link)
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


# -- new blocks go where they are welcome --------------------------------------------------------------------


def says(**claims: object) -> Callable[[wire.Frame], list[wire.Frame]]:
    """Rewrites a node's status."""

    def rewrite(frame: wire.Frame) -> list[wire.Frame]:
        if frame.op != STATUS:
            return [frame]
        status = wire.decode_node_status(frame.header)
        return [frame._replace(header=wire.encode(msgspec.structs.replace(status, **claims)))]

    return rewrite


def refuses_puts(status: wire.Status) -> Callable[[wire.Frame], list[wire.Frame]]:
    def rewrite(frame: wire.Frame) -> list[wire.Frame]:
        if frame.op != PUT:
            return [frame]
        return [frame._replace(status=int(status), header=wire.encode(wire.Fault("no")))]

    return rewrite


async def test_a_full_node_gets_no_new_blocks_until_it_has_room_again(
    proxied: tuple[NodeSet, list[Proxy]],
) -> None:
    """Red when the status went unread: each PUT met the full node first."""
    linked, proxies = proxied
    proxies[1].replies = says(read_only=True)
    await until(lambda: numbers(linked.for_write(3)) == [1, 3], "node 2 is avoided")
    assert linked.usable(2), "it still serves reads"
    proxies[2].replies = says(read_only=True)
    await until(lambda: numbers(linked.for_write(3)) == [1], "so is node 3: no use in trying")
    proxies[1].replies = proxies[2].replies = lambda frame: [frame]
    await until(lambda: numbers(linked.for_write(3)) == [1, 2, 3], "both have room again")


async def test_a_refused_block_is_enough_to_know_that_a_node_is_full(
    proxied: tuple[NodeSet, list[Proxy]],
) -> None:
    linked, proxies = proxied
    proxies[0].replies = refuses_puts(wire.Status.READ_ONLY)
    with pytest.raises(RemoteFault):
        await put(link_of(linked, 1))
    assert numbers(linked.for_write(3)) == [2, 3]
    await until(lambda: len(linked.for_write(3)) == 3, "its status says that it has room")


async def test_a_node_whose_disk_fails_is_tried_again_now_and_then(
    proxied: tuple[NodeSet, list[Proxy]],
) -> None:
    """It is failing until a sync succeeds, and none can if nobody writes. Red without the trial."""
    linked, proxies = proxied
    link = link_of(linked, 1)
    proxies[0].replies = says(failing=True)
    await until(lambda: not link.write_breaker.closed, "node 1 says that it fails")
    assert numbers(linked.for_write(3)) == [2, 3]
    assert linked.usable(1)
    await until(lambda: len(linked.for_write(3)) == 3, "it is tried")
    proxies[0].replies = lambda frame: [frame]
    await put(link)
    assert numbers(linked.for_write(3)) == [1, 2, 3]


async def test_a_failed_write_puts_the_node_aside_at_once(proxied: tuple[NodeSet, list[Proxy]]) -> None:
    linked, proxies = proxied

    def fails(frame: wire.Frame) -> list[wire.Frame]:
        return [out for half in refuses_puts(wire.Status.FAILED)(frame) for out in says(failing=True)(half)]

    proxies[0].replies = fails
    with pytest.raises(RemoteFault):
        await put(link_of(linked, 1))
    assert numbers(linked.for_write(3)) == [2, 3]


async def test_where_all_disks_fail_all_are_tried(proxied: tuple[NodeSet, list[Proxy]]) -> None:
    """A shared disk hiccups: 503 for a second is worse than trying. Red when `for_write` gave nobody."""
    linked, _ = proxied
    for number in (1, 2, 3):
        link_of(linked, number).write_breaker.trip()
    assert numbers(linked.for_write(3)) == [1, 2, 3]


async def test_s9_a_node_that_hangs_is_avoided_though_too_few_remain_for_each_shard(
    proxied: tuple[NodeSet, list[Proxy]],
) -> None:
    """Red when `for_write` kept stalled nodes to have `width` of them: each PUT paid the hedge delay."""
    linked, proxies = proxied
    for number in (1, 2, 3):
        await put(link_of(linked, number))
    proxies[2].replies_flow.clear()
    ask_sync(link_of(linked, 3))
    await until(lambda: numbers(linked.for_write(3)) == [1, 2], "node 3 is avoided")
    proxies[1].replies_flow.clear()
    ask_sync(link_of(linked, 2))
    await until(lambda: numbers(linked.for_write(3)) == [1, 2, 3], "one alone is no use: try all")
    for proxy in proxies:
        proxy.replies_flow.set()
    await until(lambda: all(linked.usable(number) for number in (1, 2, 3)), "all answer again")
    assert numbers(linked.for_write(3)) == [1, 2, 3]


async def test_s9_a_frozen_node_is_avoided_before_anybody_wrote_to_it(
    proxied: tuple[NodeSet, list[Proxy]],
) -> None:
    """The unanswered status tells. Red when only outstanding writes told of a stall in writing."""
    linked, proxies = proxied
    proxies[0].replies_flow.clear()
    await until(lambda: numbers(linked.for_write(3)) == [2, 3], "node 1 is avoided")
    assert link_of(linked, 1).up, "long before its connection is given up"


async def test_a_flapping_node_is_kept_out_and_read_only_when_needed(
    proxied: tuple[NodeSet, list[Proxy]],
) -> None:
    linked, proxies = proxied
    link = link_of(linked, 1)
    for _ in range(2):
        await until(lambda: link.up, "node 1 is there")
        assert 1 in numbers(linked.for_write(3)), "once is forgiven"
        proxies[0].cut()
        await until(lambda: not link.up, "and gone")
    await until(lambda: link.up, "and there")
    came_s = time.monotonic()
    assert numbers(linked.for_write(3)) == [2, 3]
    assert not linked.usable(1)
    assert linked.order_for_read([1, 2, 3]) == [2, 3, 1]
    await until(lambda: linked.usable(1), "it stayed")
    assert time.monotonic() - came_s > 0.4


async def test_time_outs_open_the_breaker(proxied: tuple[NodeSet, list[Proxy]]) -> None:
    linked, proxies = proxied
    link = link_of(linked, 1)

    def only_status(frame: wire.Frame) -> list[wire.Frame]:
        return [frame] if frame.op == STATUS else []

    proxies[0].replies = only_status
    for _ in range(4):
        link.call(SYNC, wire.encode(wire.Sync(link.incarnation, 0)), None, 0.01)
    await until(lambda: not link.breaker.closed, "they timed out")
    assert link.up
    assert numbers(linked.for_write(3)) == [2, 3]
    proxies[0].replies = lambda frame: [frame]
    await until(lambda: len(linked.for_write(3)) == 3, "a trial")
    await put(link)
    assert link.breaker.closed


async def test_patience_follows_the_recent_latency_within_bounds(linked: NodeSet) -> None:
    latency = link_of(linked, 1).latency[PUT]
    assert linked.write_patience_s(1) == 0.03
    for _ in range(100):
        latency.add(0.05)
    assert linked.write_patience_s(1) == pytest.approx(0.2, rel=0.01)
    for _ in range(100):
        latency.add(60.0)
    assert linked.write_patience_s(1) == 1.0
    for _ in range(100):
        latency.add(0.001)
        latency.fade()
    assert linked.write_patience_s(1) == 0.03, "a bad moment is soon forgotten"
    assert linked.write_patience_s(99) == 0.03


# -- update --------------------------------------------------------------------------------------------------


async def test_the_set_follows_what_it_is_told(tmp_path: Path) -> None:
    """Add, drain, remove, while calls are under way on the others. Red when `update` made new links for
    nodes that stay: their calls ended in LinkDown."""
    with RealNodes(tmp_path, 4) as running:
        async with AsyncExitStack() as stack:
            proxies = [await stack.enter_async_context(Proxy(info)) for info in running.infos]
            infos = [proxy.info for proxy in proxies]
            linked = await stack.enter_async_context(linked_to(infos[:3]))
            assert await linked.wait_up(10) == 3
            first, second = link_of(linked, 1), link_of(linked, 2)
            for proxy in proxies[:2]:
                proxy.replies_flow.clear()
            staying, ending = (
                link.call(STATUS, wire.encode(wire.StatusRequest()), None, 10) for link in (first, second)
            )

            joining = replace(infos[3], state="joining")
            draining = replace(infos[0], state="draining")
            removed = replace(infos[1], state="removed")
            await linked.update([draining, removed, infos[2], joining])
            with pytest.raises(LinkDown):
                await ending
            assert linked.link(2) is None
            assert not second.up
            assert link_of(linked, 1) is first
            assert numbers(list(linked.nodes)) == [1, 3, 4]
            await until(lambda: link_of(linked, 4).up, "node 4 is connected")
            assert numbers(linked.alive()) == [3]
            proxies[0].replies_flow.set()
            await staying

            await linked.update([infos[0], removed, infos[2], infos[3]])
            assert numbers(linked.for_write(3)) == [1, 3, 4]
            proxies[1].replies_flow.set()
            await linked.update(infos)
            await until(lambda: len(linked.for_write(4)) == 4, "node 2 is back")


async def test_a_node_that_moved_is_found_at_its_new_address(nodes: RealNodes) -> None:
    async with (
        Proxy(nodes[1].info) as old,
        Proxy(nodes[1].info) as new,
        linked_to([old.info, nodes[2].info]) as linked,
    ):
        assert await linked.wait_up(10) == 2
        link = link_of(linked, 1)
        await linked.update([new.info, nodes[2].info])
        assert link_of(linked, 1) is link, "what was learned of it is kept"
        await until(lambda: link.up, "found")
        old.cut()
        await put(link)
        assert link.up


async def test_s23_another_node_under_the_same_number_gets_a_link_of_its_own(nodes: RealNodes) -> None:
    async with linked_to([nodes[1].info]) as linked:
        assert await linked.wait_up(10) == 1
        link = link_of(linked, 1)
        await linked.update([replace(nodes[2].info, number=1)])
        assert not link.up
        await until(lambda: link_of(linked, 1).up, "the other node")
        assert link_of(linked, 1).node_id == nodes[2].node_id


async def test_an_updated_set_that_was_not_started_connects_to_nothing(nodes: RealNodes) -> None:
    linked = linked_to([replace(nodes[1].info, address=("127.0.0.1", 1))])
    await linked.update(nodes.infos)
    assert linked.up_count() == 0
    assert len(asyncio.all_tasks()) == 1
    async with linked:
        assert await linked.wait_up(10) == 3
