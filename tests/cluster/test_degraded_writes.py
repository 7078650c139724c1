"""Writes while nodes are down, frozen, full or late: nothing fails, and what is receipted survives (P2, S9, S10)."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster import wire
from cluster.blob_writer import WriterSettings
from cluster.errors import NotEnoughNodes, WriteFailed
from cluster.link import LinkSettings
from cluster.placement import is_standard
from cluster.receipt import Receipt
from cluster.stripe_write import HedgeAllowance
from tests.cluster.conftest import connect, until
from tests.cluster.nodes import RealNodes
from tests.cluster.writing import (
    STRIPE,
    Proxied,
    Rig,
    body,
    check_survives,
    inventory,
    linked_to,
    named,
    read_back,
)

pytestmark = pytest.mark.usefixtures("silent_loop")


async def write(rig: Rig, content: bytes, how: str) -> Receipt:
    if how == "one":
        return await rig.writer.write_one(content, epoch=1)
    return await rig.writer.write(body(content), epoch=1, size_hint=len(content))


def content_for(how: str) -> bytes:
    return os.urandom(STRIPE if how == "one" else 9 * STRIPE + 5)


def impatient(rig: Rig) -> None:
    """Acknowledgements are late at the next look, long before a link counts as stalled."""
    rig.nodes.write_patience_s = lambda *_: 0.0  # type: ignore[method-assign]


ONE_AND_STREAM = pytest.mark.parametrize("how", ["one", "stream"])


# -- nodes that are known to be away -------------------------------------------------------------------------


@ONE_AND_STREAM
async def test_p2_with_one_node_down_both_others_hold_all(nodes: RealNodes, how: str) -> None:
    content = content_for(how)
    async with linked_to(nodes.infos[:2]) as linked:
        assert await linked.wait_up(10) == 2
        rig = Rig(linked)
        receipt = await write(rig, content, how)
        assert receipt.runs == ()
        assert set(receipt.nodes) == {0, 1, 2}
        rig.check_whole()
    await check_survives(nodes, receipt, content, without=3)


@ONE_AND_STREAM
async def test_with_one_node_alive_writes_are_refused_and_nothing_is_sent(nodes: RealNodes, how: str) -> None:
    async with linked_to(nodes.infos[:1]) as linked:
        assert await linked.wait_up(10) == 1
        rig = Rig(linked, settings=WriterSettings(rescue_s_max=0.1))
        with pytest.raises(NotEnoughNodes):
            await write(rig, content_for(how), how)
        assert rig.abandoned == []
        rig.check_whole()


@ONE_AND_STREAM
async def test_a_write_waits_for_nodes_that_are_restarted_one_after_the_other(
    own_nodes: RealNodes, how: str
) -> None:
    """Red when it is refused because the second node is gone before the first is linked again."""
    for number in (2, 3):
        own_nodes[number].kill()
    async with linked_to(own_nodes.infos) as linked:
        rig = Rig(linked, settings=WriterSettings(rescue_s_max=20.0))
        await linked.wait_up(10, nodes_min=1)
        writing = asyncio.ensure_future(write(rig, content_for(how), how))
        done, _ = await asyncio.wait({writing}, timeout=0.1)
        assert not done
        for number in (2, 3):
            own_nodes[number].start()
        assert await writing
        rig.check_whole()


@ONE_AND_STREAM
async def test_s10_when_no_link_takes_more_the_write_fails_and_leaves_nothing(
    nodes: RealNodes, how: str
) -> None:
    """Red when a failed write that sent nothing names copies all the same."""
    async with linked_to(nodes.infos, LinkSettings(outstanding_bytes_max=1)) as linked:
        assert await linked.wait_up(10) == 3
        rig = Rig(linked, settings=WriterSettings(rescue_s_max=0.1))
        with pytest.raises(WriteFailed) as caught:
            await write(rig, content_for(how), how)
        if how == "one":
            assert caught.value.receipt is None
        assert rig.abandoned == []
        rig.check_whole()


@pytest.mark.parametrize("alive", [5, 4, 2])
async def test_s9_four_and_two_on_fewer_nodes(tmp_path: Path, alive: int) -> None:
    content = os.urandom(5 * STRIPE + 1)
    with RealNodes(tmp_path, alive) as running:
        async with connect(running) as linked:
            assert await linked.wait_up(10) == alive
            rig = Rig(linked, k=4, m=2)
            receipts = [await write(rig, content[:STRIPE], "one"), await write(rig, content, "stream")]
        await check_survives(running, receipts[0], content[:STRIPE])
        await check_survives(running, receipts[1], content)


# -- nodes that give no answer -------------------------------------------------------------------------------


@ONE_AND_STREAM
async def test_s10_a_late_acknowledgement_is_not_waited_for(nodes: RealNodes, how: str) -> None:
    """The links would wait for a minute, the calls for ten: only the hedge ends the write in time.

    Red when acknowledgements have no `late_s`, or `StripeWrite` waits for the late call as for any other."""
    content = content_for(how)
    settings = WriterSettings(put_deadline_s=600, sync_deadline_s=600)
    async with Proxied(nodes) as proxied:
        proxied.freeze(2)
        rig = Rig(proxied.nodes, settings=settings)
        async with asyncio.timeout(30):
            receipt = await write(rig, content, how)
        rig.check_whole()
        proxied.thaw(2)
    await check_survives(nodes, receipt, content, without=2)


@ONE_AND_STREAM
async def test_s10_with_a_fourth_node_the_layout_becomes_standard(tmp_path: Path, how: str) -> None:
    """Red when nodes that hold nothing yet do not come first."""
    content = content_for(how)
    with RealNodes(tmp_path, 4) as running:
        async with Proxied(running) as proxied:
            for number in (1, 2):
                proxied.freeze(number)
                rig = Rig(proxied.nodes)
                rig.be_patient(but_with=number)
                receipt = await write(rig, content, how)
                assert is_standard(receipt.nodes, 3)
                assert receipt.runs == ()
                assert number not in receipt.nodes
                proxied.thaw(number)
                link = proxied.link(number)
                await until(lambda link=link: not link.is_stalled(writing=True), "thawed")  # type: ignore[misc]
        await check_survives(running, receipt, content)


@ONE_AND_STREAM
async def test_s10_a_spare_node_takes_the_second_parity_too(tmp_path: Path, how: str) -> None:
    """Red when `_wanted` asks for what S9 needs only, three shards of 2+2, or is not asked once that is there."""
    content = content_for(how)
    with RealNodes(tmp_path, 5) as running:
        async with Proxied(running) as proxied:
            proxied.freeze(1)
            rig = Rig(proxied.nodes, k=2, m=2)
            rig.be_patient(but_with=1)
            rig.nodes.for_write = lambda width: list(rig.nodes.nodes)  # type: ignore[method-assign]
            for _ in range(4):  # most of them meet node 1
                receipt = await write(rig, content, how)
                assert is_standard(receipt.nodes, 4)
                assert 1 not in receipt.nodes
                assert receipt.runs == ()
            proxied.thaw(1)
        await check_survives(running, receipt, content, without=1)


async def test_s10_acknowledgements_that_come_while_others_are_late_count(nodes: RealNodes) -> None:
    """Two of three are late: one alone is nothing to build on. The write waits, and takes what comes.

    Red when `_land` forgets a call once it was late."""
    async with Proxied(nodes) as proxied:
        proxied.freeze(2)
        proxied.freeze(3)
        rig = Rig(proxied.nodes)
        impatient(rig)
        write_one = asyncio.ensure_future(rig.writer.write_one(b"small", epoch=1))
        await until(lambda: proxied.link(2).is_stalled(writing=True), "late for long")
        await until(lambda: not proxied.link(1).outstanding_bytes, "node 1 has acknowledged")
        assert not write_one.done()
        proxied.thaw(3)
        receipt = await write_one
        assert {1, 3} <= set(receipt.nodes)
        proxied.thaw(2)
        await until(lambda: not proxied.link(2).outstanding_bytes, "the late call has ended")
    await check_survives(nodes, receipt, b"small", without=2)


async def test_p2_a_node_that_dies_behind_its_acknowledgement_does_not_count(nodes: RealNodes) -> None:
    """Node 3 acknowledges and goes; then node 2, which was merely slow, completes the round.

    Red when `write_one` does not look at the links again (`_all_up`)."""
    async with Proxied(nodes) as proxied:
        proxied.freeze(2)
        rig = Rig(proxied.nodes)
        rig.be_patient()
        write_one = asyncio.ensure_future(rig.writer.write_one(b"small", epoch=1))
        await until(lambda: proxied.link(2).outstanding_bytes > 0, "node 2 owes an answer")
        await until(lambda: not proxied.link(3).outstanding_bytes, "node 3 has acknowledged")
        await proxied.lose(3)
        proxied.thaw(2)
        receipt = await write_one
        assert not is_standard(receipt.nodes, 3)
    await check_survives(nodes, receipt, b"small", without=3)


async def test_s10_a_hedge_storm_is_bounded(nodes: RealNodes) -> None:
    """With the stock used up the writer waits for its late node instead of doubling the load."""
    async with Proxied(nodes) as proxied:
        rig = Rig(proxied.nodes)
        rig.writer._context.hedges.left_bytes = 0
        rig.be_patient(but_with=2)
        proxied.freeze(2)
        write_one = asyncio.ensure_future(rig.writer.write_one(b"small", epoch=1))
        await until(lambda: proxied.link(2).is_stalled(writing=True), "late for long")
        await until(lambda: not proxied.link(1).outstanding_bytes, "node 1 has acknowledged")
        await until(lambda: not proxied.link(3).outstanding_bytes, "node 3 has acknowledged")
        for _ in range(50):
            await asyncio.sleep(0)
        assert not write_one.done()
        proxied.thaw(2)
        assert is_standard((await write_one).nodes, 3)


def test_s10_the_allowance_lets_a_share_of_the_traffic_pass_for_ever() -> None:
    """Red when `spend` does not pay, when the stock is refilled without bound, when small copies cost nothing."""
    hedges = HedgeAllowance()
    hedges.earn(10**9, 10**9)
    assert hedges.left_bytes == hedges.STOCK_BYTES
    burst = 0
    while hedges.spend(2, 2 * 2048):
        burst += 1
    assert 300 < burst < 600
    passed = 0
    for _ in range(10_000):
        hedges.earn(3, 4096)
        passed += hedges.spend(2, 2 * 2048)
    assert 1000 <= passed <= 1600


# -- nodes that say no ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [wire.Status.READ_ONLY, wire.Status.FAILED, wire.Status.BUSY])
@ONE_AND_STREAM
async def test_a_node_that_refuses_is_replaced_by_the_others(
    nodes: RealNodes, how: str, status: wire.Status
) -> None:
    content = content_for(how)
    async with Proxied(nodes) as proxied:
        proxied.refuse(1, status)
        rig = Rig(proxied.nodes)
        receipt = await write(rig, content, how)
        rig.check_whole()
    await check_survives(nodes, receipt, content, without=1)


def without_position(frame: wire.Frame) -> list[wire.Frame]:
    if frame.op != wire.Op.SYNC:
        return [frame]
    synced = wire.decode_synced(frame.header)
    header = wire.encode(wire.Synced(synced.incarnation, synced.position - 1))
    return [frame._replace(header=header)]


@pytest.mark.parametrize("status", [wire.Status.STALE_INCARNATION, wire.Status.FAILED, None])
async def test_s1_a_node_that_does_not_sync_holds_nothing(
    nodes: RealNodes, status: wire.Status | None
) -> None:
    """It refuses, or covers less than was asked (None). Only what it takes together with a sync counts then.

    Red when a failed SYNC leaves the copies in the ledger, when the position in a reply is not looked at, and
    when protection puts without a sync."""
    content = content_for("stream")
    synced = set[tuple[int, int, int]]()

    def note(frame: wire.Frame) -> list[wire.Frame]:
        if frame.op == wire.Op.PUT_BLOCK and (put := wire.decode_put_block(frame.header)).sync:
            synced.add((put.stripe, put.shard, 1))
        return [frame]

    async with Proxied(nodes) as proxied:
        proxied.proxies[1].requests = note
        if status is None:
            proxied.proxies[1].replies = without_position
        else:
            proxied.refuse(1, status, wire.Op.SYNC)
        rig = Rig(proxied.nodes)
        receipt = await write(rig, content, "stream")
        rig.check_whole()
    assert {copy for copy in named(receipt) if copy[2] == 1} <= synced
    await check_survives(nodes, receipt, content)


@ONE_AND_STREAM
async def test_s11_a_failed_write_names_every_copy_that_lies_anywhere(nodes: RealNodes, how: str) -> None:
    """Two of three refuse (and append all the same): nothing can be promised, and nothing is forgotten.

    Red when the receipt holds what is acknowledged instead of what was sent, and when hedges are left out."""
    settings = WriterSettings(rescue_s_max=0.2)
    async with Proxied(nodes) as proxied:
        proxied.refuse(1, wire.Status.FAILED)
        proxied.refuse(3, wire.Status.FAILED)
        rig = Rig(proxied.nodes, settings=settings)
        with pytest.raises(WriteFailed) as caught:
            await write(rig, content_for(how), how)
        receipt = caught.value.receipt
        assert receipt is not None
        rig.check_whole()
        assert rig.abandoned == [], "WriteFailed has told the caller already"
    found = set[tuple[int, int, int]]()
    for info in nodes.infos:
        found |= await inventory(info, receipt.blob_id)
    assert found
    assert found <= named(receipt)


# -- streams -------------------------------------------------------------------------------------------------


async def with_events(content: bytes, events: dict[int, AsyncIterator[None]]) -> AsyncIterator[bytes]:
    number = 0
    async for stripe in body(content):
        if number in events:
            await anext(events[number], None)
        yield stripe
        number += 1


async def test_s9_a_node_that_comes_back_is_used_again_after_a_while(own_nodes: RealNodes) -> None:
    """Runs stay few, whatever the number of stripes: before, meanwhile, after, and what was protected in between.

    Red when the layout is never chosen anew while its nodes are well."""
    content = os.urandom(120 * STRIPE)
    async with connect(own_nodes) as linked:
        assert await linked.wait_up(10) == 3
        link = linked.link(3)
        assert link is not None

        async def kill() -> AsyncIterator[None]:
            own_nodes[3].kill()
            await until(lambda: not link.up, "the loss is noticed")
            yield

        async def start() -> AsyncIterator[None]:
            own_nodes[3].start()
            await until(lambda: 3 in [n.number for n in linked.for_write(3)], "it is admitted again", 20)
            yield

        rig = Rig(linked)
        rig.be_patient()
        receipt = await rig.writer.write(with_events(content, {20: kill(), 40: start()}), epoch=1)
        assert await rig.stored(receipt) == content
        rig.check_whole()
    assert 1 <= len(receipt.runs) <= 6, receipt
    assert is_standard(receipt.runs[-1].nodes, 3)
    await check_survives(own_nodes, receipt, content)


async def test_p8_protection_stays_within_a_budget_of_three_stripes(own_nodes: RealNodes) -> None:
    """Red when the protector does not ask for its memory, or keeps it."""
    content = os.urandom(80 * STRIPE)
    async with connect(own_nodes) as linked:
        assert await linked.wait_up(10) == 3
        link = linked.link(1)
        assert link is not None

        async def kill() -> AsyncIterator[None]:
            own_nodes[1].kill()
            await until(lambda: not link.up, "the loss is noticed")
            yield

        rig = Rig(linked, budget_bytes=3 * STRIPE)
        async with asyncio.timeout(30):
            receipt = await rig.writer.write(with_events(content, {60: kill()}), epoch=1)
        rig.check_whole()
    await check_survives(own_nodes, receipt, content, without=1)


async def test_s9_a_frozen_node_counts_as_lost_while_its_connection_is_up(nodes: RealNodes) -> None:
    """Half of the stripes are durable on node 2 when it freezes; the link would wait for a minute.

    Red when `Upload._alive` asks for a connection only."""
    content = os.urandom(40 * STRIPE)
    settings = WriterSettings(sync_bytes=2 * STRIPE, window_stripes=2, sync_late_s=0.3)
    async with Proxied(nodes) as proxied:

        async def freeze() -> AsyncIterator[None]:
            proxied.freeze(2)
            yield

        rig = Rig(proxied.nodes, settings=settings)
        receipt = await rig.writer.write(with_events(content, {20: freeze()}), epoch=1)
        assert proxied.link(2).up
        proxied.thaw(2)
    await check_survives(nodes, receipt, content, without=2)


async def test_s9_two_nodes_lost_one_after_the_other_but_never_both(own_nodes: RealNodes) -> None:
    """What was protected for the first loss is judged anew at the second."""
    content = os.urandom(90 * STRIPE)
    async with connect(own_nodes) as linked:
        assert await linked.wait_up(10) == 3

        async def restart(number: int) -> AsyncIterator[None]:
            link = linked.link(number)
            assert link is not None
            own_nodes[number].kill()
            await until(lambda: not link.up, "the loss is noticed")
            yield

        async def back(number: int) -> AsyncIterator[None]:
            link = linked.link(number)
            assert link is not None
            own_nodes[number].start()
            await until(lambda: link.up, "it is back")
            yield

        rig = Rig(linked)
        events = {10: restart(1), 30: back(1), 50: restart(2)}
        receipt = await rig.writer.write(with_events(content, events), epoch=1)
        rig.check_whole()
    await check_survives(own_nodes, receipt, content, without=2)


async def test_s11_a_write_cancelled_while_it_protects_names_every_copy(own_nodes: RealNodes) -> None:
    """Red when a worker is cancelled before it told the ledger what it had sent."""
    content = os.urandom(300 * STRIPE)
    async with connect(own_nodes) as linked:
        assert await linked.wait_up(10) == 3
        rig = Rig(linked)
        given = asyncio.Event()
        waiting = asyncio.Event()

        async def stuck() -> AsyncIterator[bytes]:
            async for stripe in body(content):
                yield stripe
            own_nodes[2].kill()
            given.set()
            await waiting.wait()

        write = asyncio.ensure_future(rig.writer.write(stuck(), epoch=1))
        await given.wait()
        waiting.set()
        protected = linked.link(1)
        assert protected is not None
        await until(lambda: protected.latency[wire.Op.READ_BLOCK].mean_s > 0, "it reads back")
        write.cancel()
        with pytest.raises(asyncio.CancelledError):
            await write
        rig.check_whole()
    (receipt,) = rig.abandoned
    assert receipt.stripes == 300
    found = await inventory(own_nodes[1].info, receipt.blob_id)
    found |= await inventory(own_nodes[3].info, receipt.blob_id)
    assert found <= named(receipt)
    assert len(found) >= 600


async def test_the_same_receipt_reads_back_after_degraded_and_standard_stripes(own_nodes: RealNodes) -> None:
    async with connect(own_nodes) as linked:
        assert await linked.wait_up(10) == 3
        rig = Rig(linked)
        contents = [os.urandom(n * STRIPE + 1) for n in (0, 1, 5)]
        own_nodes[3].freeze()
        receipts = [await rig.writer.write(body(content), epoch=1) for content in contents]
        own_nodes[3].thaw()
        for receipt, content in zip(receipts, contents, strict=True):
            assert await read_back(linked, receipt) == content
