"""The catalog's expectation against what the nodes hold: missing is queued, extra is collected by its copy."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from msgspec import structs

from catalog import leases, placements, work
from catalog.model import NewBlob
from cluster import wire
from cluster.steward import progress
from cluster.steward import scrub as scrub_module
from cluster.steward.damaged import DamageWatch
from cluster.steward.health import HealthWatch
from cluster.steward.orphans import OrphanCollector
from cluster.steward.progress import ScrubProgress, ScrubRequest
from cluster.steward.scrub import Scrubber
from cluster.steward.tenure import Tenure
from cluster.steward.throttle import Throttle
from cluster.steward.worker import run
from codec.block import page_checksums
from codec.erasure import ErasureCode
from codec.geometry import Geometry
from tests.cluster.nodes import RealNodes
from tests.cluster.steward_world import SMALL, STRIPE, Clock, Place, World, collect, new_world

pytestmark = pytest.mark.usefixtures("silent_loop")


@pytest_asyncio.fixture
async def world(tmp_path: Path, own_nodes: RealNodes) -> AsyncIterator[World]:
    async with new_world(tmp_path / "catalog.sqlite", own_nodes) as made:
        await made.admit()
        yield made


async def scrub(world: World, tenure: Tenure) -> ScrubProgress:
    """One pass; `SMALL` makes it of many ranges and many inventory pages."""
    scrubber = Scrubber(world.services(), world.in_flight)
    world.pass_time(SMALL.scrub_s + 1)
    while await scrubber.step(tenure):
        pass
    return await state_of(world)


async def state_of(world: World) -> ScrubProgress:
    state = await world.catalog.read(lambda reader: progress.read(reader, ScrubProgress))
    assert state is not None
    return state


async def put_block(world: World, blob: NewBlob, at: Place, payload: bytes) -> int:
    """A copy of a block that nobody ordered, e.g. a late one of a thawed node; its sequence."""
    stripe, shard, node = at
    link = world.nodes.link(node)
    assert link is not None
    message = wire.PutBlock(
        blob.id, stripe, shard, blob.k, blob.m, 1, 2 * len(payload), page_checksums(payload), True, True
    )
    reply = await link.call(int(wire.Op.PUT_BLOCK), wire.encode(message), payload, 10)
    return wire.decode_appended(reply.header).sequence


async def test_what_is_missing_anywhere_is_found_and_healed(world: World) -> None:
    """The first and last block of a node, of a blob and of a range are among them; blobs are larger than a
    page of the inventory. Red when the merge lost what is due after the last entry of a node."""
    sizes = (1, 9 * STRIPE, STRIPE, 0, 2 * STRIPE + 1, STRIPE, 7 * STRIPE, 5)
    made = [await world.put(b"%d" % i, size) for i, size in enumerate(sizes)]
    tenure = await world.tenure()
    assert (await scrub(world, tenure)).missing == 0
    assert await world.repairs() == 0
    lost = [
        *((blob, (0, 0, blob.nodes[0])) for blob in (made[0], made[7])),
        *((made[1], (stripe, stripe % 3, made[1].nodes[stripe % 3])) for stripe in range(9)),
        (made[6], (6, 2, made[6].nodes[2])),
        *((made[2], (0, 1, made[2].nodes[1])) for _ in range(1)),
    ]
    await world.drop(tenure, *lost)
    state = await scrub(world, tenure)
    assert state.missing == len(lost)
    assert state.extra == 0
    assert state.blobs == 7, "all but the empty one"
    assert await world.repairs() == 5
    await world.repair(tenure)
    for blob in made:
        if blob.size:
            await world.assert_whole(blob, exactly=True)


async def test_s20_a_late_copy_is_collected_by_its_sequence(world: World, own_nodes: RealNodes) -> None:
    own_nodes[3].kill()
    await world.down(3)
    blob, other = await world.put(b"k", 2 * STRIPE), await world.put(b"other")
    own_nodes[3].start()
    await world.up(3)
    before = await world.held(blob)
    late = await put_block(world, blob, (1, 2, 3), bytes(STRIPE // 2))
    tenure = await world.tenure()
    assert (await scrub(world, tenure)).extra == 1
    (order,) = await world.catalog.read(lambda reader: work.due_extra(reader, 1 << 60, 10))
    assert (order.blob_id, order.stripe, order.shard, order.node, order.sequence) == (blob.id, 1, 2, 3, late)
    newer = await put_block(world, blob, (1, 2, 3), bytes(STRIPE // 2))
    await collect(world, tenure)
    assert (await world.held(blob))[1, 2, 3] == newer, "the order was for another copy"
    await scrub(world, tenure)
    await collect(world, tenure)
    assert await world.held(blob) == before
    await world.assert_whole(other)


async def test_p7_no_copy_is_extra_while_its_blob_is_not_whole(
    world: World, own_nodes: RealNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a restored catalog finds it: shards lie elsewhere than its layouts say, and not where they say. Red
    when more extra copies than are noted at once hid the missing blocks of the nodes that came after them,
    and when copies counted as extra although a node that the layout names could not be asked."""
    blob = await world.put(b"k", 9 * STRIPE)
    content = world.bytes_of[blob.id]
    shard = {node: at for at, node in enumerate(blob.nodes)}
    shards = ErasureCode(Geometry(2, 1, STRIPE)).encode
    for stripe in range(9):
        moved = bytes(shards(content[stripe * STRIPE :][:STRIPE])[shard[3]])
        await put_block(world, blob, (stripe, shard[3], 1), moved)
    tenure = await world.tenure()

    own_nodes[3].kill()
    await world.down(3)
    assert (await scrub(world, tenure)).extra == 0
    assert await world.extras() == 0
    own_nodes[3].start()
    await world.up(3)

    await world.drop(tenure, *((blob, (stripe, shard[3], 3)) for stripe in range(9)))
    monkeypatch.setattr(scrub_module, "_EXTRA_MAX", 3)
    state = await scrub(world, tenure)
    assert (state.missing, state.extra) == (9, 0)
    assert (await world.repairs(), await world.extras()) == (1, 0)
    await world.repair(tenure)
    assert (await scrub(world, tenure)).extra == 3
    for _ in range(3):
        await collect(world, tenure)
        await scrub(world, tenure)
    await world.assert_whole(blob, exactly=True)


