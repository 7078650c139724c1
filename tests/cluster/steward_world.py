"""A whole store without fronts for the steward's tests: real nodes, links to them, a real catalog."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from catalog import buckets, leases, lookup, objects, work
from catalog import nodes as catalog_nodes
from catalog.engine import Catalog, CatalogSettings
from catalog.model import Attributes, BlobRow, Event, FaultReport, NewBlob, NodeRow
from cluster import wire
from cluster.blob_reader import BlobReader
from cluster.blob_writer import BlobIds, BlobWriter
from cluster.budget import ByteBudget
from cluster.placement import copies
from cluster.steward.extras import ExtraCollector
from cluster.steward.plan import geometry_of
from cluster.steward.repairer import Repairer
from cluster.steward.services import StewardServices, StewardSettings
from cluster.steward.tenure import Tenure
from cluster.stripe_read import MISSING, Fault
from cluster.topology import NodeInfo, NodeSet
from codec.block import BlockKey, pack_key
from codec.geometry import Geometry
from tests.catalog.fresh import fresh_catalog
from tests.cluster.nodes import CLUSTER_ID, SECRET, RealNode, RealNodes

STRIPE = 4096
SMALL = StewardSettings(
    orphan_share_max=1.0, delete_blocks_max=7, inventory_entries=5, repair_idle_s=0.01, scrub_blobs=3
)


async def body(content: bytes) -> AsyncIterator[bytes]:
    """As a front hands it over, stripe by stripe."""
    for at in range(0, len(content), STRIPE):
        yield content[at : at + STRIPE]


Place = tuple[int, int, int]  # stripe, shard, node


class Clock:
    """Monotonic time that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class World:
    """A catalog, links to nodes, and what a front would do with them. `now_ms` is what the steward thinks is
    due; `statuses` what the nodes said of themselves, as health would keep it."""

    def __init__(self, catalog: Catalog, nodes: NodeSet, k: int = 2, m: int = 1) -> None:
        self.catalog = catalog
        self.nodes = nodes
        self.clock = Clock()
        self.writer = BlobWriter(nodes, Geometry(k, m, STRIPE), ByteBudget(1 << 20), BlobIds())
        self.bucket_id = 0
        self.ahead_ms = 0
        self.statuses: dict[int, wire.NodeStatus] = {}
        self.in_flight: set[bytes] = set()
        self.bytes_of: dict[bytes, bytes] = {}

    def services(self, settings: StewardSettings = SMALL, clock: Clock | None = None) -> StewardServices:
        return StewardServices(self.catalog, self.nodes, settings, clock or self.clock, now_ms=self.now_ms)

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead_ms

    def pass_time(self, seconds: float) -> None:
        """On all clocks of the steward."""
        self.clock.now += seconds
        self.ahead_ms += int(seconds * 1000)

    async def tenure(self, holder: str = "a steward") -> Tenure:
        """Take office, whoever holds it."""
        return await Tenure.begin(self.catalog, holder, await self.catalog.read(leases.read))

    async def upload(self, size: int = 3 * STRIPE) -> NewBlob:
        """Shards on the nodes, nothing in the catalog yet."""
        epoch = (await self.catalog.meta()).upload_epoch
        content = os.urandom(size)
        receipt = await self.writer.write(body(content), epoch=epoch, size_hint=size)
        self.bytes_of[receipt.blob_id] = content
        return receipt.as_new_blob()

    async def commit(self, key: bytes, blob: NewBlob) -> None:
        await self.catalog.write(
            lambda tx: objects.put(
                tx,
                bucket_id=self.bucket_id,
                key=key,
                blob=blob,
                etag="0" * 32,
                content_type="text/plain",
                attributes=Attributes(),
                condition=None,
            )
        )

    async def put(self, key: bytes, size: int = 3 * STRIPE) -> NewBlob:
        blob = await self.upload(size)
        await self.commit(key, blob)
        return blob

    async def delete(self, key: bytes) -> None:
        await self.catalog.write(
            lambda tx: objects.delete(tx, bucket_id=self.bucket_id, key=key, condition=None)
        )

    async def row(self, blob: NewBlob) -> BlobRow:
        """The blob as the catalog has it now."""
        row = await lookup.blob(self.catalog, blob.id)
        assert row is not None
        return row

    async def read(self, row: BlobRow) -> bytes:
        """All of a blob as a front would read it, by that layout."""
        faults: list[Fault] = []

        async def relocate(blob_id: bytes) -> BlobRow | None:
            return await lookup.blob(self.catalog, blob_id)

        reader = BlobReader(self.nodes, ByteBudget(1 << 24), relocate, faults.append)
        stream = reader.open(row, 0, row.size)
        try:
            content = b""
            while (piece := await stream.next()) is not None:
                content += b"".join(piece)
            return content
        finally:
            stream.close()

    async def held(self, blob: NewBlob) -> dict[Place, int]:
        """Its copies on all nodes that are up, whoever names them, and their sequences."""
        found: dict[Place, int] = {}
        for node in self.nodes.nodes:
            link = self.nodes.link(node.number)
            if link is None or not link.up:
                continue
            places = [(stripe, shard) for stripe in range(blob.stripes) for shard in range(blob.k + blob.m)]
            for at in range(0, len(places), 500):
                part = places[at : at + 500]
                keys = [pack_key(BlockKey(blob.id, *place)) for place in part]
                ask = wire.encode(wire.VerifyBlocks(keys, True))
                reply = await link.call(int(wire.Op.VERIFY_BLOCKS), ask, None, 10)
                for place, (state, sequence, _) in zip(
                    part, wire.decode_blocks_verified(reply.header).blocks, strict=True
                ):
                    if state == wire.Status.OK:
                        found[*place, node.number] = sequence
        return found

    async def blocks_of(self, blob: NewBlob) -> int:
        """How many of its blocks lie on the nodes that are up."""
        return len(await self.held(blob))

    async def assert_whole(self, blob: NewBlob, *, exactly: bool = False) -> None:
        """P7, counted from the disks: every copy that the layout names is there and good, and the loss of any
        one node leaves k shards of each stripe. `exactly`: and nothing else is there."""
        row, held = await self.row(blob), await self.held(blob)
        for stripe in range(geometry_of(row).stripe_count(row.size)):
            named = copies(row.nodes_at(stripe), row.k + row.m)
            assert named, "no layout"
            for shard, node in named:
                assert (stripe, shard, node) in held, f"stripe {stripe} shard {shard} on node {node}"
            for lost in {node for _, node in named}:
                left = {shard for shard, node in named if node != lost}
                assert len(left) >= row.k, f"stripe {stripe} does not survive the loss of node {lost}"
            if exactly:
                there = {(shard, node) for s, shard, node in held if s == stripe}
                assert there == set(named), f"stripe {stripe}"
        assert await self.read(row) == self.bytes_of[blob.id]

    async def drop(self, tenure: Tenure, *places: tuple[NewBlob, Place]) -> None:
        """Delete single blocks behind the catalog's back."""
        for blob, (stripe, shard, node) in places:
            link = self.nodes.link(node)
            assert link is not None
            key = pack_key(BlockKey(blob.id, stripe, shard))
            order = wire.DeleteBlocks(tenure.catalog_id, tenure.term, [(key, 0)])
            await link.call(int(wire.Op.DELETE_BLOCKS), wire.encode(order), None, 10)

    async def queued(self) -> list[bytes]:
        items = await self.catalog.read(
            lambda reader: work.due_garbage(reader, self.catalog.placements, now_ms=1 << 60, limit=1000)
        )
        return [item.blob_id for item in items]

    async def events(self) -> list[Event]:
        return await self.catalog.read(work.list_events)

    async def repairs(self) -> int:
        return await self.catalog.read(work.repair_count)

    async def extras(self) -> int:
        return await self.catalog.read(work.extra_count)

    async def admit(self) -> None:
        """All nodes are up, as health would find."""
        for row in await catalog_nodes.current(self.catalog):
            await self.set_state(row.number, "up")

    async def set_state(self, number: int, state: str) -> None:
        """As the CLI does it; links follow as compose's task makes them."""
        await self.catalog.write(lambda tx: catalog_nodes.set_state(tx, number, state))
        await self.follow()

    async def follow(self) -> None:
        """Apply the catalog's nodes to the links, and wait for those that run."""
        rows = await catalog_nodes.current(self.catalog)
        await self.nodes.update([_info(row) for row in rows])

    async def add(self, node: RealNode, state: str = "up") -> NodeRow:
        """Register a node and let it in."""
        row = await register(self.catalog, node.info)
        assert row.number == node.info.number
        await self.set_state(row.number, state)
        return row

    async def up(self, number: int) -> None:
        """Wait until the node is connected."""
        link = self.nodes.link(number)
        assert link is not None
        async with asyncio.timeout(30):
            await link.wait_up()

    async def down(self, number: int) -> None:
        """Wait until the node is known to be gone."""
        link = self.nodes.link(number)
        assert link is not None
        async with asyncio.timeout(30):
            while link.up:
                await asyncio.sleep(0.002)

    def repairer(self, tenure: Tenure, settings: StewardSettings = SMALL) -> Repairer:
        return Repairer(self.services(settings), tenure, lambda: self.statuses, self.in_flight)

    async def repair(self, tenure: Tenure, settings: StewardSettings = SMALL) -> None:
        """One steward repairs and rebalances until it has nothing to do."""
        await until_idle(self.repairer(tenure, settings))


