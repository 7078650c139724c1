"""Links against real nodes, some behind a proxy that holds, cuts or forges frames (S10, S25)."""

import asyncio
import re
import socket
import time
from typing import Any

import pytest

from cluster import wire
from cluster.errors import CallLate, DeadlineExceeded, LinkBusy, LinkDown, RemoteFault
from cluster.link import Link, LinkSettings
from cluster.topology import NodeInfo
from codec.block import BlockKey, page_checksums, verify
from tests.cluster.conftest import until
from tests.cluster.nodes import CLUSTER_ID, SECRET, RealNodes
from tests.cluster.proxy import Proxy

PUT, READ, STATUS, SYNC = (
    int(op) for op in (wire.Op.PUT_BLOCK, wire.Op.READ_BLOCK, wire.Op.STATUS, wire.Op.SYNC)
)
ASK_STATUS = wire.encode(wire.StatusRequest())

pytestmark = pytest.mark.usefixtures("silent_loop")


def link_to(node: NodeInfo, **settings: Any) -> Link:
    return Link(
        node.address,
        secret=SECRET,
        cluster_id=CLUSTER_ID,
        node_id=node.node_id,
        role=wire.Role.FRONT,
        settings=LinkSettings(**settings),
    )


def put(blob: bytes, payload: bytes, *, sync: bool = True) -> bytes:
    return wire.encode(wire.PutBlock(blob, 0, 0, 1, 1, 1, len(payload), page_checksums(payload), sync))


def read(blob: bytes) -> bytes:
    return wire.encode(wire.ReadBlock(blob, 0, 0, 0, 0))


def blob(name: str) -> bytes:
    return name.encode().ljust(16, b".")


async def test_many_calls_are_in_flight_at_once_and_each_gets_its_own_reply(nodes: RealNodes) -> None:
    async with link_to(nodes[1].info) as link:
        await link.wait_up()
        payloads = {blob(f"many {i}"): bytes([i]) * (1 + i * 4001) for i in range(64)}
        puts = [link.call(PUT, put(name, payload), payload, 10) for name, payload in payloads.items()]
        assert link.outstanding_bytes == sum(map(len, payloads.values()))
        for future in puts:
            appended = wire.decode_appended((await future).header)
            assert appended.incarnation == link.incarnation
        assert link.outstanding_bytes == 0
        reads = {name: link.call(READ, read(name), None, 10) for name in payloads}
        for name, future in reversed(reads.items()):
            block = verify((await future).payload, BlockKey(name, 0, 0))
            assert block.payload == payloads[name]
        assert link.latency[READ].high_s > 0


async def test_the_nodes_no_is_an_exception_with_its_status(nodes: RealNodes) -> None:
    async with link_to(nodes[1].info) as link:
        await link.wait_up()
        with pytest.raises(RemoteFault) as caught:
            await link.call(READ, read(blob("nothing")), None, 10)
        assert caught.value.status == wire.Status.NOT_FOUND


async def test_s25_each_request_carries_its_deadline_and_fails_when_it_has_passed(nodes: RealNodes) -> None:
    """Break caught: with `_expire` not called from the sweep the future hung for ever."""
    seen: list[int] = []

    def note(frame: wire.Frame) -> list[wire.Frame]:
        if frame.op == PUT:
            seen.append(frame.deadline_ms)
        return [frame]

    async with Proxy(nodes[1].info) as proxy, link_to(proxy.info) as link:
        await link.wait_up()
        proxy.requests = note
        proxy.replies_flow.clear()
        payload = b"late"
        future = link.call(PUT, put(blob("late"), payload), payload, 0.05)
        with pytest.raises(DeadlineExceeded):
            await future
        assert seen == [50]
        assert link.outstanding_bytes == 0
        proxy.replies_flow.set()  # the reply comes after all, and finds nobody
        status = await link.call(STATUS, ASK_STATUS, None, 10)
        assert wire.decode_node_status(status.header).node_id == nodes[1].node_id
        assert link.up


async def test_a_late_call_says_so_and_goes_on(nodes: RealNodes) -> None:
    async with Proxy(nodes[1].info) as proxy, link_to(proxy.info) as link:
        await link.wait_up()
        proxy.replies_flow.clear()
        future = link.call(STATUS, ASK_STATUS, None, 10, 0.02)
        with pytest.raises(CallLate) as caught:
            await future
        assert not caught.value.reply.done()
        proxy.replies_flow.set()
        reply = await caught.value.reply
        assert wire.decode_node_status(reply.header).node_id == nodes[1].node_id


async def test_s10_bytes_outstanding_are_capped(nodes: RealNodes) -> None:
    """Break caught: without the subtraction in `_received` the link was busy for ever after the first 100 B."""
    async with Proxy(nodes[1].info) as proxy, link_to(proxy.info, outstanding_bytes_max=100) as link:
        await link.wait_up()
        proxy.replies_flow.clear()
        payload = bytes(60)
        first = link.call(PUT, put(blob("first"), payload), payload, 10)
        with pytest.raises(LinkBusy):
            link.call(PUT, put(blob("second"), payload), payload, 10)
        proxy.replies_flow.set()
        await first
        await link.call(PUT, put(blob("second"), payload), payload, 10)


