"""The steward with a real catalog and real nodes: who may work, what may be deleted, and when (S14-S22)."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from catalog import blobs, buckets, leases, objects, uploads, work
from catalog import nodes as catalog_nodes
from catalog.engine import Catalog, CatalogSettings, create
from catalog.errors import Changed, HorizonPassed, LeaseLost
from catalog.model import Attributes, Event, GarbageItem, NewBlob
from cluster import wire
from cluster.blob_writer import BlobIds, BlobWriter, Receipt
from cluster.budget import ByteBudget
from cluster.steward.garbage import GarbageCollector, Sweeper, delete_blocks
from cluster.steward.health import HealthWatch
from cluster.steward.orphans import OrphanCollector
from cluster.steward.services import StewardServices, StewardSettings
from cluster.steward.tenure import Tenure
from cluster.steward.worker import Candidate, Worker, run
from cluster.topology import NodeSet
from codec.block import BlockKey, pack_key
from codec.geometry import Geometry
from tests.cluster.conftest import until
from tests.cluster.nodes import CLUSTER_ID, SECRET, RealNodes
from tests.cluster.proxy import Proxy
from tests.cluster.test_blob_writer import body

pytestmark = pytest.mark.usefixtures("silent_loop")

STRIPE = 4096
SMALL = StewardSettings(orphan_share_max=1.0, delete_blocks_max=7, inventory_entries=5)


class Clock:
    """Monotonic time that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class World:
    """A catalog, links to nodes, and what a front would do with them."""

    def __init__(self, catalog: Catalog, nodes: NodeSet) -> None:
        self.catalog = catalog
        self.nodes = nodes
        self.clock = Clock()
        self.writer = BlobWriter(nodes, Geometry(2, 1, STRIPE), ByteBudget(1 << 20), BlobIds())
        self.bucket_id = 0

    def services(self, settings: StewardSettings = SMALL, clock: Clock | None = None) -> StewardServices:
        return StewardServices(self.catalog, self.nodes, settings, clock or self.clock)

    async def tenure(self, holder: str = "a steward") -> Tenure:
        """Take office, whoever holds it."""
        return await Tenure.begin(self.catalog, holder, await self.catalog.read(leases.read))

    async def upload(self, size: int = 3 * STRIPE) -> NewBlob:
        """Shards on the nodes, nothing in the catalog yet."""
        epoch = (await self.catalog.meta()).upload_epoch
        receipt = await self.writer.write(body(os.urandom(size)), epoch=epoch, size_hint=size)
        return new_blob(receipt)

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

    async def blocks_of(self, blob: NewBlob) -> int:
        """How many of its blocks lie on the nodes that are up."""
        found = 0
        for stripe in range(blob.stripes):
            for shard, number in enumerate(blob.nodes):
                link = self.nodes.link(number)
                assert link is not None
                if link.up:
                    ask = wire.encode(wire.ReadBlock(blob.id, stripe, shard, 0, 0))
                    outcome = link.call(int(wire.Op.READ_BLOCK), ask, None, 5)
                    await asyncio.wait([outcome])
                    found += outcome.exception() is None
        return found

    async def queued(self) -> list[bytes]:
        items = await self.catalog.read(
            lambda reader: work.due_garbage(reader, self.catalog.placements, now_ms=1 << 60, limit=100)
        )
        return [item.blob_id for item in items]

    async def events(self) -> list[Event]:
        return await self.catalog.read(work.list_events)


