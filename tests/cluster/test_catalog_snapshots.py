"""S17: snapshots of the catalog on the nodes: when they are due, what becomes of the log before them."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from catalog import progress as rows
from catalog.errors import CatalogBusy
from catalog.log_records import LogRecord
from cluster import wire
from cluster.catalog_log import CatalogLog
from cluster.log_names import BATCH, SNAPSHOT, LogEntryName
from cluster.steward import progress
from cluster.steward.catalog_snapshots import DUE_ROW, CatalogSnapshots
from cluster.steward.progress import CatalogSnapshot
from cluster.steward.services import StewardSettings
from cluster.steward.tenure import Tenure
from cluster.steward.worker import run
from tests.cluster.conftest import until
from tests.cluster.nodes import RealNodes
from tests.cluster.steward_world import World, new_world

pytestmark = pytest.mark.usefixtures("silent_loop")

CHUNK = b"c" * 1000


class Ward:
    """A catalog whose batches and snapshots the test makes up, on real nodes."""

    def __init__(self, world: World, tenure: Tenure) -> None:
        self.world = world
        self.tenure = tenure
        self.batch = 0
        self.snapshots: list[int] = []  # the batch that each was made at
        self.chunks = 2
        self.fails_at: int | None = None

        async def read_term() -> int:
            return tenure.term

        self.sink = CatalogLog(world.nodes, 2, read_term=read_term)
        self.unit = self.new_unit()

    def new_unit(self) -> CatalogSnapshots:
        return CatalogSnapshots(
            *(self.world.services(), self.sink, Path("unused"), self._make),
            grown_bytes_min=20_000,
            look_s=100.0,
            short_s=30.0,
        )

    def _make(self, _: Path) -> tuple[int, int, Iterator[bytes]]:
        self.batch += 1  # the write that notes the attempt
        self.snapshots.append(self.batch)
        return self.batch, self.tenure.term, self._chunks()

    def _chunks(self) -> Iterator[bytes]:
        for number in range(self.chunks):
            if number == self.fails_at:
                raise CatalogBusy("the disk is slow")
            yield CHUNK

    async def commit(self, count: int, size: int = 100) -> None:
        for _ in range(count):
            self.batch += 1
            await self.sink.append(
                self.tenure.catalog_id, [LogRecord(self.tenure.term, self.batch, bytes(size))]
            )

    async def step(self, seconds: float = 2.0) -> None:
        self.world.pass_time(seconds)
        await self.unit.step(self.tenure)

    async def state(self) -> CatalogSnapshot | None:
        return await self.world.catalog.read(lambda reader: progress.read(reader, CatalogSnapshot))

    async def names(self, number: int) -> list[LogEntryName]:
        link = self.world.nodes.link(number)
        assert link is not None
        ask = wire.encode(wire.LogStatusRequest(b"", wire.LOG_STATUS_MAX))
        reply = await link.call(int(wire.Op.LOG_STATUS), ask, None, 5.0)
        return [LogEntryName(*fields[:4]) for fields in wire.decode_log_status(reply.header).names]

    def snapshot_names(self) -> list[LogEntryName]:
        return [LogEntryName(SNAPSHOT, self.tenure.term, self.snapshots[-1], n) for n in range(self.chunks)]

    def batch_names(self, batches: range) -> list[LogEntryName]:
        return [LogEntryName(BATCH, self.tenure.term, batch, 0) for batch in batches]


@pytest_asyncio.fixture
async def ward(tmp_path: Path, own_nodes: RealNodes) -> AsyncIterator[Ward]:
    async with new_world(tmp_path / "catalog.sqlite", own_nodes) as world:
        yield Ward(world, await world.tenure())


async def test_the_first_one_is_made_at_once_and_what_is_older_is_trimmed(ward: Ward) -> None:
    await ward.commit(5)
    await ward.step()
    assert ward.snapshots == [6]
    assert await ward.names(1) == await ward.names(2) == ward.snapshot_names()
    state = await ward.state()
    assert state is not None
    assert (state.term, state.batch, state.chunks, state.nbytes) == (ward.tenure.term, 6, 2, 2000)
    await ward.commit(3)
    for _ in range(3):
        await ward.step()
    assert ward.snapshots == [6]
    assert await ward.names(1) == ward.snapshot_names() + ward.batch_names(range(7, 10))


async def test_another_one_is_due_when_the_log_has_grown(ward: Ward) -> None:
    await ward.step()
    await ward.commit(10, 1900)
    await ward.step()
    assert len(ward.snapshots) == 1
    await ward.commit(2, 1900)
    await ward.step()
    assert len(ward.snapshots) == 2
    assert await ward.names(1) == ward.snapshot_names()


async def test_another_one_is_due_when_the_catalog_says_that_the_log_has_a_gap(ward: Ward) -> None:
    """Red when nobody looks for its row."""
    await ward.step()
    gap = msgspec.msgpack.encode(ward.batch + 3)
    await ward.world.catalog.write(lambda tx: rows.write(tx, DUE_ROW, gap))
    await ward.commit(3)
    for _ in range(3):
        await ward.step()
    assert len(ward.snapshots) == 2


async def test_nothing_is_trimmed_before_the_new_snapshot_is_complete(ward: Ward) -> None:
    """Red when the log is trimmed, or the snapshot noted, before its last chunk is stored."""
    await ward.step()
    first = ward.snapshot_names()
    await ward.commit(15, 1900)
    ward.fails_at = 1
    with pytest.raises(CatalogBusy):
        await ward.step()
    kept = first + ward.batch_names(range(ward.snapshots[0] + 1, ward.snapshots[0] + 16))
    assert set(kept) <= set(await ward.names(1))
    assert set(kept) <= set(await ward.names(2))
    state = await ward.state()
    assert state is not None
    assert state.batch == ward.snapshots[0]
    assert state.attempts == 2  # so that the next one has another name
    ward.fails_at = None
    await ward.step()
    assert await ward.names(1) == ward.snapshot_names()


async def test_a_node_that_was_away_is_trimmed_when_it_is_back(own_nodes: RealNodes, ward: Ward) -> None:
    """Red when trimming follows a new snapshot only."""
    await ward.step()
    await ward.commit(3)
    own_nodes[1].kill()
    lost = ward.world.nodes.link(1)
    assert lost is not None
    await until(lambda: not lost.up, "node 1 is lost")
    await ward.commit(12, 1900)
    await ward.step()
    assert len(ward.snapshots) == 2
    own_nodes[1].start()
    await until(lambda: lost.up, "node 1 is back")
    await ward.step()
    assert await ward.names(1) == []
    assert await ward.names(2) == ward.snapshot_names()


async def test_a_log_that_lies_on_one_node_only_is_replaced_by_a_snapshot_on_two(
    own_nodes: RealNodes, ward: Ward
) -> None:
    """A holder is gone for good: not at once, for it may only be restarted.

    Red when redundancy is not counted.
    """
    await ward.commit(3)
    await ward.step()
    await ward.commit(3)
    await ward.step()
    own_nodes[2].kill()
    lost = ward.world.nodes.link(2)
    assert lost is not None
    await until(lambda: not lost.up, "node 2 is lost")
    await ward.step()
    await ward.step(20)
    assert len(ward.snapshots) == 1
    await ward.step(20)
    assert len(ward.snapshots) == 2
    assert await ward.names(1) == await ward.names(3) == ward.snapshot_names()
    for _ in range(4):
        await ward.step(40)
    assert len(ward.snapshots) == 2


async def test_numbers_that_were_stepped_over_are_not_missed(ward: Ward) -> None:
    """But what is missing is. Red when a number without a batch counts as lost: with two processes that write, another
    snapshot was made each minute."""
    await ward.step()
    for _ in range(4):
        ward.batch += 1
        await ward.commit(1)
    for _ in range(4):
        await ward.step(120)
    assert len(ward.snapshots) == 1
    ward.batch += 2
    await ward.commit(1)
    for _ in range(4):
        await ward.step(120)
    assert len(ward.snapshots) == 2


async def test_a_holder_that_comes_back_in_time_costs_nothing(own_nodes: RealNodes, ward: Ward) -> None:
    """Red when a shortage is acted on at once."""
    await ward.step()
    await ward.commit(3)
    await ward.step()
    own_nodes[2].kill()
    lost = ward.world.nodes.link(2)
    assert lost is not None
    await until(lambda: not lost.up, "node 2 is lost")
    await ward.commit(3)
    await ward.step()
    own_nodes[2].start()
    await until(lambda: lost.up, "node 2 is back")
    for _ in range(4):
        await ward.step(20)
    assert len(ward.snapshots) == 1


async def test_a_damaged_log_is_replaced(own_nodes: RealNodes, ward: Ward) -> None:
    """Red when what the nodes tell of damage is not heard."""
    await ward.step()
    needle = b"a batch that will rot" * 5
    ward.batch += 1
    await ward.sink.append(ward.tenure.catalog_id, [LogRecord(ward.tenure.term, ward.batch, needle)])
    await ward.commit(1)
    link = ward.world.nodes.link(2)
    assert link is not None
    own_nodes[2].kill()
    await until(lambda: not link.up, "node 2 is lost")
    own_nodes[2].damage(needle)
    (own_nodes[2].directory / "index" / "data.mdb").unlink()
    own_nodes[2].start()
    await until(lambda: link.up, "node 2 is back")
    await ward.step()
    await ward.step(40)
    assert len(ward.snapshots) == 2
    await ward.step(40)
    await ward.step(40)
    assert len(ward.snapshots) == 2


async def test_a_steward_in_office_looks_after_the_log(ward: Ward) -> None:
    """Red when the unit is not among the loops of a tenure."""
    settings = StewardSettings(catalog_log_s=0.01)
    services = dataclasses.replace(
        ward.world.services(settings),
        catalog_log=ward.sink,
        make_snapshot=ward._make,
        monotonic=time.monotonic,
    )
    await ward.tenure.end()
    stop = asyncio.Event()
    steward = asyncio.create_task(run(services, stop))
    await until(lambda: bool(ward.snapshots), "a snapshot is made")
    stop.set()
    await steward
    assert CatalogSnapshots.wanted(ward.world.services()) is None
