"""A walk over everything: what is missing, bad or silent is counted exactly, named, and handed to repair."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from catalog import buckets, placements
from catalog.model import NewBlob
from cluster.reports import verify
from cluster.reports.blocks import BlockChecker, NodeAsker
from cluster.reports.verify import VerifyWalk
from cluster.reports.verify_report import VerifyReport, verify_report
from cluster.reports.whereabouts import key_text
from codec.block import BlockKey
from tests.cluster.nodes import RealNodes
from tests.cluster.reports.test_whereabouts import damage, multipart
from tests.cluster.steward_world import STRIPE, World

pytestmark = pytest.mark.usefixtures("silent_loop")

SIZES = (100, STRIPE, 3 * STRIPE + 1, 9 * STRIPE)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many pages and pieces, several in flight."""
    monkeypatch.setattr(verify, "_PAGE_BLOBS", 2)
    monkeypatch.setattr(verify, "_PIECE_BYTES", 4 * STRIPE)


async def verified(world: World, *, patience_s: float = 0.0, **options: Any) -> VerifyReport:
    asker = NodeAsker(world.nodes, deadline_s=5.0, patience_s=patience_s)
    walk = VerifyWalk(world.catalog, asker, **options)
    async with asyncio.timeout(30):
        await walk.run()
    return await verify_report(world.catalog, walk, bucket=None, seconds=1.0)


async def fill(world: World, count: int = 8) -> list[NewBlob]:
    return [await world.put(b"k%d" % number, SIZES[number % len(SIZES)]) for number in range(count)]


def found(report: VerifyReport) -> dict[str, tuple[str, int, int, int]]:
    return {one.key: (one.condition, one.missing, one.corrupt, one.unanswered) for one in report.objects}