async def test_s20_what_a_repair_in_flight_has_put_is_left_alone(world: World, own_nodes: RealNodes) -> None:
    """Scrub looks while new copies are there and not committed. Red when `in_flight` was not regarded: the
    copies were queued, and collected once the layout was the old one for a moment longer."""
    own_nodes[3].kill()
    await world.down(3)
    blob = await world.put(b"k")
    own_nodes[3].start()
    await world.up(3)
    tenure = await world.tenure()
    repairer = world.repairer(tenure)
    extra: list[int] = []
    async with repairer:
        executor = repairer._executor
        commit = executor._commit

        async def watched(*args, **options):  # type: ignore[no-untyped-def]
            await scrub(world, tenure)
            extra.append(await world.extras())
            await commit(*args, **options)

        executor._commit = watched  # type: ignore[method-assign]
        while await repairer.step():
            pass
    assert extra == [0]
    await collect(world, tenure)
    await world.assert_whole(blob, exactly=True)


async def test_s21_what_was_moved_since_is_neither_missing_nor_extra(world: World) -> None:
    """The blob moves between the look at the catalog and the look at the nodes. Red when the findings were
    not compared with a fresh layout."""
    blob = await world.put(b"k", STRIPE)
    tenure = await world.tenure()

    class Interrupted(Scrubber):
        async def _tell(self, tenure, missing, extra):  # type: ignore[no-untyped-def]
            if missing:
                row = await world.row(blob)
                layout = (row.nodes[0], row.nodes[1], 0)
                await world.catalog.write(
                    lambda tx: placements.move(tx, blob.id, old=row, nodes=layout, runs=())
                )
            await super()._tell(tenure, missing, extra)

    await world.drop(tenure, (blob, (0, 2, blob.nodes[2])))
    scrubber = Interrupted(world.services(), set())
    while await scrubber.step(tenure):
        pass
    assert await world.repairs() == 0


