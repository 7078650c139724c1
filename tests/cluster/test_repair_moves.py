"""Blobs that move, and who may interfere: drain, add, stale stewards, readers, power cuts (P7, S20, S21)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from catalog import placements, work
from catalog.errors import LeaseLost
from catalog.model import ExtraCopy
from cluster import wire
from cluster.errors import RemoteFault
from cluster.placement import copies, is_standard, survives_any_loss
from cluster.steward import progress
from cluster.steward.progress import RepairProgress
from cluster.steward.worker import Worker
from tests.cluster.nodes import RealNode, RealNodes
from tests.cluster.steward_world import SMALL, STRIPE, World, collect, drive, kinds, new_world, opened, report
from tests.cluster.volatile_node import VolatileNode

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


# -- drain, add, rebalance -----------------------------------------------------------------------------------


async def test_p7_a_draining_node_gives_all_away_and_says_so(
    world: World, own_nodes: RealNodes, tmp_path: Path
) -> None:
    fourth = RealNode(tmp_path, 4)
    own_nodes.nodes.append(fourth)
    fourth.start()
    made = [await world.put(b"%d" % i, 3 * STRIPE) for i in range(8)]
    await world.add(fourth)
    await world.up(4)
    await world.set_state(1, "draining")
    tenure = await world.tenure()
    worker = Worker(world.services(), tenure, dict, set())
    while await worker.step() == 0.0:
        pass
    assert "node-drained" not in [event.kind for event in await world.events()]
    await world.repair(tenure)
    for blob in made:
        assert set((await world.row(blob)).nodes) == {2, 3, 4}
        await world.assert_whole(blob)
    world.pass_time(SMALL.idle_s + 1)
    while await worker.step() == 0.0:
        pass
    for blob in made:
        await world.assert_whole(blob, exactly=True)
    drained = [event.node for event in await world.events() if event.kind == "node-drained"]
    assert drained == [1]
    again = Worker(world.services(), await world.tenure("a successor"), dict, set())
    while await again.step() == 0.0:
        pass
    assert [event.node for event in await world.events() if event.kind == "node-drained"] == [1]


async def test_p7_a_new_node_gets_its_share_and_a_restart_goes_on(
    world: World, own_nodes: RealNodes, tmp_path: Path
) -> None:
    fourth = RealNode(tmp_path, 4)
    own_nodes.nodes.append(fourth)
    fourth.start()
    await world.repair(await world.tenure())  # the walk over the first three nodes
    made = [await world.put(b"%d" % i, STRIPE) for i in range(24)]
    await world.add(fourth)
    await world.up(4)
    repairer = world.repairer(await world.tenure("first"))
    async with repairer:
        for _ in range(6):
            await repairer.step()
    await world.repair(await world.tenure("second"))
    moved = 0
    for blob in made:
        row = await world.row(blob)
        moved += 4 in row.nodes
        await world.assert_whole(blob)
    assert 8 < moved < 24, "three quarters of the blobs, give or take"
    before = await world.catalog.read(lambda reader: progress.read(reader, progress.RebalanceProgress))
    assert before is not None
    assert not before.active
    await world.repair(await world.tenure("third"))
    after = await world.catalog.read(lambda reader: progress.read(reader, progress.RebalanceProgress))
    assert after == before, "a finished walk is not done again"


# -- the interleavings ---------------------------------------------------------------------------------------


async def test_s20_a_stale_steward_can_neither_move_nor_drop(world: World, own_nodes: RealNodes) -> None:
    """It wakes up between its puts and its commit; another one is in office and has scrubbed. Red when the
    commit did not go through the tenure."""
    own_nodes[3].kill()
    await world.down(3)
    blob = await world.put(b"k")
    own_nodes[3].start()
    await world.up(3)
    old = await world.tenure("old")
    repairer = world.repairer(old)
    began = asyncio.Event()
    async with repairer:
        executor = repairer._executor
        commit = executor._commit

        async def deposed(*args, **options):  # type: ignore[no-untyped-def]
            began.set()
            await world.tenure("new")
            await commit(*args, **options)

        executor._commit = deposed  # type: ignore[method-assign]
        with pytest.raises(LeaseLost):
            await drive(repairer)
    assert began.is_set()
    assert (await world.row(blob)).nodes == blob.nodes
    await world.assert_whole(blob)
    await world.repair(await world.tenure("third"))
    assert is_standard((await world.row(blob)).nodes, 3)
    await world.assert_whole(blob)


async def test_s20_a_blob_deleted_during_its_repair_leaves_only_garbage(
    world: World, own_nodes: RealNodes
) -> None:
    """Red when the new copies of a move that came too late were not queued."""
    own_nodes[3].kill()
    await world.down(3)
    blob = await world.put(b"k")
    own_nodes[3].start()
    await world.up(3)
    tenure = await world.tenure()
    repairer = world.repairer(tenure)
    async with repairer:
        executor = repairer._executor
        commit = executor._commit

        async def late(*args, **options):  # type: ignore[no-untyped-def]
            await world.delete(b"k")
            await commit(*args, **options)

        executor._commit = late  # type: ignore[method-assign]
        await drive(repairer)
    worker = Worker(world.services(), tenure, dict, set())
    world.pass_time(1)
    while await worker.step() == 0.0:
        pass
    assert await world.blocks_of(blob) == 0
    assert await world.extras() == 0


async def test_s20_what_a_repair_put_for_a_condemned_blob_is_deleted(world: World) -> None:
    """The nodes carry out the deletion of the blob, then a repair that began before it puts its copy where
    the layout still names it. Red when only copies at places without a name were queued: it stayed for as
    long as an orphan does."""
    blob = await world.put(b"k", STRIPE)
    tenure = await world.tenure()
    held = await world.held(blob)
    (lost,) = [place for place in held if place[1] == 0]
    await world.drop(tenure, (blob, lost))
    await report(world, blob, *lost)
    repairer = world.repairer(tenure)
    async with repairer:
        executor = repairer._executor
        commit = executor._commit

        async def late(*args, **options):  # type: ignore[no-untyped-def]
            await world.delete(b"k")
            assert await world.catalog.write(lambda tx: work.condemn(tx, blob.id))
            await world.drop(tenure, *((blob, place) for place in held if place != lost))
            await commit(*args, **options)

        executor._commit = late  # type: ignore[method-assign]
        await drive(repairer)
    await world.catalog.write(lambda tx: work.collected(tx, blob.id))
    assert await world.blocks_of(blob) == 1, "the copy that was put"
    await collect(world, tenure)
    assert await world.blocks_of(blob) == 0
    assert await world.extras() == 0


async def test_s20_a_fault_reported_during_a_repair_is_not_forgotten(world: World) -> None:
    """Another block is lost and reported when the repair has passed it. Red when the commit dropped the row of
    the queue whatever it had come to say."""
    blob = await world.put(b"k", 3 * STRIPE)
    tenure = await world.tenure()
    first, second = sorted(place for place in await world.held(blob) if place[1] == 0)[::2]
    await world.drop(tenure, (blob, first))
    await report(world, blob, *first)
    repairer = world.repairer(tenure)
    async with repairer:
        executor = repairer._executor
        commit = executor._commit

        async def late(*args, **options):  # type: ignore[no-untyped-def]
            executor._commit = commit  # type: ignore[method-assign]
            await world.drop(tenure, (blob, second))
            await report(world, blob, *second)
            await commit(*args, **options)

        executor._commit = late  # type: ignore[method-assign]
        await drive(repairer)
    assert await world.repairs() == 0
    await world.assert_whole(blob, exactly=True)


async def test_s21_a_reader_with_the_old_layout_finishes_during_a_move(
    world: World, own_nodes: RealNodes, tmp_path: Path
) -> None:
    """The old copies wait out the grace period; after it a reader looks at the layout again. Red when a move
    deleted what it left behind before its commit (P7)."""
    fourth = RealNode(tmp_path, 4)
    own_nodes.nodes.append(fourth)
    fourth.start()
    blob = await world.put(b"k", 6 * STRIPE)
    before = await world.row(blob)
    await world.add(fourth)
    await world.up(4)
    await world.set_state(1, "draining")
    tenure = await world.tenure()
    repairer = world.repairer(tenure)
    old = await world.held(blob)
    async with repairer:
        executor = repairer._executor
        commit = executor._commit

        async def watched(*args, **options):  # type: ignore[no-untyped-def]
            assert old.items() <= (await world.held(blob)).items(), "all is still there"
            await commit(*args, **options)
            assert old.items() <= (await world.held(blob)).items(), "and for the grace period"

        executor._commit = watched  # type: ignore[method-assign]
        await drive(repairer)
    assert await world.read(before) == world.bytes_of[blob.id]
    world.pass_time(1)
    await collect(world, tenure)
    await world.assert_whole(blob, exactly=True)
    assert await world.read(before) == world.bytes_of[blob.id]


async def test_s20_an_order_for_an_older_copy_does_not_touch_the_new_one(
    world: World, own_nodes: RealNodes
) -> None:
    """A copy was moved away and queued as extra; before it was collected the shard came back to that node.
    Red when extra copies were deleted by their key."""
    blob = await world.put(b"k", STRIPE)
    tenure = await world.tenure()
    node = blob.nodes[0]
    (place,) = [place for place in await world.held(blob) if place[1] == 0]
    sequence = (await world.held(blob))[place]
    copy = ExtraCopy(blob.id, 0, 0, node, sequence)
    await world.catalog.write(lambda tx: work.queue_extra(tx, [copy]))
    await world.drop(tenure, (blob, place))
    await report(world, blob, 0, 0, node)
    await world.repair(tenure)
    world.pass_time(1)
    await collect(world, tenure)
    await world.assert_whole(blob, exactly=True)
    assert await world.extras() == 0


async def test_s20_an_order_never_drops_the_copy_that_the_layout_names(world: World) -> None:
    """However the order came about. Red without the look at the layout before extra copies are deleted."""
    blob = await world.put(b"k", STRIPE)
    extra = [ExtraCopy(blob.id, *place, sequence) for place, sequence in (await world.held(blob)).items()]
    await world.catalog.write(lambda tx: work.queue_extra(tx, extra))
    world.pass_time(1)
    await collect(world, await world.tenure())
    await world.assert_whole(blob, exactly=True)
    assert await world.extras() == 0


async def test_s1_a_power_cut_after_the_commit_takes_nothing(
    world: World, own_nodes: RealNodes, tmp_path: Path
) -> None:
    """The node that got the new copies forgets all that was not synced. Red when many stripes were put without
    a sync at the end."""
    fourth = VolatileNode(tmp_path, 4)
    own_nodes.nodes.append(fourth)
    fourth.start()
    blob = await world.put(b"k", 40 * STRIPE)
    await world.add(fourth)
    await world.up(4)
    await world.set_state(1, "removed")
    await world.repair(await world.tenure())
    fourth.kill()
    await world.down(4)
    fourth.start()
    await world.up(4)
    assert 4 in (await world.row(blob)).nodes
    await world.assert_whole(blob)


async def test_p7_no_copy_is_given_up_for_one_that_only_a_cache_still_has(
    world: World, own_nodes: RealNodes
) -> None:
    """Degraded to standard: what a node keeps is gone from its disk, nobody has noticed, and reads still show
    it. Red when the copies that stay were merely read before others were given up."""
    own_nodes[3].kill()
    await world.down(3)
    blob = await world.put(b"k", STRIPE)
    own_nodes[3].start()
    await world.up(3)
    before = await world.held(blob)
    link = world.nodes.link(1)
    assert link is not None
    call = link.call
    rotten = {sequence for (_, _, node), sequence in before.items() if node == 1}

    async def spoiled(answer: Awaitable[wire.Frame]) -> wire.Frame:
        frame = await answer
        found = wire.decode_blocks_verified(frame.header).blocks
        corrupt = int(wire.Status.CORRUPT)
        told = [(corrupt if s in rotten else state, s, n) for state, s, n in found]
        return frame._replace(header=wire.encode(wire.BlocksVerified(told)))

    def forgetful(op, header, payload, deadline_s, late_s=float("inf")):  # type: ignore[no-untyped-def]
        answer = call(op, header, payload, deadline_s, late_s)
        return asyncio.ensure_future(spoiled(answer)) if op == wire.Op.VERIFY_BLOCKS else answer

    link.call = forgetful  # type: ignore[method-assign]
    await world.repair(await world.tenure())
    row = await world.row(blob)
    assert is_standard(row.nodes, 3)
    await world.assert_whole(blob)
    kept = (0, row.nodes.index(1), 1)
    assert (await world.held(blob))[kept] > before[kept]


async def test_p7_nothing_is_committed_that_does_not_read_back_from_the_disk(
    world: World, own_nodes: RealNodes
) -> None:
    """The node that gets the new copies answers that they do not verify. Red when the commit trusted the
    acknowledgements (STYLE 12)."""
    own_nodes[3].kill()
    await world.down(3)
    blob = await world.put(b"k")
    own_nodes[3].start()
    await world.up(3)
    link = world.nodes.link(3)
    assert link is not None
    call = link.call

    def lying(op, header, payload, deadline_s, late_s=float("inf")):  # type: ignore[no-untyped-def]
        answer = call(op, header, payload, deadline_s, late_s)
        if op != wire.Op.VERIFY_BLOCKS:
            return answer

        async def spoiled() -> wire.Frame:
            frame: wire.Frame = await answer
            found = wire.decode_blocks_verified(frame.header).blocks
            bad = wire.BlocksVerified([(int(wire.Status.CORRUPT), s, n) for _, s, n in found])
            return frame._replace(header=wire.encode(bad))

        return asyncio.ensure_future(spoiled())

    link.call = lying  # type: ignore[method-assign]
    await world.repair(await world.tenure())
    assert (await world.row(blob)).nodes == blob.nodes
    await world.assert_whole(blob)


async def test_a_restart_in_the_middle_goes_on_with_what_is_left(
    world: World, own_nodes: RealNodes, tmp_path: Path
) -> None:
    made = [await world.put(b"%d" % i, 2 * STRIPE) for i in range(12)]
    own_nodes[1].kill()
    await world.down(1)
    fourth = RealNode(tmp_path, 4)
    own_nodes.nodes.append(fourth)
    fourth.start()
    await world.set_state(1, "removed")
    await world.add(fourth)
    await world.up(4)
    one = replace(SMALL, repair_blobs=1, repair_page=1)
    repairer = world.repairer(await world.tenure("first"), one)
    async with repairer:
        for _ in range(4):
            await repairer.step()
    partly = [1 not in (await world.row(blob)).nodes for blob in made]
    assert any(partly)
    assert not all(partly)
    await world.repair(await world.tenure("second"))
    for blob in made:
        await world.assert_whole(blob)
    stored = await world.catalog.read(lambda reader: progress.read(reader, RepairProgress))
    assert stored is not None
    assert await kinds(world) == ["repair-started", "redundancy-restored"]


async def test_what_is_lost_for_good_is_told_once_and_does_not_hold_up_the_rest(world: World) -> None:
    lost, other = await world.put(b"lost", STRIPE), await world.put(b"other", STRIPE)
    tenure = await world.tenure()
    for shard in (0, 1):
        await world.drop(tenure, (lost, (0, shard, lost.nodes[shard])))
        await report(world, lost, 0, shard, lost.nodes[shard])
    for stripe in range(100):  # more than a row takes: it must still remember that it was told
        await report(world, lost, stripe, 0, lost.nodes[0])
    await world.drop(tenure, (other, (0, 1, other.nodes[1])))
    await report(world, other, 0, 1, other.nodes[1])
    await world.repair(tenure)
    await world.assert_whole(other, exactly=True)
    assert (await kinds(world)).count("blob-unreadable") == 1
    assert "redundancy-restored" not in await kinds(world)
    assert await world.repairs() == 1
    told = await kinds(world)
    world.pass_time(SMALL.unreadable_retry_s + 1)
    await world.repair(tenure)
    assert await kinds(world) == told, "looked at again, in silence"


async def test_a_deleted_blob_is_not_called_unreadable(world: World) -> None:
    blob = await world.put(b"k", STRIPE)
    tenure = await world.tenure()
    for shard in (0, 1):
        await report(world, blob, 0, shard, blob.nodes[shard])
    await world.delete(b"k")
    for shard in (0, 1):
        await world.drop(tenure, (blob, (0, shard, blob.nodes[shard])))
    await world.repair(tenure)
    assert "blob-unreadable" not in await kinds(world)
    assert await world.repairs() == 0


async def test_copies_that_only_an_older_layout_knew_are_found_on_any_node(
    world: World, own_nodes: RealNodes, tmp_path: Path
) -> None:
    """A restored catalog names nodes from before a move. Red when repair asked the layout's nodes only."""
    fourth = RealNode(tmp_path, 4)
    own_nodes.nodes.append(fourth)
    fourth.start()
    blob = await world.put(b"k", 3 * STRIPE)
    before = await world.row(blob)
    await world.add(fourth)
    await world.up(4)
    tenure = await world.tenure()
    for number in (1, 2):
        await world.set_state(number, "draining")
        if number == 1:
            await world.repair(tenure)
        world.pass_time(1)
        await collect(world, tenure)
    await world.set_state(1, "up")
    await world.set_state(2, "up")
    moved = await world.row(blob)
    assert 4 in moved.nodes
    await world.catalog.write(lambda tx: placements.move(tx, blob.id, old=moved, nodes=before.nodes, runs=()))
    shard = next(s for s in range(3) if before.nodes[s] != 1)
    await world.drop(tenure, *((blob, (stripe, shard, before.nodes[shard])) for stripe in range(3)))
    await report(world, blob, 0, shard, before.nodes[shard])
    await world.repair(tenure)
    await world.assert_whole(blob)
    assert await world.repairs() == 0