async def test_a_whole_store_is_read_block_by_block(world: World) -> None:
    """Everything is counted exactly. Red when the last stripes of a page were left out."""
    made = await fill(world)
    await multipart(world, b"m", [STRIPE, 2 * STRIPE])
    await world.put(b"empty", 0)
    report = await verified(world)
    assert (report.complete, report.whole, report.objects) == (True, True, [])
    stripes = sum(blob.stripes for blob in made) + 3
    assert (report.blobs, report.blocks) == (len(made) + 2, 3 * stripes)
    # One of 3 * STRIPE + 1 bytes ends with shards of a byte each.
    assert (
        report.bytes == 2 * 3 * (50 + STRIPE // 2 + (3 * STRIPE // 2 + 1) + 9 * STRIPE // 2) + 9 * STRIPE // 2
    )
    assert await world.repairs() == 0


async def test_what_is_bad_is_named_and_repaired(own_world: World, own_nodes: RealNodes) -> None:
    """Afterwards all is whole. Red when faults were not handed to the queue, and when a part of a multipart object was
    not traced to the object."""
    made = await fill(own_world)
    parts = await multipart(own_world, b"m", [STRIPE, 2 * STRIPE])
    damage(own_nodes, own_world, made[3], 8, 1)
    damage(own_nodes, own_world, parts[1], 0, 0)
    tenure = await own_world.tenure()
    await own_world.drop(tenure, (made[2], (0, 2, made[2].nodes[2])), (made[2], (3, 0, made[2].nodes[0])))
    report = await verified(own_world, report=False)
    assert found(report) == {
        "k3": ("reduced", 0, 1, 0),
        "k2": ("reduced", 2, 0, 0),
        "m": ("reduced", 0, 1, 0),
    }
    assert [one.part for one in report.objects] == [0, 0, 2]
    assert (report.missing, report.corrupt, report.reduced_blobs, report.unreadable_blobs) == (2, 2, 3, 0)
    assert (report.whole, report.queued_blobs, await own_world.repairs()) == (False, 0, 0)
    report = await verified(own_world)
    assert (report.queued_blobs, report.unqueued_blobs, await own_world.repairs()) == (3, 0, 3)
    await own_world.repair(tenure)
    assert (await verified(own_world)).whole


async def test_unreadable_objects_come_first(world: World, nodes: RealNodes) -> None:
    """Red when a stripe with one good shard of two counted as reduced only."""
    made = await fill(world, 4)
    damage(nodes, world, made[0], 0, 0)
    damage(nodes, world, made[3], 5, 0)
    damage(nodes, world, made[3], 5, 1)
    report = await verified(world)
    assert [(one.key, one.condition) for one in report.objects] == [("k3", "unreadable"), ("k0", "reduced")]
    assert (report.unreadable_blobs, report.reduced_blobs) == (1, 2)


async def test_a_silent_node_is_named_and_nothing_is_queued(own_world: World, own_nodes: RealNodes) -> None:
    """Its blocks may be whole. Red when they were told as missing."""
    made = await fill(own_world, 4)
    own_nodes[2].kill()
    await own_world.down(2)
    report = await verified(own_world)
    assert (report.missing, report.corrupt, report.silent_nodes) == (0, 0, ["node-2"])
    assert report.unanswered == sum(blob.stripes for blob in made)
    assert (report.reduced_blobs, report.unreadable_blobs, await own_world.repairs()) == (4, 0, 0)


async def test_a_node_that_comes_back_in_time_spoils_nothing(
    own_world: World, own_nodes: RealNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red when a lost connection was not waited for."""
    await fill(own_world, 8)
    check, looks = BlockChecker.check, []

    async def restarted_in_between(
        self: BlockChecker, wanted: Mapping[int, Sequence[BlockKey]], shard_bytes: int
    ) -> Any:
        states = await check(self, wanted, shard_bytes)
        looks.append(states)
        if len(looks) == 4:
            own_nodes[2].kill()
            await own_world.down(2)
            own_nodes[2].launch()
        return states

    monkeypatch.setattr(BlockChecker, "check", restarted_in_between)
    report = await verified(own_world, patience_s=20.0)
    assert len(looks) > 4
    assert report.whole
    await asyncio.to_thread(own_nodes[2].wait_ready)


async def test_what_is_moved_or_deleted_meanwhile_is_not_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red when what was missed was told without a second look at the catalog."""
    moved, deleted = await world.put(b"moved"), await world.put(b"deleted")
    rows = {blob.id: await world.row(blob) for blob in (moved, deleted)}

    async def lay(blob: NewBlob, nodes: tuple[int, ...]) -> None:
        row = await world.row(blob)
        assert await world.catalog.write(
            lambda tx: placements.move(tx, blob.id, old=row, nodes=nodes, runs=())
        )

    for blob in (moved, deleted):
        await lay(blob, (*blob.nodes[1:], blob.nodes[0]))  # no bytes go with it: all of it is missing there
    check, looks = BlockChecker.check, []

    async def in_between(
        self: BlockChecker, wanted: Mapping[int, Sequence[BlockKey]], shard_bytes: int
    ) -> Any:
        looks.append(wanted)
        states = await check(self, wanted, shard_bytes)
        if len(looks) == 1:
            await lay(moved, rows[moved.id].nodes)
            await world.delete(b"deleted")
        return states

    monkeypatch.setattr(BlockChecker, "check", in_between)
    monkeypatch.setattr(verify, "_PAGES_IN_FLIGHT", 1)
    report = await verified(world)
    assert (report.whole, report.blobs, report.missing) == (True, 1, 0)
    assert await world.repairs() == 0


async def test_only_one_bucket(world: World, nodes: RealNodes) -> None:
    """All its versions, and nothing of the others. Red when parts of multipart objects were left out."""
    await fill(world, 5)
    first = world.bucket_id
    other = await world.catalog.write(lambda tx: buckets.create(tx, name="other", owner="o", region="r"))
    world.bucket_id = other.id
    bad = await world.put(b"elsewhere", STRIPE)
    damage(nodes, world, bad, 0, 0)
    parts = await multipart(world, b"m", [STRIPE] * 5)
    damage(nodes, world, parts[4], 0, 1)
    assert (await verified(world, bucket_id=first)).whole
    report = await verified(world, bucket_id=other.id)
    assert (report.blobs, report.corrupt) == (6, 2)
    assert found(report).keys() == {"elsewhere", "m"}


async def test_a_walk_that_is_stopped_tells_what_it_saw(
    world: World, nodes: RealNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it waits for its turn by the limit of bytes, too. Red when `stop` waited for that."""
    monkeypatch.setattr(verify, "_PAGE_BLOBS", 1)
    monkeypatch.setattr(verify, "_PAGES_IN_FLIGHT", 1)
    made = [await world.put(b"k%d" % number, 2 * STRIPE) for number in range(4)]
    for blob in made:
        damage(nodes, world, blob, 0, 0)
    # As much as one of them needs, on a clock that stands still: the second waits for one second, the third for two.
    asker = NodeAsker(world.nodes)
    walk = VerifyWalk(world.catalog, asker, bytes_per_s=3 * STRIPE, monotonic=lambda: 0.0)
    walking = asyncio.ensure_future(walk.run())
    async with asyncio.timeout(20):
        while walk.tally.blobs < 2:
            await asyncio.sleep(0.002)
        walk.stop()
    async with asyncio.timeout(1):
        await walking
    report = await verify_report(world.catalog, walk, bucket=None, seconds=1.0)
    assert not report.complete
    assert report.corrupt == report.blobs == len(report.objects) == 2


async def test_a_key_is_told_as_text() -> None:
    assert key_text("gr\u00fcn/\u2603".encode()) == "grün/☃"
    assert key_text(b"\xff") == "\\xff"


async def test_many_bad_blobs_are_kept_in_bounds(
    world: World, nodes: RealNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unreadable ones rather than the others. Red when the first ones were kept, whatever they were."""
    monkeypatch.setattr(verify, "_BAD_BLOBS_KEPT", 2)
    made = await fill(world, 6)
    for number in (0, 1, 2, 4):
        damage(nodes, world, made[number], 0, 0)
    damage(nodes, world, made[4], 0, 1)
    report = await verified(world)
    assert (report.reduced_blobs, report.unreadable_blobs, report.more_objects) == (4, 1, True)
    assert len(report.objects) == 2
    assert (report.objects[0].key, report.objects[0].condition) == ("k4", "unreadable")