async def test_a_pass_goes_on_where_the_last_steward_stopped_and_can_be_asked_for(world: World) -> None:
    made = [await world.put(b"%d" % i, STRIPE) for i in range(10)]
    first = Scrubber(world.services(), set())
    tenure = await world.tenure("first")
    assert await first.step(tenure)
    assert await first.step(tenure)
    assert (await state_of(world)).after == made[5].id
    second, tenure = Scrubber(world.services(), set()), await world.tenure("second")
    steps = 0
    while await second.step(tenure):
        steps += 1
    state = await state_of(world)
    assert (steps, state.blobs, state.passes, state.active) == (2, 10, 1, False)
    assert not await second.step(tenure), "not again before its time"
    await world.catalog.write(lambda tx: progress.write(tx, ScrubRequest(7)))
    while await second.step(tenure):
        pass
    assert (await state_of(world)).passes == 2
    assert not await second.step(tenure), "asked for once, done once"


async def test_a_pass_that_ended_in_the_future_does_not_hold_up_the_next(world: World) -> None:
    """The clock was three days ahead then. Red when the time since the last pass may be negative: for three days
    nothing was looked for."""
    tenure = await world.tenure()
    await world.put(b"key", STRIPE)
    await scrub(world, tenure)
    ended_ms = world.now_ms() + 3 * 24 * 3600 * 1000
    wrong = structs.replace(await state_of(world), finished_ms=ended_ms)
    await tenure.write(lambda tx: progress.write(tx, wrong))
    scrubber = Scrubber(world.services(), world.in_flight)
    while await scrubber.step(tenure):
        pass
    after = await state_of(world)
    assert after.passes == wrong.passes + 1
    assert after.finished_ms < ended_ms


async def test_a_node_that_does_not_answer_is_left_out_and_nothing_is_said_of_it(
    world: World, own_nodes: RealNodes
) -> None:
    blob = await world.put(b"k")
    own_nodes[2].kill()
    await world.down(2)
    state = await scrub(world, await world.tenure())
    assert (state.missing, state.extra) == (0, 0)
    own_nodes[2].start()
    await world.up(2)
    await world.assert_whole(blob)


