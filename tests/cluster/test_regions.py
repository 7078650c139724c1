"""Nodes far apart: near copies are read first, and far data shards are gone round where that is faster."""

import asyncio
import os
import statistics
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Self

import pytest
import pytest_asyncio

from catalog.model import BlobRow
from cluster import wire
from cluster.blob_reader import BlobReader
from cluster.blob_writer import BlobIds, BlobWriter
from cluster.budget import ByteBudget
from cluster.link import Link, LinkSettings
from cluster.placement import is_standard
from cluster.stripe_read import Fault
from cluster.topology import NodeInfo, NodeSet
from codec.block import BlockKey, verify
from codec.geometry import Geometry
from tests.cluster.conftest import until
from tests.cluster.nodes import CLUSTER_ID, SECRET, RealNodes
from tests.cluster.proxy import Proxy
from tests.cluster.writing import row

pytestmark = pytest.mark.usefixtures("silent_loop")

READ, PUT = int(wire.Op.READ_BLOCK), int(wire.Op.PUT_BLOCK)


class FarAway:
    """A relay before `node` that delays all bytes by `one_way_s` in each direction; point links at `info`."""

    def __init__(self, node: NodeInfo, one_way_s: float) -> None:
        self.one_way_s = one_way_s
        self.info = node
        self._node = node
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._adopt, "127.0.0.1", 0)
        self.info = replace(self._node, address=self._server.sockets[0].getsockname()[:2])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _adopt(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        node_reader, node_writer = await asyncio.open_connection(*self._node.address)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(reader, node_writer))
                group.create_task(self._carry(node_reader, writer))
        except* OSError:
            pass
        finally:
            node_writer.transport.abort()
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Bytes in order, each so much later than it came."""
        clock = asyncio.get_running_loop().time
        under_way: deque[tuple[float, bytes]] = deque()
        came = asyncio.Event()

        async def deliver() -> None:
            while True:
                await came.wait()
                while under_way:
                    due_s, content = under_way.popleft()
                    await asyncio.sleep(due_s - clock())
                    writer.write(content)
                came.clear()

        delivering = asyncio.create_task(deliver())
        try:
            while content := await reader.read(1 << 16):
                under_way.append((clock() + self.one_way_s, content))
                came.set()
            raise ConnectionResetError
        finally:
            delivering.cancel()
            with suppress(asyncio.CancelledError):
                await delivering


class Shop:
    """Writes and reads blobs of 2+1 over a NodeSet."""

    def __init__(self, linked: NodeSet) -> None:
        self.linked = linked
        self.faults: list[Fault] = []
        self.rows: dict[bytes, BlobRow] = {}
        self._reader = BlobReader(linked, ByteBudget(64 << 20), self._relocate, self.faults.append)

    async def _relocate(self, blob_id: bytes) -> BlobRow | None:
        return self.rows.get(blob_id)

    async def write(self, content: bytes) -> BlobRow:
        """In the standard layout: where a busy machine made the writer hedge, it is written once more."""
        writer = BlobWriter(self.linked, Geometry(2, 1), ByteBudget(1 << 20), BlobIds())
        for _ in range(20):
            receipt = await writer.write_one(content, epoch=1)
            if is_standard(receipt.nodes, 3):
                self.rows[receipt.blob_id] = row(receipt)
                return self.rows[receipt.blob_id]
        pytest.fail("all nodes are there, and no blob lies on each of them")

    async def read(self, blob: BlobRow, start: int = 0, stop: int | None = None) -> bytes:
        stream = self._reader.open(blob, start, blob.size if stop is None else stop)
        parts: list[bytes] = []
        try:
            while (buffers := await stream.next()) is not None:
                parts.append(b"".join(buffers))
        finally:
            stream.close()
        return b"".join(parts)


def linked_to(
    infos: list[NodeInfo], here: tuple[str, str] | None = None, settings: LinkSettings | None = None
) -> NodeSet:
    return NodeSet.connecting(
        infos, secret=SECRET, cluster_id=CLUSTER_ID, role=wire.Role.FRONT, here=here, settings=settings
    )


@asynccontextmanager
async def undisturbed(
    infos: list[NodeInfo], here: tuple[str, str] | None = None
) -> AsyncIterator[tuple[NodeSet, list[Link]]]:
    """Links, by node number less 1, that never find a node slow or far by themselves, however busy the
    machine is."""
    async with linked_to(infos, here, LinkSettings(stall_s_min=5.0, probe_s=60.0)) as linked:
        assert await linked.wait_up(10) == len(infos)
        links = [link for info in infos if (link := linked.link(info.number)) is not None]
        await until(lambda: all(link.trust.status for link in links), "the only probes are over")
        for link in links:
            link.round_trip_s = 0.0
        linked._survey()
        assert not linked.far
        yield linked, links


# -- measured distance ---------------------------------------------------------------------------------------


def measured(reads_s: dict[int, float]) -> NodeSet:
    """Nodes with these read latencies, connected to nothing."""
    infos = [NodeInfo(n, bytes([n]) * 16, f"n{n}", "r", "z", ("127.0.0.1", 1)) for n in reads_s]
    linked = linked_to(infos)
    for number, s in reads_s.items():
        link = linked.link(number)
        assert link is not None
        link.up = True
        for _ in range(200):
            link.latency[READ].add(s)
    linked._survey()
    return linked


@pytest.mark.parametrize(
    ("reads_s", "far"),
    [
        ({1: 0.0003, 2: 0.0005, 3: 0.0004}, set()),
        ({1: 0.002, 2: 0.006, 3: 0.003}, set()),  # a busy machine, not a distance
        ({1: 0.020, 2: 0.050, 3: 0.030}, set()),
        ({1: 0.0005, 2: 0.012, 3: 0.070}, {2, 3}),
        ({1: 0.0005, 2: 0.0005, 3: 0.070}, {3}),
    ],
)
def test_far_is_what_takes_much_longer(reads_s: dict[int, float], far: set[int]) -> None:
    assert measured(reads_s).far == far


def test_far_nodes_are_asked_in_the_order_of_their_distance() -> None:
    linked = measured({1: 0.150, 2: 0.0005, 3: 0.070})
    assert linked.order_for_read([1, 2, 3]) == [2, 3, 1]
    assert linked.worth_avoiding([1], [2, 3]) is False, "150 ms are not much longer than 70 ms"
    assert linked.worth_avoiding([3], [1, 2]) is False
    linked = measured({1: 0.250, 2: 0.0005, 3: 0.070})
    assert linked.worth_avoiding([1, 2], [2, 3])


# -- three regions -------------------------------------------------------------------------------------------

NEAR_S, MIDDLE_S, FAR_S = 0.0, 0.010, 0.060
"""Round trips from here to the nodes 1, 2 and 3."""


@pytest_asyncio.fixture
async def regions(nodes: RealNodes) -> AsyncIterator[tuple[Shop, list[FarAway]]]:
    async with AsyncExitStack() as stack:
        relays = [
            await stack.enter_async_context(FarAway(info, round_trip_s / 2))
            for info, round_trip_s in zip(nodes.infos, (NEAR_S, MIDDLE_S, FAR_S), strict=True)
        ]
        linked = linked_to([relay.info for relay in relays], ("region-1", "a"))
        await stack.enter_async_context(linked)
        assert await linked.wait_up(10) == 3
        yield Shop(linked), relays


async def timed(shop: Shop, blob: BlobRow, content: bytes) -> float:
    started = time.monotonic()
    assert await shop.read(blob) == content
    return time.monotonic() - started


async def test_reads_go_round_the_far_node(regions: tuple[Shop, list[FarAway]]) -> None:
    """With k+m = 3 nodes 0, 10 and 60 ms away no GET need take 60 ms: two near shards give the third.

    Red when `_ask_data_shards` did not look at `far`: the two thirds of all blobs with a data shard on node 3
    took 60 ms. When the node comes near, it is used again.
    """
    shop, relays = regions
    content = os.urandom(4096)
    blobs = [await shop.write(content) for _ in range(24)]
    await until(lambda: 3 in shop.linked.far, "node 3 is known to be far")
    by_far: dict[bool, list[float]] = {False: [], True: []}
    for blob in blobs:
        by_far[3 in blob.nodes[:2]].append(await timed(shop, blob, content))
    assert len(by_far[True]) > 5
    medians_ms = {far: statistics.median(times) * 1000 for far, times in by_far.items()}
    print(
        f"round trips 0, 10, 60 ms; GET 4 KiB, median: {medians_ms[True]:.1f} ms for blobs with a data shard on "
        f"the farthest node, {medians_ms[False]:.1f} ms for the others"
    )
    assert medians_ms[True] < 40
    assert medians_ms[False] < 40
    assert shop.faults == []

    link = shop.linked.link(3)
    assert link is not None
    for relay in relays:
        relay.one_way_s = 0.0
    started = time.monotonic()
    while shop.linked.far:
        assert time.monotonic() - started < 20, "node 3 is never trusted again"
        await asyncio.gather(*(timed(shop, blob, content) for blob in blobs))


async def test_a_range_on_a_near_shard_is_read_directly(nodes: RealNodes) -> None:
    """Nothing is decoded, and the far node not asked, for bytes that lie near. And in the other direction:
    where the others are as far as the data shard it is asked for its pages alone."""
    asked: list[tuple[int, int]] = []
    async with AsyncExitStack() as stack:
        infos = []
        for info in nodes.infos:
            proxy = await stack.enter_async_context(Proxy(info))

            def note(frame: wire.Frame, number: int = info.number) -> list[wire.Frame]:
                if frame.op == READ:
                    asked.append((number, wire.decode_read_block(frame.header).shard))
                return [frame]

            proxy.requests = note
            infos.append(proxy.info)
        linked, links = await stack.enter_async_context(undisturbed(infos))
        shop = Shop(linked)
        content = os.urandom(200_000)
        blob = await shop.write(content)
        a, b, _ = blob.nodes

        async def read_with_far(far: set[int]) -> list[tuple[int, int]]:
            for number, link in enumerate(links, 1):
                link.latency[READ].mean_s = 0.1 if number in far else 0.001
            linked._survey()
            asked.clear()
            assert await shop.read(blob, 5, 9) == content[5:9]
            return sorted(asked)

        assert await read_with_far(set()) == [(a, 0)]
        assert await read_with_far({b}) == [(a, 0)]
        assert await read_with_far({a}) == sorted([(b, 1), (blob.nodes[2], 2)])
        assert await read_with_far({a, b}) == [(a, 0)], "decoding takes as long"


async def test_a_node_that_was_slow_is_trusted_again(nodes: RealNodes) -> None:
    """Its disk was slow for a while, its status always quick. Red without `explores`: nobody read from it any
    more, so nobody learned that it is well."""
    async with undisturbed(nodes.infos) as (linked, links):
        shop = Shop(linked)
        content = os.urandom(4096)
        blob = await shop.write(content)
        slow = blob.nodes[0]
        links[slow - 1].latency[READ].mean_s = 0.1
        linked._survey()
        assert linked.far == {slow}
        for _ in range(4000):
            assert await shop.read(blob) == content
            linked._survey()
            if slow not in linked.far:
                return
        pytest.fail("it is never trusted again")


async def test_a_far_node_beside_one_that_is_gone(nodes: RealNodes) -> None:
    """Red when distances were compared before all of the wanted nodes were known to be there: KeyError."""
    async with linked_to(nodes.infos) as whole, linked_to([nodes[1].info, nodes[3].info]) as linked:
        assert await whole.wait_up(10) == 3
        assert await linked.wait_up(10) == 2
        content = os.urandom(4096)
        there = Shop(whole)
        while (blob := await there.write(content)).nodes != (1, 2, 3):
            pass
        linked.far = frozenset({1})
        shop = Shop(linked)
        shop.rows = there.rows
        assert await shop.read(blob) == content


async def test_s9_of_several_copies_the_nearest_is_read(nodes: RealNodes) -> None:
    """A degraded layout: both data shards on two nodes. Red when the first copy was always asked."""
    async with AsyncExitStack() as stack:
        asked: list[int] = []
        infos = []
        for info in nodes.infos:
            proxy = await stack.enter_async_context(Proxy(info))

            def note(frame: wire.Frame, number: int = info.number) -> list[wire.Frame]:
                if frame.op == READ:
                    asked.append(number)
                return [frame]

            proxy.requests = note
            infos.append(proxy.info)
        for near, far in ((1, 2), (2, 1)):
            here = (f"region-{near}", "a")
            linked, links = await stack.enter_async_context(undisturbed(infos, here))
            shop = Shop(linked)
            content = os.urandom(4096)
            written = await shop.write(content)
            for shard in (0, 1):
                for node in (1, 2):
                    await copy_block(linked, written, shard, node)
            blob = BlobRow(written.id, 4096, 2, 1, 1 << 20, 1, 0, (1, 2, 0, 2, 1))
            asked.clear()
            assert await shop.read(blob) == content
            assert asked == [near, near]
            await links[near - 1].close()
            asked.clear()
            assert await shop.read(blob) == content
            assert asked == [far, far]


async def copy_block(linked: NodeSet, blob: BlobRow, shard: int, target: int) -> None:
    """Put a copy of a shard on another node as well."""
    source_link, target_link = linked.link(blob.nodes[shard]), linked.link(target)
    assert source_link is not None
    assert target_link is not None
    ask = wire.encode(wire.ReadBlock(blob.id, 0, shard, 0, 0))
    block = verify((await source_link.call(READ, ask, None, 5)).payload, BlockKey(blob.id, 0, shard))
    put = wire.PutBlock(blob.id, 0, shard, 2, 1, 1, block.header.stripe_length, block.header.pages, True)
    await target_link.call(PUT, wire.encode(put), block.payload, 5)