async def test_two_stewards_processes_never_leave_a_blob_in_between(
    world: World, own_nodes: RealNodes, tmp_path: Path
) -> None:
    """Losing the lease in the middle of many repairs ends them all; the successor finishes."""
    own_nodes[3].kill()
    await world.down(3)
    made = [await world.put(b"%d" % i, STRIPE) for i in range(16)]
    own_nodes[3].start()
    await world.up(3)
    repairer = world.repairer(await world.tenure("old"), replace(SMALL, repair_blobs=4, repair_page=4))
    async with repairer:
        await repairer.step()
        async with opened(tmp_path / "catalog.sqlite") as other:
            successor = World(other, world.nodes)
            tenure = await successor.tenure("new")
            with pytest.raises(LeaseLost):
                await drive(repairer)
            await successor.repair(tenure)
    for blob in made:
        assert is_standard((await world.row(blob)).nodes, 3)
        await world.assert_whole(blob)


async def test_a_node_that_refuses_new_copies_is_avoided_and_tried_again_later(
    world: World, own_nodes: RealNodes, tmp_path: Path
) -> None:
    """Its disk is full, and the steward has not heard of it yet. Red when the plan was made again with it."""
    fourth = RealNode(tmp_path, 4)
    own_nodes.nodes.append(fourth)
    fourth.start()
    blob = await world.put(b"k")
    await world.add(fourth)
    await world.up(4)
    await world.set_state(1, "draining")
    link = world.nodes.link(4)
    assert link is not None
    call = link.call

    def full(op, header, payload, deadline_s, late_s=float("inf")):  # type: ignore[no-untyped-def]
        if op != wire.Op.PUT_BLOCK:
            return call(op, header, payload, deadline_s, late_s)
        refused = asyncio.get_running_loop().create_future()
        refused.set_exception(RemoteFault(wire.Status.READ_ONLY, "full"))
        return refused

    link.call = full  # type: ignore[method-assign]
    tenure = await world.tenure()
    await world.repair(tenure)
    left = copies((await world.row(blob)).nodes, 3)
    assert survives_any_loss(2, left, (2, 3)), "protected on the nodes that stay"
    assert not {node for _, node in left} & {4}
    await world.assert_whole(blob)
    link.call = call  # type: ignore[method-assign]
    world.pass_time(SMALL.retry_s + 1)
    await world.repair(tenure)
    assert set((await world.row(blob)).nodes) == {2, 3, 4}
    await world.assert_whole(blob)