async def test_a_node_that_answers_nonsense_is_left_out_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red when its reply ended the pass, and with it the steward."""
    await world.put(b"k")
    link = world.nodes.link(2)
    assert link is not None
    call = link.call

    def mad(op, header, payload, deadline_s, late_s=float("inf")):  # type: ignore[no-untyped-def]
        answer = call(op, header, payload, deadline_s, late_s)

        async def garbled() -> wire.Frame:
            frame: wire.Frame = await answer
            return frame._replace(header=b"\xc1")

        return asyncio.ensure_future(garbled())

    monkeypatch.setattr(link, "call", mad)
    tenure = await world.tenure()
    state = await scrub(world, tenure)
    assert (state.passes, state.missing, state.extra) == (1, 0, 0)
    statuses = {2: wire.NodeStatus(b"", 1, 0, 0, 0, 0, {}, False, False, damaged_blocks=1)}
    assert not await DamageWatch(world.services(), lambda: statuses).step(tenure)
    health = HealthWatch(world.services())
    await health.step(tenure)
    assert health.statuses.keys() == {1, 3}, "no answer that could be understood"
    for _ in range(world.services().settings.orphan_epochs + 1):
        await tenure.write(leases.advance_epoch)
    orphans = OrphanCollector(world.services())
    orphans.begin()
    while await orphans.step(tenure):
        pass


async def test_a_pass_that_was_asked_for_reads_every_block_from_the_disks(
    world: World, own_nodes: RealNodes
) -> None:
    """Red when only the inventories are compared: a rotten block is in them."""
    blobs_made = [await world.put(b"%d" % i, 3 * STRIPE) for i in range(3)]
    blob = blobs_made[1]
    node = blob.nodes[1]
    own_nodes[node].damage(world.bytes_of[blob.id][STRIPE // 2 : STRIPE])
    tenure = await world.tenure()
    assert (await scrub(world, tenure)).corrupt == 0, "that is left to the nodes' own scrub"
    await world.catalog.write(lambda tx: progress.write(tx, ScrubRequest(7)))
    state = await scrub(world, tenure)
    assert (state.corrupt, state.missing, state.deep, state.request) == (1, 0, True, 7)
    assert await world.repairs() == 1
    await world.repair(tenure)
    for each in blobs_made:
        await world.assert_whole(each, exactly=True)


async def test_what_a_node_found_rotten_itself_is_healed(world: World, own_nodes: RealNodes) -> None:
    """By its own scrub, or because somebody read the block: here by a read that verified it from the disk."""
    blob = await world.put(b"k", STRIPE)
    node = blob.nodes[0]
    own_nodes[node].damage(world.bytes_of[blob.id][: STRIPE // 2])
    await world.held(blob)
    tenure = await world.tenure()
    health = HealthWatch(world.services())
    await health.step(tenure)
    assert health.statuses[node].damaged_blocks == 1
    await DamageWatch(world.services(), lambda: health.statuses).step(tenure)
    (item,) = await world.catalog.read(lambda reader: work.due_repairs(reader, 1 << 60, 10))
    assert [(f.stripe, f.shard, f.node) for f in item.faults] == [(0, 0, node)]
    await world.repair(tenure)
    await world.assert_whole(blob, exactly=True)
    await health.step(tenure)
    assert health.statuses[node].damaged_blocks == 0


async def test_a_whole_segment_that_is_gone_is_rebuilt(world: World, own_nodes: RealNodes) -> None:
    """All of one node's log disappears, its index stays: every block is bad, and none is forgotten."""
    made = [await world.put(b"%d" % i, size) for i, size in enumerate((1, 3 * STRIPE, 20 * STRIPE))]
    own_nodes[2].kill()
    await world.down(2)
    for path in (own_nodes[2].directory / "segments").iterdir():
        path.unlink()
    own_nodes[2].start()
    await world.up(2)
    tenure = await world.tenure()
    health = HealthWatch(world.services())
    await health.step(tenure)
    await DamageWatch(world.services(), lambda: health.statuses).step(tenure)
    await scrub(world, tenure)
    assert await world.repairs() == 3
    await world.repair(tenure)
    for blob in made:
        await world.assert_whole(blob, exactly=True)


async def test_a_running_steward_heals_by_itself(world: World, own_nodes: RealNodes, tmp_path: Path) -> None:
    """All loops together in real time: a block is lost, one asks for a scrub, and it comes back. Then a node
    drains."""
    made = [await world.put(b"%d" % i, 2 * STRIPE) for i in range(5)]
    quick = replace(SMALL, idle_s=0.01, damaged_s=0.01, health_s=0.05, renew_s=0.05, progress_s=0.01)
    blob = made[2]
    await world.drop(await world.tenure("the one before"), (blob, (1, 1, blob.nodes[1])))
    stop = asyncio.Event()
    services = replace(world.services(quick), monotonic=asyncio.get_running_loop().time)
    running = asyncio.create_task(run(replace(services, settings=replace(quick, lease_expiry_s=0.2)), stop))
    await world.catalog.write(lambda tx: progress.write(tx, ScrubRequest(1)))
    async with asyncio.timeout(20):
        while "redundancy-restored" not in [event.kind for event in await world.events()]:
            await asyncio.sleep(0.01)
    await world.assert_whole(blob, exactly=True)
    stop.set()
    await running


def test_the_throttle_gives_its_rate_and_no_more() -> None:
    """Red when what was not used was saved up for ever, or when a debt was forgotten."""
    clock = Clock()
    throttle = Throttle(1000, clock)
    clock.now += 100
    assert throttle.spend(1000) == 0.0
    assert throttle.spend(500) == pytest.approx(0.5)
    assert throttle.spend(500) == pytest.approx(1.0)
    clock.now += 1.0
    assert throttle.spend(2000) == pytest.approx(2.0), "larger than a second's share"
    clock.now += 3.0
    assert throttle.spend(1000) == 0.0
    assert Throttle(0, clock).spend(1 << 40) == 0.0


def test_all_rows_of_progress_have_names_of_their_own() -> None:
    assert len(set(progress._NAMES.values())) == len(progress._NAMES)
