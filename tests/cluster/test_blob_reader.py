"""The reader against real nodes, with blocks missing, rotten, misdirected, late, and nodes dead or frozen.

The fault budget (STYLE 23): with at most m bad shards a stripe the bytes are right; with more the reader
raises; it never gives wrong bytes (P3).
"""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import msgspec
import pytest
import pytest_asyncio
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.model import BlobRow
from cluster import wire
from cluster.blob_reader import BlobReader, BlobStream
from cluster.blob_writer import BlobIds, BlobWriter
from cluster.budget import ByteBudget
from cluster.errors import BlobUnreadable
from cluster.link import LinkSettings
from cluster.placement import is_standard
from cluster.receipt import Receipt
from cluster.stripe_read import CORRUPT, MISSING, Fault, ReaderSettings
from cluster.topology import NodeSet
from codec.block import PAGE_BYTES, BlockKey, verify
from codec.geometry import Geometry
from tests.cluster.conftest import connect, until
from tests.cluster.nodes import CLUSTER_ID, SECRET, RealNodes
from tests.cluster.proxy import Proxy
from tests.cluster.writing import body, linked_to, row

pytestmark = pytest.mark.usefixtures("silent_loop")

BUDGET = 64 << 20
# Never finds a node slow: a reader that goes round it goes round the fault that it shall meet, too.
CALM = LinkSettings(stall_s_min=5.0, probe_s=60.0)
PATIENT = ReaderSettings(hedge_s_min=5.0, hedge_s_max=5.0)  # no hedging: the test is about something else


class Rig:
    """Writes blobs, reads ranges of them, and notes what was reported."""

    def __init__(
        self, nodes: NodeSet, reader_settings: ReaderSettings | None = PATIENT, budget_bytes: int = BUDGET
    ) -> None:
        self.nodes = nodes
        self.faults: list[Fault] = []
        self.relocations = 0
        self.moved: BlobRow | None = None
        self.rows: dict[bytes, BlobRow] = {}
        self.budget = ByteBudget(budget_bytes)
        self.reader = BlobReader(nodes, self.budget, self._relocate, self.faults.append, reader_settings)

    async def _relocate(self, blob_id: bytes) -> BlobRow | None:
        self.relocations += 1
        return self.moved or self.rows.get(blob_id)

    async def write(self, content: bytes, geometry: Geometry) -> BlobRow:
        """In the standard layout: where a busy machine made the writer hedge, it is written once more."""
        writer = BlobWriter(self.nodes, geometry, ByteBudget(BUDGET), BlobIds())
        for _ in range(20):
            stripes = body(content, geometry.stripe_bytes)
            receipt = await writer.write(stripes, epoch=1, size_hint=len(content))
            if is_standard(receipt.nodes, geometry.width) and not receipt.runs:
                return self.know(receipt)
        pytest.fail("all nodes are there, and no blob lies on each of them")

    def know(self, receipt: Receipt) -> BlobRow:
        self.rows[receipt.blob_id] = row(receipt)
        return self.rows[receipt.blob_id]

    async def read(self, blob: BlobRow, start: int = 0, stop: int | None = None) -> bytes:
        stream = self.reader.open(blob, start, blob.size if stop is None else stop)
        try:
            return await drain(stream)
        finally:
            stream.close()
            assert self.budget.free_bytes == self.budget.total_bytes


async def drain(stream: BlobStream) -> bytes:
    parts: list[bytes] = []
    while (buffers := await stream.next()) is not None:
        parts.append(b"".join(buffers))
    return b"".join(parts)


