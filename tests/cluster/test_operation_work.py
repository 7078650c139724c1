"""What the steward makes of the long operations, on real nodes: it works, pauses, goes on, and says how far it is."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from catalog import nodes
from catalog.model import NewBlob
from cluster.headway import blobs_naming
from cluster.operations import Operation, cancel, get, start_recovery, start_scrub
from cluster.steward import progress
from cluster.steward.operations import OperationWatch
from cluster.steward.progress import RepairProgress, ScrubProgress
from cluster.steward.scrub import Scrubber
from cluster.steward.tenure import Tenure
from cluster.steward.worker import run
from compose.data_dir import DataDir
from tests.cluster.nodes import RealNode, RealNodes
from tests.cluster.steward_world import SMALL, STRIPE, World, kinds, new_world

pytestmark = pytest.mark.usefixtures("silent_loop")

BLOBS = 6
ONE_AT_A_TIME = replace(SMALL, repair_blobs=1, repair_page=1)


@pytest_asyncio.fixture
async def world(tmp_path: Path, own_nodes: RealNodes) -> AsyncIterator[World]:
    async with new_world(tmp_path / "catalog.sqlite", own_nodes) as made:
        await made.admit()
        yield made


async def recover(world: World, tmp_path: Path) -> Operation:
    home = DataDir(tmp_path)
    return await world.catalog.write(
        lambda tx: start_recovery(tx, home, 3, "node-3", lost=True, directory=tmp_path / "node-4")
    )


async def replaced(world: World, own_nodes: RealNodes, tmp_path: Path) -> Operation:
    """Node 3 loses its data; a recovery is begun, and a fourth node runs in its place."""
    own_nodes[3].kill()
    await world.down(3)
    shutil.rmtree(own_nodes[3].directory)
    await world.catalog.write(lambda tx: nodes.set_state(tx, 3, nodes.DOWN))
    fourth = RealNode(tmp_path, 4)
    own_nodes.nodes.append(fourth)
    fourth.start()
    begun = await recover(world, tmp_path)
    host, port = fourth.info.address
    await world.catalog.write(lambda tx: nodes.move(tx, 4, host=host, port=port))
    await world.set_state(4, nodes.UP)
    await world.up(4)
    return begun


async def seen(world: World, tenure: Tenure, number: int) -> Operation:
    """After the steward has looked."""
    await OperationWatch(world.services()).step(tenure)
    return await world.catalog.read(lambda reader: get(reader, number))


async def left(world: World) -> int | None:
    return await world.catalog.read(lambda reader: blobs_naming(reader, (3,)))


async def put_all(world: World) -> list[NewBlob]:
    return [await world.put(b"%d" % number, 2 * STRIPE) for number in range(BLOBS)]


async def test_p7_a_rebuild_is_followed_paused_and_resumed(
    world: World, own_nodes: RealNodes, tmp_path: Path
) -> None:
    """Its progress rises blob by blob; another steward goes on with it. Red when repair did not look at the pause, and
    when an operation was over before all was rebuilt."""
    made = await put_all(world)
    begun = await replaced(world, own_nodes, tmp_path)
    assert (begun.total, begun.done) == (BLOBS, 0)
    tenure = await world.tenure()
    dones = []
    async with world.repairer(tenure, ONE_AT_A_TIME) as repairer:
        while (await left(world) or 0) > BLOBS // 2:
            await repairer.step()
            dones.append((await seen(world, tenure, begun.id)).done)
        assert dones == sorted(dones)
        assert 0 < dones[-1] < BLOBS
        assert (await world.catalog.write(lambda tx: cancel(tx, begun.id))).state == "cancelled"
        while await repairer.step():
            pass
        rest = await left(world)
        assert rest, "it had nothing left to pause"
        for _ in range(5):
            assert not await repairer.step()
        assert await left(world) == rest
        state = await world.catalog.read(lambda reader: progress.read(reader, RepairProgress))
        assert state is not None
        assert (state.active, state.bytes_per_s) == (True, 0)
    home = DataDir(tmp_path)
    again = await world.catalog.write(lambda tx: start_recovery(tx, home, 3, "node-3"))
    assert (again.id != begun.id, again.total) == (True, rest)
    tenure = await world.tenure("another steward")
    await world.repair(tenure)
    done = await seen(world, tenure, again.id)
    assert (done.state, done.done, done.total) == ("done", rest, rest)
    for blob in made:
        await world.assert_whole(blob, exactly=True)
    assert await kinds(world) == [
        "recovery-started",
        "repair-started",
        "repair-paused",
        "recovery-cancelled",
        "recovery-started",
        "repair-resumed",
        "redundancy-restored",
        "recovery-done",
    ]


async def test_a_pause_ends_by_itself(world: World, own_nodes: RealNodes, tmp_path: Path) -> None:
    await put_all(world)
    begun = await replaced(world, own_nodes, tmp_path)
    await world.catalog.write(lambda tx: cancel(tx, begun.id))
    tenure = await world.tenure()
    async with world.repairer(tenure) as repairer:
        assert not await repairer.step()
        assert await left(world) == BLOBS
        world.pass_time(progress.PAUSE_MS_MAX / 1000 + 1)
        assert await repairer.step()


async def test_a_cancelled_pass_does_not_come_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though a step of it was under way. Red when that step stored its progress over the cancellation."""
    await put_all(world)
    begun = await world.catalog.write(start_scrub)
    tenure = await world.tenure()
    scrubber = Scrubber(world.services(), world.in_flight)
    assert await scrubber.step(tenure)
    under_way = await seen(world, tenure, begun.id)
    assert (under_way.state, under_way.done, under_way.total) == ("running", SMALL.scrub_blobs, BLOBS)
    compare = scrubber._compare

    async def cancelled_meanwhile(*arguments: object, **options: object) -> object:
        found = await compare(*arguments, **options)  # type: ignore[arg-type]
        await world.catalog.write(lambda tx: cancel(tx, begun.id))
        return found

    monkeypatch.setattr(scrubber, "_compare", cancelled_meanwhile)
    assert not await scrubber.step(tenure)
    assert not await scrubber.step(tenure), "nor does the next regular pass begin at once"
    state = await world.catalog.read(lambda reader: progress.read(reader, ScrubProgress))
    assert state is not None
    assert (state.active, state.cancelled, state.passes, state.blobs) == (False, True, 0, SMALL.scrub_blobs)


async def test_the_steward_follows_operations_by_itself(world: World) -> None:
    """Red when the unit is not among the worker's."""
    await put_all(world)
    begun = await world.catalog.write(start_scrub)
    settings = replace(SMALL, idle_s=0.01, progress_s=0.01)
    services = replace(world.services(settings), monotonic=asyncio.get_running_loop().time)
    stop = asyncio.Event()
    steward = asyncio.create_task(run(services, stop))
    try:
        async with asyncio.timeout(20):
            while (await world.catalog.read(lambda reader: get(reader, begun.id))).state == "running":
                await asyncio.sleep(0.01)
    finally:
        stop.set()
        await steward
    done = await world.catalog.read(lambda reader: get(reader, begun.id))
    assert (done.state, done.done, done.total) == ("done", BLOBS, BLOBS)
    assert done.detail == "0 blocks missing, 0 bad, 0 to spare"