async def test_s10_a_link_without_replies_is_stalled_until_one_comes(nodes: RealNodes) -> None:
    """Break caught: judged by the last reply alone, a link idle for a minute was stalled at its next call."""
    async with Proxy(nodes[1].info) as proxy, link_to(proxy.info) as link:
        await link.wait_up()
        await link.call(STATUS, ASK_STATUS, None, 10)
        quiet_since = time.monotonic()
        await until(lambda: time.monotonic() > quiet_since + 0.1, "some idleness")
        proxy.replies_flow.clear()
        call = link.call(STATUS, ASK_STATUS, None, 10)
        asked = time.monotonic()
        await until(link.is_stalled, "the link is stalled")
        assert time.monotonic() - asked >= LinkSettings().stall_s_min
        proxy.replies_flow.set()
        await call
        assert not link.is_stalled()


async def test_s10_reads_and_writes_stall_apart(nodes: RealNodes) -> None:
    held: list[wire.Frame] = []

    def hold_puts(frame: wire.Frame) -> list[wire.Frame]:
        if frame.op == PUT:
            held.append(frame)
            return []
        return [frame]

    async with Proxy(nodes[1].info) as proxy, link_to(proxy.info) as link:
        await link.wait_up()
        proxy.replies = hold_puts
        link.call(PUT, put(blob("apart"), b"1"), b"1", 10)
        await until(lambda: link.is_stalled(writing=True), "writes are stalled")
        assert not link.is_stalled()


async def test_s10_a_silent_node_is_cut_off_and_found_again(nodes: RealNodes) -> None:
    """Break caught: without the probe an idle link to a frozen node stayed up until somebody paid for it."""
    quick = {"probe_s": 0.02, "silence_s_max": 0.1, "connect_s_max": 0.2, "sweep_s": 0.002}
    async with Proxy(nodes[1].info) as proxy, link_to(proxy.info, **quick) as link:
        await link.wait_up()
        proxy.replies_flow.clear()
        await until(lambda: not link.up, "the link notices the silence though nobody calls")
        assert "silent" in link.failure
        with pytest.raises(LinkDown, match="silent"):
            link.call(STATUS, ASK_STATUS, None, 10)
        proxy.replies_flow.set()
        async with asyncio.timeout(30):
            await link.wait_up()
        await link.call(STATUS, ASK_STATUS, None, 10)


async def test_calls_in_flight_end_with_the_connection_and_it_comes_back(nodes: RealNodes) -> None:
    async with Proxy(nodes[1].info) as proxy, link_to(proxy.info) as link:
        await link.wait_up()
        proxy.replies_flow.clear()
        payload = bytes(1000)
        calls = [link.call(PUT, put(blob("cut"), payload), payload, 10) for _ in range(3)]
        proxy.cut()
        for call in calls:
            with pytest.raises(LinkDown):
                await call
        assert link.outstanding_bytes == 0
        proxy.replies_flow.set()
        async with asyncio.timeout(30):
            await link.wait_up()
        await link.call(PUT, put(blob("cut"), payload), payload, 10)


async def test_a_killed_node_is_known_at_once_and_its_successor_has_another_incarnation(
    own_nodes: RealNodes,
) -> None:
    async with link_to(own_nodes[1].info) as link:
        await link.wait_up()
        before = link.incarnation
        own_nodes[1].kill()
        started = time.monotonic()
        await until(lambda: not link.up, "the link notices")
        assert time.monotonic() - started < 2.0
        own_nodes[1].start()
        async with asyncio.timeout(30):
            await link.wait_up()
        assert link.incarnation != before


async def test_a_frozen_node_is_known_within_three_seconds_busy_or_idle(own_nodes: RealNodes) -> None:
    """With the settings that processes use, and at the first missed status it is known to be stalled.

    Red with probes a second apart and three seconds of silence: the idle link took four.
    """
    async with link_to(own_nodes[1].info) as busy, link_to(own_nodes[1].info) as idle:
        await busy.wait_up()
        await idle.wait_up()
        quiet_since = time.monotonic()
        await until(lambda: idle._idle and time.monotonic() > quiet_since + 0.6, "one link idles")
        own_nodes[1].freeze()
        frozen_s = time.monotonic()
        busy.call(READ, read(blob("nothing")), None, 10)
        await until(lambda: busy.is_stalled() and busy.is_stalled(writing=True), "the busy one stalls")
        assert time.monotonic() - frozen_s < 1.0
        await until(lambda: idle.is_stalled() and idle.is_stalled(writing=True), "the idle one stalls")
        assert time.monotonic() - frozen_s < 2.0
        await until(lambda: not busy.up and not idle.up, "both know")
        print(f"a frozen node was cut off after {time.monotonic() - frozen_s:.2f} s")
        assert time.monotonic() - frozen_s < 3.0
        own_nodes[1].thaw()
        async with asyncio.timeout(30):
            await busy.wait_up()
            await idle.wait_up()
        assert busy.breaker.closed, "one freeze is forgiven"