def new_blob(receipt: Receipt) -> NewBlob:
    return NewBlob(
        receipt.blob_id,
        receipt.size,
        receipt.k,
        receipt.m,
        receipt.stripe_bytes,
        receipt.nodes,
        receipt.stripes,
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
        assert await linked.wait_up(10) == 3
        yield linked


@pytest_asyncio.fixture
async def world(tmp_path: Path, own_nodes: RealNodes) -> AsyncIterator[World]:
    """A new store: catalog with the three nodes registered and one bucket."""
    path = tmp_path / "catalog.sqlite"
    create(path, cluster_id=CLUSTER_ID, nodes_hold_data=False)
    async with opened(path) as catalog, linked_as_steward(own_nodes) as linked:
        made = World(catalog, linked)
        for info in own_nodes.infos:
            row = await catalog.write(
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
            assert row.number == info.number
        bucket = await catalog.write(lambda tx: buckets.create(tx, name="b", owner="o", region="r"))
        made.bucket_id = bucket.id
        yield made


# -- garbage: S14, S18 ---------------------------------------------------------------------------------------


async def test_s14_a_deleted_object_leaves_the_nodes_and_then_the_catalog(world: World) -> None:
    kept, gone = await world.put(b"kept"), await world.put(b"gone", 7 * STRIPE + 1)
    await world.delete(b"gone")
    assert await world.queued() == [gone.id]
    collector, tenure = GarbageCollector(world.services()), await world.tenure()
    assert await collector.step(tenure)
    assert await world.blocks_of(gone) == 0
    assert await world.blocks_of(kept) == 9
    assert await world.queued() == []
    assert await objects.blob(world.catalog, gone.id) is None
    assert not await collector.step(tenure)


async def test_s14_a_blob_that_is_referenced_again_is_left_alone(world: World) -> None:
    """The collector has read the queue; before it condemns, a copy takes a reference. Break caught: deleting
    what was due instead of what `condemn` gave back."""
    blob = await world.put(b"source")
    await world.delete(b"source")

    class Interrupted(GarbageCollector):
        async def _due(self) -> list[GarbageItem]:
            due = await super()._due()
            assert [item.blob_id for item in due] == [blob.id]
            await world.catalog.write(lambda tx: blobs.add_reference(tx, blob.id))
            return due

    assert await Interrupted(world.services()).step(await world.tenure())
    assert await world.blocks_of(blob) == 9
    assert await world.queued() == []
    assert await objects.blob(world.catalog, blob.id) is not None


async def test_s14_a_condemned_blob_cannot_be_referenced_and_is_collected_by_the_next_steward(
    world: World,
) -> None:
    """The steward dies between condemning and deleting. Break caught: deleting before the condemn transaction
    lets the copy in between refer to blocks that are gone."""
    blob = await world.put(b"source")
    await world.delete(b"source")
    first = await world.tenure("first")
    condemned = await first.write(lambda tx: work.condemn(tx, blob.id))
    assert condemned is not None
    with pytest.raises(Changed):
        await world.catalog.write(lambda tx: blobs.add_reference(tx, blob.id))
    second = await world.tenure("second")
    assert await GarbageCollector(world.services()).step(second)
    assert await world.blocks_of(blob) == 0
    assert await world.queued() == []


async def test_garbage_on_a_node_that_is_down_stays_queued_until_it_is_back(
    world: World, own_nodes: RealNodes
) -> None:
    """Break caught: `delete_blocks` returning True for a node that can't be reached dropped the row."""
    blob = await world.put(b"k")
    await world.delete(b"k")
    own_nodes[2].kill()
    link = world.nodes.link(2)
    assert link is not None
    await until(lambda: not link.up, "node 2 is down")
    collector, tenure = GarbageCollector(world.services()), await world.tenure()
    assert await collector.step(tenure)
    assert await world.blocks_of(blob) == 0, "the others have deleted theirs"
    assert await world.queued() == [blob.id]
    assert not await collector.step(tenure), "not tried again at once"
    own_nodes[2].start()
    async with asyncio.timeout(10):
        await link.wait_up()
    assert await world.blocks_of(blob) == 3
    world.clock.now += SMALL.retry_s + 1
    assert await collector.step(tenure)
    assert await world.blocks_of(blob) == 0
    assert await world.queued() == []


async def test_s11_an_abandoned_upload_is_collected(world: World) -> None:
    blob = await world.upload()
    world.catalog.abandon(blob)
    tenure = await world.tenure()
    while not await world.queued():
        await tenure.renew()  # a commit, and with it the abandoned blob's row
    assert await GarbageCollector(world.services()).step(tenure)
    assert await world.blocks_of(blob) == 0
    assert await world.queued() == []


async def test_many_small_blobs_are_collected_in_bounded_batches(world: World) -> None:
    count = 12
    made = [await world.put(b"%d" % i, 100) for i in range(count)]
    for i in range(count):
        await world.delete(b"%d" % i)
    settings = replace(SMALL, collect_blobs_max=5, collect_stripes_max=5)
    collector, tenure = GarbageCollector(world.services(settings)), await world.tenure()
    left = [count]
    while await collector.step(tenure):
        left.append(len(await world.queued()))
    assert left == [12, 7, 2, 0]
    assert [await world.blocks_of(blob) for blob in made] == [0] * count


async def test_what_aborting_a_large_upload_leaves_is_swept_in_slices(world: World) -> None:
    upload = await world.catalog.write(
        lambda tx: uploads.create(
            tx, bucket_id=world.bucket_id, key=b"k", owner="o", content_type="", attributes=Attributes()
        )
    )
    parts = []
    for number in range(1, 41):
        part = await world.upload(10)
        parts.append(part.id)
        await world.catalog.write(
            lambda tx, part=part, number=number: uploads.put_part(  # type: ignore[misc]
                tx, upload=upload, number=number, blob=part, etag="0" * 32
            )
        )
    await world.catalog.write(lambda tx: uploads.abort(tx, upload))
    assert len(await world.queued()) < 40
    sweeper, tenure = Sweeper(world.services(replace(SMALL, sweep_rows_max=3))), await world.tenure()
    steps = 0
    while await sweeper.step(tenure):
        steps += 1
    assert steps >= 3
    assert sorted(await world.queued()) == sorted(parts)


# -- who may work: S18, S22 ----------------------------------------------------------------------------------


async def test_s18_nodes_refuse_a_steward_that_was_deposed(world: World) -> None:
    """The old one wakes up with its orders ready. Breaks caught: a takeover without FENCE left the nodes open
    to the old steward's deletes; no holder check in `Tenure` let it condemn."""
    blob = await world.put(b"k")
    old = await world.tenure("old")
    new = await world.tenure("new")
    assert new.term == old.term + 1
    worker = Worker(world.services(), new)
    await worker.step()  # the fence comes first
    services = world.services()
    for shard, node in enumerate(blob.nodes):
        key = pack_key(BlockKey(blob.id, 0, shard))
        assert not await delete_blocks(services, old, node, [(key, 0)])
    assert await world.blocks_of(blob) == 9
    with pytest.raises(LeaseLost):
        await old.write(lambda tx: work.condemn(tx, blob.id))


async def test_s18_nodes_refuse_an_empty_catalog(world: World, tmp_path: Path, own_nodes: RealNodes) -> None:
    """Somebody starts a steward with a new catalog beside nodes that are full."""
    blob = await world.put(b"k")
    tenure = await world.tenure()
    await Worker(world.services(), tenure).step()
    other = tmp_path / "other" / "catalog.sqlite"
    other.parent.mkdir()
    create(other, cluster_id=CLUSTER_ID, nodes_hold_data=False)
    async with opened(other) as empty:
        strange = World(empty, world.nodes)
        usurper = await strange.tenure()
        await Worker(strange.services(), usurper).step()
        assert [event.kind for event in await strange.events()] == ["fence-refused"] * 3
        for _ in range(20):
            await empty.write(leases.advance_epoch)
        collector = OrphanCollector(strange.services())
        collector.begin()
        while await collector.step(usurper):
            pass
    assert await world.blocks_of(blob) == 9


async def test_s22_the_lease_is_judged_by_its_counter_over_ones_own_time(world: World) -> None:
    """Break caught: `expired` by the time since the first look took a lease that was renewed all along."""
    a, b = Clock(), Clock()
    b.now = 7.0  # clocks have nothing in common
    first = await Candidate(world.services(clock=a)).stand()
    assert first is not None
    rival = Candidate(world.services(clock=b))
    for _ in range(10):
        assert await rival.stand() is None
        b.now += SMALL.lease_expiry_s * 0.9
        await first.renew()
    assert await rival.stand() is None
    b.now += SMALL.lease_expiry_s
    second = await rival.stand()
    assert second is not None
    assert second.term == first.term + 1
    for attempt in (first.renew(), first.write(leases.advance_epoch)):
        with pytest.raises(LeaseLost):
            await attempt
    await first.end()  # takes nothing away from the successor
    await second.renew()
    await second.end()
    third = await rival.stand()
    assert third is not None, "a lease that was given back is free at once"


async def test_s22_of_two_stewards_one_is_in_office_and_the_other_follows(
    world: World, tmp_path: Path
) -> None:
    quick = replace(SMALL, renew_s=0.02, lease_expiry_s=5.0, health_s=0.02, idle_s=0.02)

    async def holder() -> str | None:
        return (await world.catalog.read(leases.read)).holder

    async def held_by_another_than(before: str | None) -> str:
        async with asyncio.timeout(10):
            while (now := await holder()) in (None, before):
                await asyncio.sleep(0.01)
        assert now is not None
        return now

    async with opened(tmp_path / "catalog.sqlite") as catalog:
        stop = asyncio.Event()
        first = asyncio.create_task(run(StewardServices(world.catalog, world.nodes, quick), stop))
        first_holder = await held_by_another_than(None)
        second = asyncio.create_task(run(StewardServices(catalog, world.nodes, quick), asyncio.Event()))
        for key in (b"1", b"2", b"3"):
            blob = await world.put(key)
            await world.delete(key)
            async with asyncio.timeout(10):
                while await world.queued():
                    await asyncio.sleep(0.01)
            assert await world.blocks_of(blob) == 0
        assert await holder() == first_holder
        term = (await world.catalog.write(lambda tx: tx.meta)).term
        stop.set()
        await first
        await held_by_another_than(first_holder)
        assert (await world.catalog.write(lambda tx: tx.meta)).term == term + 1
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        assert await holder() is None, "a cancelled one gives the lease back too"


# -- orphans: S19, S18 ---------------------------------------------------------------------------------------


async def orphan_round(world: World, tenure: Tenure, settings: StewardSettings = SMALL) -> None:
    collector = OrphanCollector(world.services(settings))
    collector.begin()
    while await collector.step(tenure):
        pass


async def age(world: World, epochs: int = SMALL.orphan_epochs) -> None:
    for _ in range(epochs):
        await world.catalog.write(leases.advance_epoch)


async def test_s19_old_blocks_that_no_row_names_are_collected(world: World) -> None:
    """Breaks caught: no comparison with the horizon took an upload under way; `<` for `<=` left orphans."""
    committed, orphan = await world.put(b"k", 20 * STRIPE), await world.upload(20 * STRIPE)
    tenure = await world.tenure()
    await orphan_round(world, tenure)
    assert await world.blocks_of(orphan) == 60, "the store is too young"
    await age(world)
    young, young_committed = await world.upload(), await world.put(b"young")
    await orphan_round(world, tenure)
    assert await world.blocks_of(orphan) == 0
    assert await world.blocks_of(committed) == 60
    assert await world.blocks_of(young) == await world.blocks_of(young_committed) == 9
    await age(world)
    await orphan_round(world, tenure)
    assert await world.blocks_of(young) == 0
    assert await world.blocks_of(young_committed) == 9


async def test_s19_a_front_frozen_past_the_horizon_cannot_commit(world: World) -> None:
    """Between inventory and delete the thawed front tries to commit. Break caught: a horizon that is used but
    not committed let the commit through, and its shards were deleted."""
    blob = await world.upload()
    await age(world)
    tenure = await world.tenure()
    collector = OrphanCollector(world.services(replace(SMALL, inventory_entries=2)))
    collector.begin()
    assert await collector.step(tenure)
    with pytest.raises(HorizonPassed):
        await world.commit(b"late", blob)
    while await collector.step(tenure):
        pass
    assert await world.blocks_of(blob) == 0
    fresh = await world.put(b"late")
    assert await world.blocks_of(fresh) == 9


async def test_s19_a_blob_committed_before_the_horizon_stays(world: World) -> None:
    """The front wakes up just in time: the other order of the race above."""
    blob = await world.upload()
    await age(world)
    await world.commit(b"just in time", blob)
    await orphan_round(world, await world.tenure())
    assert await world.blocks_of(blob) == 9


async def test_s18_a_pass_that_would_drop_too_much_stops_with_an_event(world: World) -> None:
    """Break caught: without the comparison 20 of 26 blocks of each node went."""
    await world.put(b"k", 6 * STRIPE)
    orphan = await world.upload(20 * STRIPE)
    await age(world)
    await orphan_round(world, await world.tenure(), replace(SMALL, orphan_share_max=0.01))
    assert await world.blocks_of(orphan) == 60
    events = await world.events()
    assert [(event.kind, event.node) for event in events] == [("orphans-refused", n) for n in (1, 2, 3)]


async def test_s20_an_orphan_is_deleted_by_its_copy_not_by_its_key(world: World) -> None:
    """Break caught: sequence 0 for the one from the inventory."""
    orphan = await world.upload(STRIPE)
    await age(world)
    orders: list[int] = []

    def note(frame: wire.Frame) -> list[wire.Frame]:
        if frame.op == wire.Op.DELETE_BLOCKS:
            orders.extend(sequence for _, sequence in wire.decode_delete_blocks(frame.header).blocks)
        return [frame]

    async with AsyncExitStack() as stack:
        infos = []
        for info in world.nodes.nodes:
            proxy = await stack.enter_async_context(Proxy(info))
            proxy.requests = note
            infos.append(proxy.info)
        linked = NodeSet.connecting(infos, secret=SECRET, cluster_id=CLUSTER_ID, role=wire.Role.STEWARD)
        await stack.enter_async_context(linked)
        assert await linked.wait_up(10) == 3
        direct, world.nodes = world.nodes, linked
        await orphan_round(world, await world.tenure())
        world.nodes = direct
    assert len(orders) == 3
    assert all(orders)
    assert await world.blocks_of(orphan) == 0


# -- health --------------------------------------------------------------------------------------------------


async def test_node_states_follow_what_nodes_answer(world: World, own_nodes: RealNodes) -> None:
    tenure = await world.tenure()
    watch = HealthWatch(world.services())

    async def states() -> list[str]:
        await watch.step(tenure)
        return [row.state for row in await catalog_nodes.current(world.catalog)]

    assert await states() == ["up", "up", "up"]
    own_nodes[2].kill()
    link = world.nodes.link(2)
    assert link is not None
    await until(lambda: not link.up, "node 2 is down")
    assert await states() == ["up", "suspect", "up"]
    world.clock.now += SMALL.down_s
    assert await states() == ["up", "down", "up"]
    assert await states() == ["up", "down", "up"]
    successor = HealthWatch(world.services())
    await successor.step(tenure)
    own_nodes[2].start()
    async with asyncio.timeout(10):
        await link.wait_up()
    assert await states() == ["up", "up", "up"]
    assert [(event.kind, event.node) for event in await world.events()] == [
        ("node-up", 1),
        ("node-up", 2),
        ("node-up", 3),
        ("node-suspect", 2),
        ("node-down", 2),
        ("node-up", 2),
    ]


async def test_a_frozen_node_is_noticed_by_its_silence(world: World, own_nodes: RealNodes) -> None:
    tenure = await world.tenure()
    watch = HealthWatch(world.services(replace(SMALL, status_deadline_s=0.1)))
    await watch.step(tenure)
    own_nodes[3].freeze()
    await watch.step(tenure)
    own_nodes[3].thaw()
    assert [row.state for row in await catalog_nodes.current(world.catalog)] == ["up", "up", "suspect"]


async def test_an_operators_decision_is_not_overruled(world: World) -> None:
    tenure = await world.tenure()
    await tenure.write(lambda tx: catalog_nodes.set_state(tx, 1, "draining"))
    await HealthWatch(world.services()).step(tenure)
    assert [row.state for row in await catalog_nodes.current(world.catalog)] == ["draining", "up", "up"]


# -- the worker ----------------------------------------------------------------------------------------------


async def test_the_worker_does_one_unit_a_call_and_says_when_the_next_is_due(world: World) -> None:
    tenure = await world.tenure()
    services = world.services()
    worker = Worker(services, tenure)
    blob = await world.put(b"k")
    await world.delete(b"k")
    while await worker.step() == 0.0:
        pass
    assert await world.blocks_of(blob) == 0
    before = (await world.catalog.meta()).upload_epoch
    world.clock.now += services.settings.epoch_s
    while await worker.step() == 0.0:
        pass
    assert (await world.catalog.meta()).upload_epoch == before + 1


def test_a_delete_of_the_steward_fits_into_one_frame() -> None:
    """2,000 blocks at once were refused by every node, and their garbage stayed for ever."""
    most = StewardSettings().delete_blocks_max
    request = wire.DeleteBlocks(bytes(16), 2**63 - 1, [(bytes(21), 2**64 - 1)] * most)
    assert most <= wire.DELETE_BLOCKS_MAX
    assert len(wire.encode(request)) <= wire.HEADER_BYTES_MAX