async def test_what_can_not_be_reached_now_stays_queued_until_it_can(
    world: World, own_nodes: RealNodes
) -> None:
    """Two blocks of a stripe are out of reach, one of them only for now. Red when that counted as lost, and
    when a repair that could not look at all copies took the row off the queue."""
    blob = await world.put(b"k")
    tenure = await world.tenure()
    gone, away = blob.nodes[0], blob.nodes[1]
    await world.drop(tenure, (blob, (1, 0, gone)))
    own_nodes[away].kill()
    await world.down(away)
    await report(world, blob, 1, 0, gone)
    await world.repair(tenure)
    assert await world.repairs() == 1
    assert "blob-unreadable" not in await kinds(world)
    own_nodes[away].start()
    await world.up(away)
    world.pass_time(SMALL.retry_s + 1)
    await world.repair(tenure)
    assert await world.repairs() == 0
    await world.assert_whole(blob, exactly=True)


async def test_a_copy_that_could_not_be_looked_at_keeps_the_row(tmp_path: Path, six_nodes: RealNodes) -> None:
    """4+2: what is lost is rebuilt although one holder is away; the row stays until that one was seen too.
    Red when the blind spot counted as whole."""
    async with new_world(tmp_path / "catalog.sqlite", six_nodes, 4, 2) as world:
        await world.admit()
        blob = await world.put(b"k")
        tenure = await world.tenure()
        gone, away = blob.nodes[0], blob.nodes[5]
        await world.drop(tenure, (blob, (1, 0, gone)))
        six_nodes[away].kill()
        await world.down(away)
        await report(world, blob, 1, 0, gone)
        await world.repair(tenure)
        assert (1, 0, gone) in await world.held(blob)
        assert await world.repairs() == 1
        six_nodes[away].start()
        await world.up(away)
        world.pass_time(SMALL.retry_s + 1)
        await world.repair(tenure)
        assert await world.repairs() == 0
        await world.assert_whole(blob, exactly=True)