class FaultPlan:
    """Proxies before all nodes that spoil READ_BLOCK of chosen (stripe, shard)."""

    def __init__(self) -> None:
        self.faults: dict[tuple[int, int], str] = {}
        self.other: BlobRow | None = None  # a blob of the same shape, to misdirect reads to
        self.asked: list[tuple[int, int, int, int]] = []  # stripe, shard, start, stop
        self._flip: set[tuple[Proxy, int]] = set()

    def clear(self) -> None:
        """No faults; request ids of connections to come mean nothing yet."""
        self.faults = {}
        self._flip.clear()

    def install(self, proxy: Proxy, node: int) -> None:
        def request(frame: wire.Frame) -> list[wire.Frame]:
            if frame.op != wire.Op.READ_BLOCK:
                return [frame]
            read = wire.decode_read_block(frame.header)
            self.asked.append((read.stripe, read.shard, read.start, read.stop))
            fault = self.faults.get((read.stripe, read.shard))
            if fault == "late":
                return []
            if fault == "corrupt":
                self._flip.add((proxy, frame.request_id))
            if fault == "missing":
                return [frame._replace(header=wire.encode(msgspec.structs.replace(read, blob=bytes(16))))]
            if fault == "misdirected":
                assert self.other is not None
                shard = self.other.nodes.index(node)  # the one that this node has
                forged = msgspec.structs.replace(read, blob=self.other.id, shard=shard)
                return [frame._replace(header=wire.encode(forged))]
            return [frame]

        def reply(frame: wire.Frame) -> list[wire.Frame]:
            if frame.op == wire.Op.READ_BLOCK and (proxy, frame.request_id) in self._flip:
                self._flip.discard((proxy, frame.request_id))
                payload = bytearray(frame.payload)
                payload[random.Random(frame.request_id).randrange(len(payload))] ^= 0x10
                return [frame._replace(payload=payload)]
            return [frame]

        proxy.requests = request
        proxy.replies = reply


@pytest_asyncio.fixture
async def spoiled(nodes: RealNodes) -> AsyncIterator[tuple[NodeSet, FaultPlan]]:
    """Links to `nodes` through proxies with a FaultPlan."""
    plan = FaultPlan()
    async with AsyncExitStack() as stack:
        infos = []
        for info in nodes.infos:
            proxy = await stack.enter_async_context(Proxy(info))
            plan.install(proxy, info.number)
            infos.append(proxy.info)
        linked = await stack.enter_async_context(linked_to(infos, CALM))
        assert await linked.wait_up(10) == 3
        yield linked, plan


# -- what is right -------------------------------------------------------------------------------------------


@given(
    shape=st.sampled_from([(2, 1), (1, 2), (1, 1)]),
    size=st.integers(1, 20_000),
    stripe_bytes=st.sampled_from([7, 4096, 1 << 20]),
    ranges=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=4),
)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_range_of_any_blob(
    linked: NodeSet,
    shape: tuple[int, int],
    size: int,
    stripe_bytes: int,
    ranges: list[tuple[float, float]],
) -> None:
    rig = Rig(linked)
    content = random.Random(size).randbytes(min(size, 300 * stripe_bytes))
    blob = await rig.write(content, Geometry(*shape, stripe_bytes))
    assert await rig.read(blob) == content
    for a, b in ranges:
        start, stop = sorted((int(a * len(content)), int(b * len(content))))
        assert await rig.read(blob, start, stop) == content[start:stop]
    assert rig.faults == []


async def test_a_small_range_asks_for_its_pages_of_its_data_shard_only(
    spoiled: tuple[NodeSet, FaultPlan],
) -> None:
    linked, plan = spoiled
    rig = Rig(linked)
    content = os.urandom(1 << 20)
    blob = await rig.write(content, Geometry(2, 1))
    at = (1 << 19) + 3 * PAGE_BYTES - 5
    assert await rig.read(blob, at, at + 10) == content[at : at + 10]
    assert plan.asked == [(0, 1, 3 * PAGE_BYTES - 5, 3 * PAGE_BYTES + 5)]


# -- P3: what is wrong ---------------------------------------------------------------------------------------

FAULTS = ["missing", "corrupt", "misdirected", "late"]