async def test_a_stall_teaches_its_length_only_once(nodes: RealNodes) -> None:
    """Fifty calls wait out a freeze together. Red without `_taught_s`: the mark rose to the freeze's length,
    and at the next freeze each call waited four times as long before it was hedged."""
    async with Proxy(nodes[1].info) as proxy, link_to(proxy.info) as link:
        await link.wait_up()
        for _ in range(20):
            await link.call(STATUS, ASK_STATUS, None, 10)
        proxy.replies_flow.clear()
        held_s = time.monotonic()
        calls = [link.call(STATUS, ASK_STATUS, None, 10) for _ in range(50)]
        await until(lambda: link.is_stalled() and time.monotonic() > held_s + 0.2, "a stall of some length")
        proxy.replies_flow.set()
        await asyncio.gather(*calls)
        assert link.latency[STATUS].high_s < 0.5 * (time.monotonic() - held_s)


async def test_a_closed_link_is_down_and_ends_its_calls(nodes: RealNodes) -> None:
    """Break caught: `close` cancelled the future that was to tell of the end, and the link stayed up."""
    async with Proxy(nodes[1].info) as proxy:
        async with link_to(proxy.info) as link:
            await link.wait_up()
            proxy.replies_flow.clear()
            call = link.call(STATUS, ASK_STATUS, None, 10)
        assert not link.up
        with pytest.raises(LinkDown):
            await call


async def test_a_cancelled_caller_leaves_nothing_behind(nodes: RealNodes) -> None:
    async with Proxy(nodes[1].info) as proxy, link_to(proxy.info) as link:
        await link.wait_up()
        proxy.replies_flow.clear()
        payload = bytes(1000)
        future = link.call(PUT, put(blob("gone"), payload), payload, 10)
        future.cancel()
        proxy.replies_flow.set()
        await until(lambda: link.outstanding_bytes == 0, "the reply is taken in")
        assert link.up


async def test_errors_that_nobody_reads_stay_silent(nodes: RealNodes) -> None:
    """The silent_loop fixture is the judge. Break caught: set_exception without the exception() after it."""
    async with link_to(nodes[1].info) as link:
        await link.wait_up()
        link.call(READ, read(blob("nobody")), None, 10)
        await link.call(STATUS, ASK_STATUS, None, 10)
        link.call(STATUS, ASK_STATUS, None, 10)


async def test_s25_health_traffic_has_a_connection_of_its_own(nodes: RealNodes) -> None:
    """A front's link that is stuck does not delay the steward's."""
    async with Proxy(nodes[1].info) as proxy, link_to(proxy.info) as front, link_to(nodes[1].info) as steward:
        await front.wait_up()
        await steward.wait_up()
        proxy.replies_flow.clear()
        stuck = front.call(STATUS, ASK_STATUS, None, 10)
        await steward.call(STATUS, ASK_STATUS, None, 1)
        assert not stuck.done()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"secret": b"not the secret of this cluster!!"}, "secret"),
        ({"cluster_id": b"another cluster!"}, "another cluster"),
        ({"node_id": b"another node ..."}, "this is node|is expected"),
    ],
)
async def test_s25_a_stranger_never_gets_a_link(
    nodes: RealNodes, wrong: dict[str, bytes], message: str
) -> None:
    right: dict[str, Any] = {"secret": SECRET, "cluster_id": CLUSTER_ID, "node_id": nodes[1].node_id}
    async with Link(nodes[1].info.address, role=wire.Role.FRONT, **(right | wrong)) as link:
        await until(lambda: link.failure != "not connected yet", "the handshake fails")
        assert not link.up
        assert re.search(message, link.failure)
        with pytest.raises(LinkDown):
            link.call(STATUS, ASK_STATUS, None, 10)


async def test_a_peer_that_sends_garbage_is_dropped(nodes: RealNodes) -> None:
    """An oversized length is refused before anything is allocated; the next connection is as good as new."""

    def oversized(frame: wire.Frame) -> list[wire.Frame]:
        return [frame._replace(payload=bytes(wire.MAX_FRAME_BYTES))]

    async with Proxy(nodes[1].info) as proxy, link_to(proxy.info) as link:
        await link.wait_up()
        proxy.replies = oversized
        with pytest.raises(LinkDown, match="a frame of"):
            await link.call(STATUS, ASK_STATUS, None, 10)
        proxy.replies = lambda frame: [frame]
        async with asyncio.timeout(30):
            await link.wait_up()
        await link.call(STATUS, ASK_STATUS, None, 10)


async def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    info = NodeInfo(1, bytes(16), "n", "r", "z", address)
    async with link_to(info) as link:
        await until(lambda: "onnect" in link.failure and link.failure != "not connected yet", "refused")
        assert not link.up
