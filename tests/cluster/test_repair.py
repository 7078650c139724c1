"""Repair with real nodes and a real catalog: what is lost comes back, and nothing gets worse on the way (P7)."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from catalog import placements, schema, work
from catalog.statement import Statement
from cluster import wire
from cluster.placement import is_standard
from cluster.steward import progress
from cluster.steward.progress import Recoveries, RepairProgress
from cluster.steward.repairer import when_redundancy_fell
from tests.cluster.nodes import RealNode, RealNodes
from tests.cluster.steward_world import SMALL, STRIPE, World, collect, drive, kinds, new_world, report

pytestmark = pytest.mark.usefixtures("silent_loop")


@pytest_asyncio.fixture
async def world(tmp_path: Path, own_nodes: RealNodes) -> AsyncIterator[World]:
    async with new_world(tmp_path / "catalog.sqlite", own_nodes) as made:
        await made.admit()
        yield made


@pytest.fixture
def six_nodes(tmp_path: Path) -> Iterator[RealNodes]:
    with RealNodes(tmp_path, 6) as running:
        yield running


# -- what is lost comes back ---------------------------------------------------------------------------------


async def test_a_block_that_is_missing_is_rebuilt_where_it_was(world: World) -> None:
    blob = await world.put(b"k", 5 * STRIPE + 17)
    tenure = await world.tenure()
    lost = [(1, 0, blob.nodes[0]), (5, 2, blob.nodes[2]), (3, 1, blob.nodes[1])]
    await world.drop(tenure, *((blob, place) for place in lost))
    for stripe, shard, node in lost:
        await report(world, blob, stripe, shard, node)
    await world.repair(tenure)
    await world.assert_whole(blob, exactly=True)
    assert await world.repairs() == 0
    assert (await world.row(blob)).nodes == blob.nodes
    assert await kinds(world) == ["repair-started", "redundancy-restored"]


@pytest.mark.parametrize("shard", [0, 1, 2])
async def test_rot_is_healed_by_a_new_copy(world: World, own_nodes: RealNodes, shard: int) -> None:
    blob = await world.put(b"k", STRIPE)
    before = await world.held(blob)
    content = world.bytes_of[blob.id]
    node = blob.nodes[shard]
    if shard < 2:
        own_nodes[node].damage(content[shard * STRIPE // 2 :][: STRIPE // 2])
    else:
        await world.drop(await world.tenure("another"), (blob, (0, 2, node)))
    await report(world, blob, 0, shard, node)
    await world.repair(await world.tenure())
    await world.assert_whole(blob, exactly=True)
    assert (await world.held(blob))[0, shard, node] > before[0, shard, node], "a new copy (S20)"
    assert await world.repairs() == 0


@pytest.mark.parametrize(("shard", "lost"), [(0, None), (2, None), (0, 1), (2, 0)])
async def test_s2_what_the_disk_has_lost_is_healed_although_a_cache_still_shows_it(
    world: World, shard: int, lost: int | None
) -> None:
    """The node says that the block on its disk is bad, and yet serves it whole, from memory. Red when a reported
    copy was read and not verified by its node; and when the new copy was put without `repair`: the node then
    found the same bytes in its cache and called it a duplicate (S5, S20). With another shard `lost`, what is in
    the cache is needed for once: red when it was not even tried."""
    blob = await world.put(b"k", STRIPE)
    before = await world.held(blob)
    place = (0, shard, blob.nodes[shard])
    link = world.nodes.link(blob.nodes[shard])
    assert link is not None
    call = link.call

    async def spoiled(answer: Awaitable[wire.Frame]) -> wire.Frame:
        frame = await answer
        found = wire.decode_blocks_verified(frame.header).blocks
        rotten = int(wire.Status.CORRUPT)
        told = [(rotten if s == before[place] else state, s, n) for state, s, n in found]
        return frame._replace(header=wire.encode(wire.BlocksVerified(told)))

    def forgetful(op, header, payload, deadline_s, late_s=float("inf")):  # type: ignore[no-untyped-def]
        answer = call(op, header, payload, deadline_s, late_s)
        return asyncio.ensure_future(spoiled(answer)) if op == wire.Op.VERIFY_BLOCKS else answer

    link.call = forgetful  # type: ignore[method-assign]
    await report(world, blob, *place)
    tenure = await world.tenure()
    if lost is not None:
        await world.drop(tenure, (blob, (0, lost, blob.nodes[lost])))
        await report(world, blob, 0, lost, blob.nodes[lost])
    await world.repair(tenure)
    await world.assert_whole(blob, exactly=True)
    assert (await world.held(blob))[place] > before[place]
    assert await world.repairs() == 0


async def test_p7_a_lost_disk_is_rebuilt_on_the_node_that_takes_its_place(
    world: World, own_nodes: RealNodes, tmp_path: Path
) -> None:
    """`trivet node replace`: the old row is removed, a new node of another number joins, empty (S23)."""
    made = [await world.put(b"%d" % i, size) for i, size in enumerate((1, 100, 7 * STRIPE, 300 * STRIPE + 1))]
    await world.put(b"empty", 0)
    own_nodes[2].kill()
    shutil.rmtree(own_nodes[2].directory)
    await world.down(2)
    fourth = RealNode(tmp_path, 4)
    own_nodes.nodes.append(fourth)
    fourth.start()
    await world.set_state(2, "removed")
    await world.add(fourth)
    await world.up(4)
    tenure = await world.tenure()
    await world.repair(tenure)
    for blob in made:
        await world.assert_whole(blob, exactly=True)
        row = await world.row(blob)
        assert set(row.nodes) == {1, 3, 4}
        assert [row.nodes[shard] for shard in range(3) if blob.nodes[shard] != 2] == [
            node for node in blob.nodes if node != 2
        ], "the others kept their shards"
    assert not await world.catalog.read(lambda reader: placements.node_in_use(reader, 2))
    stored = await world.catalog.read(lambda reader: progress.read(reader, RepairProgress))
    assert stored is not None
    assert not stored.active
    assert stored.done_blobs == stored.total_blobs == 4
    assert stored.done_bytes == sum(blob.size for blob in made)
    assert await kinds(world) == ["repair-started", "redundancy-restored"]
    counted = await world.catalog.read(lambda reader: progress.read(reader, Recoveries))
    assert counted is not None
    assert counted.count == 1, "in the transaction of the event"


async def test_s9_what_was_written_degraded_becomes_standard_when_the_node_is_back(
    world: World, own_nodes: RealNodes
) -> None:
    own_nodes[3].kill()
    await world.down(3)
    made = [await world.put(b"%d" % i, size) for i, size in enumerate((10, 5 * STRIPE, 40 * STRIPE))]
    for blob in made:
        assert 3 not in blob.nodes
        await world.assert_whole(blob)
    tenure = await world.tenure()
    await world.repair(tenure)
    for blob in made:
        assert (await world.row(blob)).nodes == blob.nodes, "nothing better can be done now"
    own_nodes[3].start()
    await world.up(3)
    await world.repair(tenure)
    for blob in made:
        assert is_standard((await world.row(blob)).nodes, 3)
        await world.assert_whole(blob)
    assert await world.extras() > 0
    world.pass_time(1)
    await collect(world, tenure)
    for blob in made:
        await world.assert_whole(blob, exactly=True)


async def test_four_plus_two_on_six_nodes_heals_two_lost_disks(tmp_path: Path, six_nodes: RealNodes) -> None:
    async with new_world(tmp_path / "catalog.sqlite", six_nodes, 4, 2) as world:
        await world.admit()
        made = [await world.put(b"%d" % i, size) for i, size in enumerate((1, 9 * STRIPE + 5, 3 * STRIPE))]
        for number in (2, 5):
            six_nodes[number].kill()
            shutil.rmtree(six_nodes[number].directory)
            await world.down(number)
            spare = RealNode(tmp_path, len(six_nodes.nodes) + 1)
            six_nodes.nodes.append(spare)
            spare.start()
            await world.add(spare)
            await world.up(spare.info.number)
        await world.set_state(2, "removed")
        await world.set_state(5, "removed")
        await world.repair(await world.tenure())
        for blob in made:
            assert set((await world.row(blob)).nodes) == {1, 3, 4, 6, 7, 8}
            await world.assert_whole(blob, exactly=True)


async def test_a_node_that_is_away_too_long_is_rebuilt_elsewhere_and_one_that_is_not_is_waited_for(
    world: World, own_nodes: RealNodes, tmp_path: Path
) -> None:
    fourth = RealNode(tmp_path, 4)
    own_nodes.nodes.append(fourth)
    fourth.start()
    made = [await world.put(b"%d" % i, 3 * STRIPE) for i in range(4)]
    await world.add(fourth)
    await world.up(4)
    own_nodes[1].kill()
    await world.down(1)
    repairer = world.repairer(await world.tenure())
    async with repairer:
        await drive(repairer)
        for blob in made:
            assert (await world.row(blob)).nodes == blob.nodes
        world.pass_time(SMALL.rebuild_after_s + 1)
        await drive(repairer)
    for blob in made:
        assert set((await world.row(blob)).nodes) == {2, 3, 4}
        await world.assert_whole(blob)


async def test_the_most_endangered_blob_comes_first(tmp_path: Path, six_nodes: RealNodes) -> None:
    """Red when the survey took its rows by age."""
    async with new_world(tmp_path / "catalog.sqlite", six_nodes, 4, 2) as world:
        await world.admit()
        made = [await world.put(b"%d" % i, STRIPE) for i in range(6)]
        tenure = await world.tenure()
        for blob, lost in zip(made, (1, 1, 2, 1, 2, 1), strict=True):
            for shard in range(lost):
                await world.drop(tenure, (blob, (0, shard, blob.nodes[shard])))
                await report(world, blob, 0, shard, blob.nodes[shard])
        left: list[set[bytes]] = []

        settings = replace(SMALL, repair_blobs=1, repair_page=1)
        repairer = world.repairer(tenure, settings)
        async with repairer:
            while await repairer.step():
                due = await world.catalog.read(lambda reader: work.due_repairs(reader, 1 << 60, 100))
                left.append({item.blob_id for item in due})
        urgent = {made[2].id, made[4].id}
        first_without = next(i for i, ids in enumerate(left) if not ids & urgent)
        assert all(len(ids) >= 4 - 1 for ids in left[: first_without + 1]), "the others waited"
        for blob in made:
            await world.assert_whole(blob, exactly=True)


_EVENT = Statement(schema.events.insert(), "at_ms", "kind", "node", "detail")


# -- since when ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "since_ms"),
    [
        ([], None),
        ([(10, "node-suspect", 1), (12, "node-down", 1)], 10),
        ([(10, "node-down", 1), (20, "node-up", 1)], 10),
        ([(10, "node-down", 1), (20, "node-up", 1), (500, "node-suspect", 2)], 500),
        ([(10, "node-down", 1), (20, "node-down", 2), (30, "node-up", 1)], 20),
        ([(10, "node-down", 1), (20, "redundancy-restored", None), (30, "node-up", 1)], None),
        (
            [
                (10, "node-added", 5),
                (20, "node-removed", 5),
                (500, "node-down", 2),
                (510, "node-replaced", 2),
            ],
            500,
        ),
    ],
)
async def test_a_repair_counts_from_the_loss_that_it_mends(
    world: World, events: list[tuple[int, str, int | None]], since_ms: int | None
) -> None:
    """Red when the removal of a node that held nothing counts, or an absence that left nothing to mend: the event then
    told ten minutes for a loss of seven seconds."""
    await world.catalog.write(
        lambda tx: [tx.execute(_EVENT, (at_ms, kind, node, "")) for at_ms, kind, node in events]
    )
    assert await world.catalog.read(when_redundancy_fell) == since_ms