async def report(world: World, blob: NewBlob, stripe: int, shard: int, node: int) -> None:
    fault = FaultReport(stripe, shard, node, MISSING)
    await world.catalog.write(lambda tx: work.report_faults(tx, blob.id, [fault]))


async def drive(repairer: Repairer) -> None:
    """Until it has nothing to do."""
    while await repairer.step():
        pass


async def collect(world: World, tenure: Tenure) -> None:
    """All extra copies that are due."""
    collector = ExtraCollector(world.services())
    while await collector.step(tenure):
        pass


async def kinds(world: World) -> list[str]:
    return [event.kind for event in await world.events() if not event.kind.startswith("node-")]


async def until_idle(repairer: Repairer, after: Callable[[], None] = lambda: None) -> None:
    """Steps until there is nothing to do."""
    async with asyncio.timeout(60):
        async with repairer:
            while await repairer.step():
                after()


def _info(row: NodeRow) -> NodeInfo:
    return NodeInfo(row.number, row.node_id, row.name, row.region, row.zone, (row.host, row.port), row.state)


async def register(catalog: Catalog, info: NodeInfo) -> NodeRow:
    return await catalog.write(
        lambda tx: catalog_nodes.register(
            tx,
            node_id=info.node_id,
            name=info.name,
            region=info.region,
            zone=info.zone,
            host=info.address[0],
            port=info.address[1],
            directory=info.name,
        )
    )


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Catalog]:
    catalog = Catalog.open(path, CatalogSettings(grace_ms=0, ballast_bytes=1 << 16))
    await catalog.start()
    try:
        yield catalog
    finally:
        await catalog.close()


@asynccontextmanager
async def linked_as_steward(running: RealNodes) -> AsyncIterator[NodeSet]:
    linked = NodeSet.connecting(running.infos, secret=SECRET, cluster_id=CLUSTER_ID, role=wire.Role.STEWARD)
    async with linked:
        assert await linked.wait_up(10) == len(running.nodes)
        yield linked


@asynccontextmanager
async def new_world(path: Path, running: RealNodes, k: int = 2, m: int = 1) -> AsyncIterator[World]:
    """A new store: catalog with the nodes registered and one bucket."""
    fresh_catalog(path, cluster_id=CLUSTER_ID)
    async with opened(path) as catalog, linked_as_steward(running) as linked:
        made = World(catalog, linked, k, m)
        for info in running.infos:
            row = await register(catalog, info)
            assert row.number == info.number
        bucket = await catalog.write(lambda tx: buckets.create(tx, name="b", owner="o", region="r"))
        made.bucket_id = bucket.id
        yield made