@given(
    shape=st.sampled_from([(2, 1), (1, 2), (1, 1)]),
    size=st.integers(1, 9_000),
    faults=st.dictionaries(st.tuples(st.integers(0, 2), st.integers(0, 2)), st.sampled_from(FAULTS)),
    cut=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_p3_bad_blocks_within_the_budget_cost_nothing_beyond_it_an_error_never_wrong_bytes(
    spoiled: tuple[NodeSet, FaultPlan],
    shape: tuple[int, int],
    size: int,
    faults: dict[tuple[int, int], str],
    cut: tuple[float, float],
) -> None:
    """Breaks caught: no comparison of the key in the record with the one asked for (misdirected bytes were
    served); no page checks, of whole blocks or of page ranges (flipped bits were served); no whole shards
    asked for after a miss.
    """
    linked, plan = spoiled
    # Links of its own for each example: replies withheld in the one before opened breakers, rightly.
    async with linked_to(linked.nodes, CALM) as fresh:
        assert await fresh.wait_up(20) == 3
        await check_faults(fresh, plan, shape, size, faults, cut)


async def check_faults(  # noqa: PLR0917 - the example's parts
    linked: NodeSet,
    plan: FaultPlan,
    shape: tuple[int, int],
    size: int,
    faults: dict[tuple[int, int], str],
    cut: tuple[float, float],
) -> None:
    """Play one example: write with all well, read with these faults."""
    plan.clear()
    hurried = "late" in faults.values()  # then a slow machine may make any reply late
    rig = Rig(
        linked, ReaderSettings(hedge_s_min=0.01, hedge_s_max=0.05, deadline_s=0.5) if hurried else PATIENT
    )
    geometry = Geometry(*shape, 4096)
    content = random.Random(size).randbytes(size)
    blob = await rig.write(content, geometry)
    plan.other = await rig.write(content[::-1], geometry)
    plan.faults = faults
    start, stop = sorted((int(cut[0] * size), int(cut[1] * size)))
    bad = {stripe: {shard for at, shard in faults if at == stripe} for stripe in range(3)}
    wanted = {
        piece.stripe: {span.shard for span in geometry.shard_spans(piece.length, piece.start, piece.stop)}
        for piece in geometry.stripe_slices(size, start, stop)
    }
    lost = [
        stripe
        for stripe, data in wanted.items()
        if data & bad[stripe] and len(bad[stripe] & set(range(sum(shape)))) > shape[1]
    ]
    if lost:
        with pytest.raises(BlobUnreadable) as caught:
            await rig.read(blob, start, stop)
        assert caught.value.stripe == lost[0]
    else:
        assert await rig.read(blob, start, stop) == content[start:stop]
        kinds = {"missing": MISSING, "corrupt": CORRUPT, "misdirected": CORRUPT}
        right = {
            Fault(blob.id, stripe, shard, blob.nodes[shard], kinds[faults[stripe, shard]])
            for stripe, data in wanted.items()
            for shard in bad[stripe] & set(range(sum(shape)))
            if faults[stripe, shard] in kinds
        }
        assert set(rig.faults) <= right
        assert hurried or {fault for fault in right if fault.shard in wanted[fault.stripe]} <= set(rig.faults)
    plan.faults = {}


async def test_s6_a_reply_with_another_block_is_treated_as_corrupt(
    spoiled: tuple[NodeSet, FaultPlan],
) -> None:
    """A whole, valid record, only of another blob. Break caught: no comparison of keys in `block.verify`."""
    linked, plan = spoiled
    rig = Rig(linked)
    content = os.urandom(200_000)
    blob = await rig.write(content, Geometry(2, 1))
    plan.other = await rig.write(os.urandom(200_000), Geometry(2, 1))
    plan.faults = {(0, 1): "misdirected"}
    assert await rig.read(blob) == content
    assert rig.faults == [Fault(blob.id, 0, 1, blob.nodes[1], CORRUPT)]
    rig.faults.clear()
    assert await rig.read(blob, 150_000, 150_010) == content[150_000:150_010]
    assert rig.faults == [Fault(blob.id, 0, 1, blob.nodes[1], CORRUPT)]


async def test_p3_a_block_of_another_geometry_is_corrupt(linked: NodeSet) -> None:
    """The catalog says 1+2, the blocks say 2+1. Break caught: without `matches` half of the blob was served."""
    rig = Rig(linked)
    blob = await rig.write(os.urandom(4096), Geometry(2, 1))
    lie = BlobRow(blob.id, 2048, 1, 2, blob.stripe_bytes, 1, 0, blob.nodes)
    with pytest.raises(BlobUnreadable):
        await rig.read(lie)
    assert {fault.kind for fault in rig.faults} == {CORRUPT}


async def test_p3_bit_rot_on_the_disk_is_found_rebuilt_and_reported(own_nodes: RealNodes) -> None:
    async with connect(own_nodes) as linked:
        assert await linked.wait_up(10) == 3
        rig = Rig(linked)
        content = os.urandom(300_000)
        blob = await rig.write(content, Geometry(2, 1))
        own_nodes[blob.nodes[0]].damage(content[70_000:70_016])  # in the second page of shard 0
        assert await rig.read(blob, 0, 1000) == content[:1000]
        assert rig.faults == [], "the first page is sound"
        assert await rig.read(blob) == content
        assert rig.faults == [Fault(blob.id, 0, 0, blob.nodes[0], CORRUPT)]
        own_nodes[blob.nodes[1]].damage(content[200_000:200_016])
        with pytest.raises(BlobUnreadable):
            await rig.read(blob)


# -- S21 -----------------------------------------------------------------------------------------------------


async def test_s21_a_reader_that_misses_a_block_looks_up_the_layout_again(
    spoiled: tuple[NodeSet, FaultPlan],
) -> None:
    """The blob moved after the reader got its row. Break caught: reporting before `_look_again` queued the
    repair of three sound blocks."""
    linked, plan = spoiled
    rig = Rig(linked)
    content = os.urandom(4096)
    blob = await rig.write(content, Geometry(2, 1))
    a, b, c = blob.nodes
    stale = BlobRow(blob.id, blob.size, 2, 1, blob.stripe_bytes, 1, 0, (b, c, a))
    rig.moved = blob
    assert await rig.read(stale) == content
    assert rig.relocations == 1
    assert rig.faults == []
    assert all(shard in (0, 1) for _, shard, _, _ in plan.asked), "no parity was needed"


async def test_s21_a_block_that_is_missing_from_the_fresh_layout_too_is_reported(
    spoiled: tuple[NodeSet, FaultPlan],
) -> None:
    linked, plan = spoiled
    rig = Rig(linked)
    content = os.urandom(4096)
    blob = await rig.write(content, Geometry(2, 1))
    plan.faults = {(0, 0): "missing"}
    assert await rig.read(blob) == content
    assert rig.relocations == 1
    assert rig.faults == [Fault(blob.id, 0, 0, blob.nodes[0], MISSING)]


async def test_s21_the_blocks_of_a_deleted_blob_are_not_reported(spoiled: tuple[NodeSet, FaultPlan]) -> None:
    linked, plan = spoiled
    rig = Rig(linked)
    blob = await rig.write(os.urandom(4096), Geometry(2, 1))
    rig.rows.clear()
    plan.faults = {(0, 0): "missing", (0, 1): "missing"}
    with pytest.raises(BlobUnreadable):
        await rig.read(blob)
    assert rig.faults == []


# -- nodes that are gone or frozen ---------------------------------------------------------------------------


async def test_get_goes_on_without_a_killed_node(own_nodes: RealNodes) -> None:
    async with connect(own_nodes) as linked:
        assert await linked.wait_up(10) == 3
        rig = Rig(linked)
        content = os.urandom(40_000)
        blobs = [await rig.write(content, Geometry(2, 1, 4096)) for _ in range(3)]
        own_nodes[2].kill()
        for blob in blobs:
            assert await rig.read(blob) == content
            assert await rig.read(blob, 5, 4095) == content[5:4095]
        assert rig.faults == [], "a node that is down says nothing about its blocks"
        assert rig.relocations == 0
        own_nodes[3].kill()
        with pytest.raises(BlobUnreadable):
            await rig.read(blobs[0])


async def test_get_goes_on_without_a_frozen_node_at_the_price_of_a_hedge(own_nodes: RealNodes) -> None:
    """Breaks caught: without late_s the first read waited until the silent link was cut; without the look
    at stalled links each of the 200 reads paid the hedge delay."""
    async with connect(own_nodes) as linked:
        assert await linked.wait_up(10) == 3
        rig = Rig(linked, ReaderSettings(hedge_s_min=0.05, hedge_s_max=0.5))
        content = os.urandom(4096)
        blobs = [await rig.write(content, Geometry(2, 1)) for _ in range(200)]
        for blob in blobs:
            assert await rig.read(blob) == content
        own_nodes[1].freeze()
        started = time.monotonic()
        assert await rig.read(next(blob for blob in blobs if blob.nodes[0] == 1)) == content
        first_s = time.monotonic() - started
        assert 0.04 < first_s < 0.9
        link = linked.link(1)
        assert link is not None
        await until(link.is_stalled, "the link knows")
        started = time.monotonic()
        for blob in blobs:
            assert await rig.read(blob) == content
        assert time.monotonic() - started < 1.0, "a stalled node is skipped, not hedged anew each time"
        own_nodes[1].thaw()
        await until(lambda: link.up and not link.is_stalled(), "the node is trusted again")
        assert await rig.read(blobs[0]) == content
        assert rig.faults == []


async def test_a_late_reply_is_taken_when_there_is_nothing_better(nodes: RealNodes) -> None:
    """Two of three nodes hang for a while: the reader waits for the replies it has, and does not give up."""
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(Proxy(info)) for info in nodes.infos]
        infos = [proxy.info for proxy in proxies]
        linked = NodeSet.connecting(infos, secret=SECRET, cluster_id=CLUSTER_ID, role=wire.Role.FRONT)
        await stack.enter_async_context(linked)
        assert await linked.wait_up(10) == 3
        rig = Rig(linked, ReaderSettings(hedge_s_min=0.01, hedge_s_max=0.01))
        content = os.urandom(4096)
        blob = await rig.write(content, Geometry(2, 1))
        for number in blob.nodes[:2]:
            proxies[number - 1].replies_flow.clear()
        reading = asyncio.ensure_future(rig.read(blob))
        link = linked.link(blob.nodes[0])
        assert link is not None
        await until(link.is_stalled, "both are late")
        assert not reading.done()
        proxies[blob.nodes[0] - 1].replies_flow.set()
        assert await reading == content
        assert rig.faults == []


