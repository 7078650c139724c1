"""What tests of the writer share: a writer with all it needs, bodies, and readers that lack nodes."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack

from catalog.model import BlobRow
from cluster import wire
from cluster.blob_reader import BlobReader
from cluster.blob_writer import BlobIds, BlobWriter, WriterSettings
from cluster.budget import ByteBudget
from cluster.link import Link, LinkSettings
from cluster.placement import copies
from cluster.receipt import Receipt
from cluster.topology import NodeInfo, NodeSet
from codec.block import BlockKey, unpack_key
from codec.geometry import Geometry
from tests.cluster.conftest import until
from tests.cluster.nodes import CLUSTER_ID, SECRET, RealNodes
from tests.cluster.proxy import Proxy

STRIPE = 4096
BUDGET = 64 << 20


class Rig:
    """A writer with everything it needs, and a way to read back what it wrote."""

    def __init__(
        self,
        nodes: NodeSet,
        *,
        stripe_bytes: int = STRIPE,
        budget_bytes: int = BUDGET,
        settings: WriterSettings | None = None,
        k: int = 2,
        m: int = 1,
    ) -> None:
        self.nodes = nodes
        self.budget = ByteBudget(budget_bytes)
        self.abandoned: list[Receipt] = []
        self.writer = BlobWriter(
            nodes,
            Geometry(k, m, stripe_bytes),
            self.budget,
            BlobIds(),
            settings,
            on_abandoned=self.abandoned.append,
        )

    def be_patient(self, *, but_with: int = 0) -> None:
        """Nobody is late on a busy machine; but one node always is, at the next look."""
        self.nodes.write_patience_s = (  # type: ignore[method-assign]
            lambda number, *_: 0.0 if number == but_with else 60.0
        )

    async def stored(self, receipt: Receipt) -> bytes:
        """What the nodes of this rig hold."""
        return await read_back(self.nodes, receipt)

    def check_whole(self) -> None:
        assert self.budget.free_bytes == self.budget.total_bytes


def row(receipt: Receipt) -> BlobRow:
    return BlobRow(
        id=receipt.blob_id,
        size=receipt.size,
        k=receipt.k,
        m=receipt.m,
        stripe_bytes=receipt.stripe_bytes,
        codec=1,
        transform=0,
        nodes=receipt.nodes,
        runs=receipt.runs,
    )


async def read_back(nodes: NodeSet, receipt: Receipt) -> bytes:
    """The blob's bytes, every block where the receipt says and as it was written."""
    faults: list[object] = []

    async def relocate(_: bytes) -> BlobRow | None:
        raise AssertionError("a block is missing")

    reader = BlobReader(nodes, ByteBudget(BUDGET), relocate, faults.append)
    stream = reader.open(row(receipt), 0, receipt.size)
    parts: list[bytes] = []
    try:
        while (buffers := await stream.next()) is not None:
            parts += map(bytes, buffers)
    finally:
        stream.close()
    assert faults == []
    return b"".join(parts)


async def body(content: bytes, stripe_bytes: int = STRIPE) -> AsyncIterator[bytes]:
    for at in range(0, len(content), stripe_bytes):
        yield content[at : at + stripe_bytes]


def linked_to(infos: Collection[NodeInfo], settings: LinkSettings | None = None) -> NodeSet:
    return NodeSet.connecting(
        list(infos), secret=SECRET, cluster_id=CLUSTER_ID, role=wire.Role.FRONT, settings=settings
    )


async def check_survives(running: RealNodes, receipt: Receipt, content: bytes, *, without: int = 0) -> None:
    """P2: `content` reads back whole when any one node is lost, beside node `without` that is lost already."""
    rest = [info for info in running.infos if info.number != without]
    for lost in rest:
        async with linked_to([info for info in rest if info != lost]) as left:
            assert await left.wait_up(10) == len(rest) - 1
            assert await read_back(left, receipt) == content, f"without nodes {without} and {lost.number}"


async def inventory(info: NodeInfo, blob_id: bytes) -> set[tuple[int, int, int]]:
    """(stripe, shard, node) of all blocks of a blob that a node holds."""
    found = set()
    async with Link(
        info.address, secret=SECRET, cluster_id=CLUSTER_ID, node_id=info.node_id, role=wire.Role.STEWARD
    ) as link:
        async with asyncio.timeout(30):
            await link.wait_up()
        after, more = b"", True
        while more:
            header = wire.encode(wire.Inventory(after, wire.INVENTORY_MAX))
            page = wire.decode_inventory_page((await link.call(wire.Op.INVENTORY, header, None, 10)).header)
            keys: list[BlockKey] = [unpack_key(key) for key, _, _ in page.entries]
            found |= {(key.stripe, key.shard, info.number) for key in keys if key.blob == blob_id}
            after, more = page.entries[-1][0] if page.entries else b"", page.more
    return found


def named(receipt: Receipt) -> set[tuple[int, int, int]]:
    """(stripe, shard, node) of all copies that a receipt names."""
    blob = row(receipt)
    width = receipt.k + receipt.m
    return {
        (stripe, shard, node)
        for stripe in range(receipt.stripes)
        for shard, node in copies(blob.nodes_at(stripe), width)
    }


class Proxied:
    """Real nodes behind proxies, and links through them that learn of nothing but what passes.

    The links never give up by themselves (`settings`), so that only the writer's own rules can save a write.
    """

    settings = LinkSettings(silence_s_max=60.0)

    def __init__(self, running: RealNodes) -> None:
        self._running = running
        self._stack = AsyncExitStack()
        self.proxies: dict[int, Proxy] = {}

    async def __aenter__(self) -> "Proxied":
        for info in self._running.infos:
            self.proxies[info.number] = await self._stack.enter_async_context(Proxy(info))
        self.nodes = linked_to([proxy.info for proxy in self.proxies.values()], self.settings)
        await self._stack.enter_async_context(self.nodes)
        assert await self.nodes.wait_up(10) == len(self.proxies)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def link(self, number: int) -> Link:
        link = self.nodes.link(number)
        assert link is not None
        return link

    def freeze(self, number: int) -> None:
        """Nothing comes back from that node any more."""
        self.proxies[number].replies_flow.clear()

    def thaw(self, number: int) -> None:
        self.proxies[number].replies_flow.set()

    async def lose(self, number: int) -> None:
        """That node is gone for good, as far as the links can see."""
        proxy, link = self.proxies[number], self.link(number)
        proxy.shut()
        await until(lambda: not link.up, "the loss is noticed")

    def refuse(self, number: int, status: wire.Status, op: wire.Op = wire.Op.PUT_BLOCK) -> None:
        """All that comes back from that node for requests of a kind is a no, whatever it did."""

        def reply(frame: wire.Frame) -> list[wire.Frame]:
            if frame.op != op:
                return [frame]
            return [frame._replace(status=int(status), header=wire.encode(wire.Fault("no")))]

        self.proxies[number].replies = reply
