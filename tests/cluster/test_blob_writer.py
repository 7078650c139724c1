"""The writer against real nodes: nothing is receipted that a node could still lose (P1, S1, S10)."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from cluster import wire
from cluster.blob_writer import BlobIds, WriterSettings
from cluster.topology import NodeSet
from tests.cluster.conftest import connect, until
from tests.cluster.nodes import CLUSTER_ID, SECRET, RealNodes
from tests.cluster.proxy import Proxy
from tests.cluster.volatile_node import VolatileNodes
from tests.cluster.writing import STRIPE, Rig, body, check_survives

pytestmark = pytest.mark.usefixtures("silent_loop")


@pytest.mark.parametrize("size", [0, 1, 2, 3, STRIPE - 1, STRIPE, STRIPE + 1, 3 * STRIPE, 9 * STRIPE + 17])
async def test_what_is_receipted_can_be_read_back(linked: NodeSet, size: int) -> None:
    rig = Rig(linked)
    content = os.urandom(size - 1) + b"\0" if size else b""
    for hint in (size, -1):
        receipt = await rig.writer.write(body(content), epoch=3, size_hint=hint)
        assert (receipt.size, receipt.stripes) == (size, -(-size // STRIPE))
        assert receipt.blob_id[:4] == b"\0\0\0\3"
        assert await rig.stored(receipt) == content
    if size <= STRIPE:
        receipt = await rig.writer.write_one(content, epoch=3)
        assert await rig.stored(receipt) == content
    rig.check_whole()
    assert rig.abandoned == []


async def test_large_stripes_fill_the_window(linked: NodeSet) -> None:
    rig = Rig(linked, stripe_bytes=1 << 20)
    content = os.urandom((7 << 20) + 5)
    receipt = await rig.writer.write(body(content, 1 << 20), epoch=1, size_hint=len(content))
    assert await rig.stored(receipt) == content
    rig.check_whole()


async def test_an_empty_blob_costs_no_io(nodes: RealNodes) -> None:
    rig = Rig(connect(nodes))  # not even connected
    receipt = await rig.writer.write_one(b"", epoch=1)
    assert (receipt.size, receipt.stripes, receipt.nodes) == (0, 0, ())


# -- S1 ------------------------------------------------------------------------------------------------------


class SyncWatch:
    """Proxies before all nodes that note what each node acknowledged and what it made durable."""

    def __init__(self) -> None:
        self.appended: dict[int, list[int]] = {1: [], 2: [], 3: []}
        self.synced: dict[int, int] = {1: 0, 2: 0, 3: 0}
        self.unsynced_max = 0
        self.unsynced: dict[int, int] = {1: 0, 2: 0, 3: 0}
        self.put_with_sync: set[tuple[int, int]] = set()

    def watch(self, number: int, proxy: Proxy, shard_bytes: int) -> None:
        def request(frame: wire.Frame) -> list[wire.Frame]:
            if frame.op == wire.Op.PUT_BLOCK and wire.decode_put_block(frame.header).sync:
                self.put_with_sync.add((number, frame.request_id))
            return [frame]

        def reply(frame: wire.Frame) -> list[wire.Frame]:
            if frame.op == wire.Op.PUT_BLOCK:
                position = wire.decode_appended(frame.header).position
                self.appended[number].append(position)
                self.unsynced[number] += shard_bytes
                self.unsynced_max = max(self.unsynced_max, self.unsynced[number])
                if (number, frame.request_id) in self.put_with_sync:
                    self._covered(number, position)
            elif frame.op == wire.Op.SYNC:
                self._covered(number, wire.decode_synced(frame.header).position)
            return [frame]

        proxy.requests = request
        proxy.replies = reply

    def _covered(self, number: int, position: int) -> None:
        self.synced[number] = max(self.synced[number], position)
        self.unsynced[number] = 0


@pytest.mark.parametrize(
    ("size", "how"),
    [
        (STRIPE, "one"),
        (STRIPE, "hint"),
        (STRIPE, "no hint"),
        (STRIPE + 1, "hint"),
        (STRIPE + 1, "short hint"),
        (40 * STRIPE + 1, "no hint"),
    ],
)
async def test_s1_every_position_is_covered_by_a_sync_before_the_receipt(
    nodes: RealNodes, size: int, how: str
) -> None:
    """Breaks caught: no `_sync_all`; a final sync for the node of shard 0 only; no sync in between;
    `write_one` sending `sync=False`."""
    watch = SyncWatch()
    settings = WriterSettings(window_stripes=2, sync_bytes=5 * STRIPE)
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(Proxy(info)) for info in nodes.infos]
        linked = NodeSet.connecting(
            [proxy.info for proxy in proxies],
            secret=SECRET,
            cluster_id=CLUSTER_ID,
            role=wire.Role.FRONT,
        )
        await stack.enter_async_context(linked)
        assert await linked.wait_up(10) == 3
        for number, proxy in enumerate(proxies, start=1):
            watch.watch(number, proxy, STRIPE // 2)
        rig = Rig(linked, settings=settings)
        rig.be_patient()
        if how == "one":
            await rig.writer.write_one(os.urandom(size), epoch=1)
        else:
            hint = {"hint": size, "no hint": -1}.get(how, STRIPE)
            await rig.writer.write(body(os.urandom(size)), epoch=1, size_hint=hint)
        for number in (1, 2, 3):
            assert len(watch.appended[number]) == -(-size // STRIPE)
            assert watch.synced[number] >= max(watch.appended[number])
        assert watch.unsynced_max <= 8 * STRIPE, "syncs are too far apart"


async def test_s1_sync_distance_stays_below_32_mib() -> None:
    with pytest.raises(ValueError, match="16 MiB"):
        WriterSettings(sync_bytes=(16 << 20) + 1)
    assert WriterSettings().sync_bytes + WriterSettings().window_stripes * (1 << 20) < 32 << 20


async def restart(running: RealNodes, number: int, linked: NodeSet) -> None:
    """The node loses its process (and with it, on a power cut, what it had not synced) and comes back."""
    link = linked.link(number)
    assert link is not None
    before = link.incarnation
    running[number].kill()
    running[number].start()
    await until(lambda: link.up and link.incarnation != before, "the link is back")


async def interrupted(
    content: bytes, after: int, interruption: Callable[[], Awaitable[None]]
) -> AsyncIterator[bytes]:
    """A body during which something happens, after so many stripes."""
    sent = 0
    async for stripe in body(content):
        if sent == after:
            await interruption()
        sent += 1
        yield stripe
    if sent == after:
        await interruption()


@pytest.mark.parametrize("after", [1, 4])
async def test_s1_a_node_that_restarts_in_mid_upload_is_not_believed_for_what_it_had_not_synced(
    tmp_path: Path, after: int
) -> None:
    """All appends are acknowledged when the power fails, and the link is up again when the next one is sent:
    only the incarnation tells. after=4 is the end: only the refused SYNC tells.

    Red when the ledger takes a new incarnation without dropping what the old one had not synced, and when
    a refused SYNC counts as one."""
    with VolatileNodes(tmp_path) as running:
        async with connect(running) as linked:
            assert await linked.wait_up(10) == 3
            rig = Rig(linked, settings=WriterSettings(window_stripes=1))
            content = os.urandom(4 * STRIPE)
            receipt = await rig.writer.write(
                interrupted(content, after, lambda: restart(running, 2, linked)),
                epoch=1,
                size_hint=len(content),
            )
            assert await rig.stored(receipt) == content
            rig.check_whole()
        running.power_cycle()
        await check_survives(running, receipt, content)


# -- bounds --------------------------------------------------------------------------------------------------


async def stuck(nodes: RealNodes, stack: AsyncExitStack) -> tuple[Proxy, NodeSet]:
    """Node 2 takes everything and answers nothing."""
    proxy = await stack.enter_async_context(Proxy(nodes[2].info))
    infos = [nodes[1].info, proxy.info, nodes[3].info]
    linked = NodeSet.connecting(infos, secret=SECRET, cluster_id=CLUSTER_ID, role=wire.Role.FRONT)
    await stack.enter_async_context(linked)
    assert await linked.wait_up(10) == 3
    proxy.replies_flow.clear()
    return proxy, linked


async def test_s10_the_window_bounds_what_is_read_from_the_body(nodes: RealNodes) -> None:
    """Break caught: `> window_stripes` for `>=`, and no settling at all, read five, and all, stripes ahead."""
    async with AsyncExitStack() as stack:
        proxy, linked = await stuck(nodes, stack)
        rig = Rig(linked, settings=WriterSettings(window_stripes=3))
        given = 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal given
            async for stripe in body(os.urandom(50 * STRIPE)):
                given += 1
                yield stripe

        write = asyncio.ensure_future(rig.writer.write(counted(), epoch=1))
        await until(lambda: given >= 3, "the window fills")
        for _ in range(20):
            await asyncio.sleep(0)
        assert given == 3
        assert rig.budget.total_bytes - rig.budget.free_bytes == 3 * STRIPE
        proxy.replies_flow.set()
        assert (await write).stripes == 50
        rig.check_whole()


async def test_s11_a_cancelled_write_tells_what_it_leaves_and_leaks_nothing(nodes: RealNodes) -> None:
    """Break caught: releasing the budget in the except branch only, and `_abandon` only in write_one."""
    async with AsyncExitStack() as stack:
        proxy, linked = await stuck(nodes, stack)
        rig = Rig(linked)
        large = asyncio.ensure_future(rig.writer.write(body(os.urandom(50 * STRIPE)), epoch=1))
        small = asyncio.ensure_future(rig.writer.write_one(b"small", epoch=1))
        link = linked.link(2)
        assert link is not None
        await until(lambda: link.outstanding_bytes > 2 * STRIPE, "both are in flight")
        for task in (large, small):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        rig.check_whole()
        assert sorted(receipt.stripes for receipt in rig.abandoned) == [1, 4]
        assert all(set(receipt.nodes) == {1, 2, 3} for receipt in rig.abandoned)
        proxy.replies_flow.set()
        await until(lambda: link.outstanding_bytes == 0, "late replies are taken in")


async def test_s11_a_body_that_breaks_off_leaves_garbage_and_its_own_error(linked: NodeSet) -> None:
    rig = Rig(linked)

    async def broken() -> AsyncIterator[bytes]:
        yield bytes(STRIPE)
        yield bytes(STRIPE)
        raise ConnectionResetError("the client has gone")

    with pytest.raises(ConnectionResetError):
        await rig.writer.write(broken(), epoch=1)
    rig.check_whole()
    assert [receipt.stripes for receipt in rig.abandoned] == [2]

    async def broken_at_once() -> AsyncIterator[bytes]:
        async for stripe in broken():
            if stripe:
                raise ConnectionResetError("the client has gone")
            yield stripe

    with pytest.raises(ConnectionResetError):
        await rig.writer.write(broken_at_once(), epoch=1)
    assert len(rig.abandoned) == 1, "nothing was sent"
    rig.check_whole()


async def test_s10_the_budget_is_taken_before_the_body_is_read(linked: NodeSet) -> None:
    """Break caught: `_take` behind `anext` let every waiting upload hold a stripe outside the budget."""
    rig = Rig(linked, budget_bytes=2 * STRIPE)
    await rig.budget.acquire(2 * STRIPE)
    asked = False

    async def watched() -> AsyncIterator[bytes]:
        nonlocal asked
        asked = True
        yield bytes(STRIPE)

    write = asyncio.ensure_future(rig.writer.write(watched(), epoch=1))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not asked
    rig.budget.release(2 * STRIPE)
    assert (await write).stripes == 1
    rig.check_whole()


async def test_s10_many_uploads_share_a_budget_of_one_stripe_without_deadlock(linked: NodeSet) -> None:
    """Break caught: waiting in `acquire` with stripes in flight left eight uploads waiting for each other."""
    rig = Rig(linked, budget_bytes=STRIPE + 10)
    contents = [os.urandom(5 * STRIPE + i) for i in range(8)]
    async with asyncio.timeout(20):
        receipts = await asyncio.gather(*(rig.writer.write(body(content), epoch=1) for content in contents))
    for receipt, content in zip(receipts, contents, strict=True):
        assert await rig.stored(receipt) == content
    rig.check_whole()


async def test_a_short_body_takes_only_its_size_of_the_budget(linked: NodeSet) -> None:
    rig = Rig(linked, stripe_bytes=1 << 20, budget_bytes=1 << 20)
    seen: list[int] = []

    async def watched() -> AsyncIterator[bytes]:
        seen.append(rig.budget.total_bytes - rig.budget.free_bytes)
        yield bytes(100)

    await rig.writer.write(watched(), epoch=1, size_hint=100)
    assert seen == [100]
    rig.check_whole()


def test_blob_ids_are_ordered_by_epoch_and_time_and_never_repeat() -> None:
    ids = BlobIds()
    made = [ids.new(7) for _ in range(1000)] + [ids.new(8) for _ in range(1000)]
    assert made == sorted(made)
    assert len(set(made)) == 2000
    assert {len(blob_id) for blob_id in made} == {16}
    again = BlobIds()
    assert again.new(7)[:8] == made[0][:8], "a new process counts from the start"
    assert again.new(7)[8:] != made[1][8:], "and still makes new ids"