async def test_no_nodes_at_all(nodes: RealNodes) -> None:
    async with connect(nodes) as linked:
        await linked.wait_up(10)
        rig = Rig(linked)
        blob = await rig.write(b"there", Geometry(2, 1))
    with pytest.raises(BlobUnreadable):
        await rig.read(blob)


# -- S9 slot -------------------------------------------------------------------------------------------------


async def test_s9_a_degraded_run_may_hold_a_shard_twice(own_nodes: RealNodes) -> None:
    """Both data shards on both of two nodes; the loss of either is survived. Node 0 stands for nobody."""
    async with connect(own_nodes) as linked:
        assert await linked.wait_up(10) == 3
        rig = Rig(linked)
        content = os.urandom(4096)
        writer = BlobWriter(linked, Geometry(2, 1), ByteBudget(BUDGET), BlobIds())
        receipt = await writer.write_one(content, epoch=1)
        by_shard = dict(enumerate(receipt.nodes))
        for shard in (0, 1):
            await copy_block(linked, receipt.blob_id, shard, by_shard[shard], by_shard[1 - shard])
        a, b = by_shard[0], by_shard[1]
        blob = BlobRow(receipt.blob_id, 4096, 2, 1, 1 << 20, 1, 0, (a, b, 0, b, a, 0))
        own_nodes[by_shard[2]].kill()
        assert await rig.read(blob) == content
        own_nodes[a].kill()
        assert await rig.read(blob) == content
        assert await rig.read(blob, 7, 9) == content[7:9]


