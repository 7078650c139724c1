"""The steward with a real catalog and real nodes: who may work, what may be deleted, and when (S14-S22)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
import sqlalchemy as sa

from catalog import blobs, leases, lookup, schema, uploads, work
from catalog import nodes as catalog_nodes
from catalog.errors import Changed, HorizonPassed, LeaseLost
from catalog.model import Attributes, GarbageItem
from catalog.statement import Statement, constant
from catalog.transaction import Transaction
from cluster import wire
from cluster.steward.garbage import GarbageCollector, Sweeper, delete_blocks
from cluster.steward.health import HealthWatch
from cluster.steward.orphans import OrphanCollector
from cluster.steward.services import StewardServices, StewardSettings
from cluster.steward.tenure import Tenure
from cluster.steward.worker import Candidate, Worker, run
from cluster.topology import NodeSet
from codec.block import BlockKey, pack_key
from tests.catalog.fresh import fresh_catalog
from tests.cluster.conftest import until
from tests.cluster.nodes import CLUSTER_ID, SECRET, RealNodes
from tests.cluster.proxy import Proxy
from tests.cluster.steward_world import SMALL, STRIPE, Clock, World, new_world, opened

pytestmark = pytest.mark.usefixtures("silent_loop")


def worker_of(services: StewardServices, tenure: Tenure) -> Worker:
    return Worker(services, tenure, dict, set())


@pytest_asyncio.fixture
async def world(tmp_path: Path, own_nodes: RealNodes) -> AsyncIterator[World]:
    async with new_world(tmp_path / "catalog.sqlite", own_nodes) as made:
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
    assert await lookup.blob(world.catalog, gone.id) is None
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
    assert await lookup.blob(world.catalog, blob.id) is not None


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
    assert await world.catalog.read(work.garbage_count) == 1
    world.pass_time(3600)
    assert not await collector.step(tenure), "it costs nothing while the node is away"
    own_nodes[2].start()
    async with asyncio.timeout(30):
        await link.wait_up()
    assert await world.blocks_of(blob) == 3
    assert await collector.step(tenure)
    assert await world.blocks_of(blob) == 0
    assert await world.catalog.read(work.garbage_count) == 0


async def test_s9_garbage_of_a_degraded_layout_leaves_no_copy(world: World, own_nodes: RealNodes) -> None:
    """Red when the n-th entry of a layout was taken for the n-th shard."""
    own_nodes[2].kill()
    await world.down(2)
    blob = await world.put(b"k")
    assert len(blob.nodes) > 3
    await world.delete(b"k")
    assert await GarbageCollector(world.services()).step(await world.tenure())
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
    worker = worker_of(world.services(), new)
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
    await worker_of(world.services(), tenure).step()
    other = tmp_path / "other" / "catalog.sqlite"
    other.parent.mkdir()
    fresh_catalog(other, cluster_id=CLUSTER_ID)
    async with opened(other) as empty:
        strange = World(empty, world.nodes)
        usurper = await strange.tenure()
        await worker_of(strange.services(), usurper).step()
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
        async with asyncio.timeout(30):
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
            async with asyncio.timeout(30):
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
    await world.put(b"known")
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
    await orphan_round(
        world, await world.tenure(), replace(SMALL, orphan_share_max=0.01, orphan_floor_blocks=9)
    )
    assert await world.blocks_of(orphan) == 60
    events = await world.events()
    assert [(event.kind, event.node) for event in events] == [("orphans-refused", n) for n in (1, 2, 3)]


async def test_s18_a_catalog_that_knows_nothing_or_was_just_restored_deletes_no_orphans(world: World) -> None:
    """Red without the look at the blobs, and without the look at `orphans_allowed`."""
    orphan = await world.upload(STRIPE)
    await age(world)
    tenure = await world.tenure()
    await orphan_round(world, tenure)
    assert await world.blocks_of(orphan) == 3, "an empty catalog"
    await world.put(b"known", STRIPE)
    await world.catalog.write(_forbid_orphans)
    await orphan_round(world, tenure)
    assert await world.blocks_of(orphan) == 3, "a restored catalog"
    await world.catalog.write(leases.allow_orphans)
    await orphan_round(world, tenure)
    assert await world.blocks_of(orphan) == 0


def _forbid_orphans(tx: Transaction) -> None:
    tx.execute(Statement(sa.update(schema.meta).values(orphans_allowed=constant("0"))))
    tx.touch_configuration()


async def test_s18_a_small_store_collects_more_than_its_share_but_not_more_than_the_floor(
    world: World,
) -> None:
    """Red without the floor: one per cent of nine blocks is none."""
    await world.put(b"known", STRIPE)
    orphan = await world.upload(3 * STRIPE)
    await age(world)
    tenure = await world.tenure()
    strict = replace(SMALL, orphan_share_max=0.01, orphan_floor_blocks=2)
    await orphan_round(world, tenure, strict)
    assert await world.blocks_of(orphan) == 9
    await orphan_round(world, tenure, replace(strict, orphan_floor_blocks=3))
    assert await world.blocks_of(orphan) == 0


async def test_s20_an_orphan_is_deleted_by_its_copy_not_by_its_key(world: World) -> None:
    """Break caught: sequence 0 for the one from the inventory."""
    await world.put(b"known")
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
    async with asyncio.timeout(30):
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
    worker = worker_of(services, tenure)
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