async def copy_block(linked: NodeSet, blob_id: bytes, shard: int, source: int, target: int) -> None:
    ask = wire.encode(wire.ReadBlock(blob_id, 0, shard, 0, 0))
    source_link, target_link = linked.link(source), linked.link(target)
    assert source_link is not None
    assert target_link is not None
    block = verify((await source_link.call(17, ask, None, 5)).payload, BlockKey(blob_id, 0, shard))
    header = block.header
    put = wire.PutBlock(blob_id, 0, shard, 2, 1, 1, header.stripe_length, header.pages, True)
    await target_link.call(16, wire.encode(put), block.payload, 5)


# -- budget, window, cancellation ----------------------------------------------------------------------------


async def test_p8_read_ahead_is_bounded_by_window_and_budget(linked: NodeSet) -> None:
    """Break caught: a `_release` forgotten in `next` stopped the stream when its budget was used up."""
    stripe = 4096
    for budget_stripes, held_max in ((100, 4), (2, 2), (1, 1)):
        rig = Rig(linked, ReaderSettings(window_stripes=3), budget_bytes=budget_stripes * stripe)
        content = os.urandom(20 * stripe)
        blob = await rig.write(content, Geometry(2, 1, stripe))
        stream = rig.reader.open(blob, 0, blob.size)
        held = []
        read = b""
        while (buffers := await stream.next()) is not None:
            read += b"".join(buffers)
            held.append((rig.budget.total_bytes - rig.budget.free_bytes) // stripe)
        assert read == content
        assert max(held) == held_max
        stream.close()
        stream.close()
        assert rig.budget.free_bytes == rig.budget.total_bytes


async def test_p8_many_readers_share_a_budget_of_one_stripe_without_deadlock(linked: NodeSet) -> None:
    rig = Rig(linked, budget_bytes=4096)
    content = os.urandom(5 * 4096)
    blob = await rig.write(content, Geometry(2, 1, 4096))

    async def one() -> bytes:
        stream = rig.reader.open(blob, 0, blob.size)
        try:
            return await drain(stream)
        finally:
            stream.close()

    async with asyncio.timeout(20):
        assert await asyncio.gather(*(one() for _ in range(8))) == [content] * 8
    assert rig.budget.free_bytes == rig.budget.total_bytes


async def test_a_cancelled_reader_gives_everything_back(nodes: RealNodes) -> None:
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(Proxy(nodes[1].info))
        infos = [proxy.info, nodes[2].info, nodes[3].info]
        linked = NodeSet.connecting(infos, secret=SECRET, cluster_id=CLUSTER_ID, role=wire.Role.FRONT)
        await stack.enter_async_context(linked)
        assert await linked.wait_up(10) == 3
        rig = Rig(linked)
        while (blob := await rig.write(os.urandom(40_000), Geometry(2, 1, 4096))).nodes[0] != 1:
            pass
        proxy.replies_flow.clear()
        reading = asyncio.ensure_future(rig.read(blob))
        await until(lambda: rig.budget.free_bytes < rig.budget.total_bytes, "it reads")
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        proxy.replies_flow.set()


def test_it_runs_on_uvloop(nodes: RealNodes) -> None:
    async def play() -> None:
        async with connect(nodes) as linked:
            assert await linked.wait_up(10) == 3
            rig = Rig(linked)
            content = os.urandom((3 << 20) + 77)
            blob = await rig.write(content, Geometry(2, 1))
            assert await rig.read(blob) == content
            assert await rig.read(blob, 99, 1 << 20) == content[99 : 1 << 20]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(play())
