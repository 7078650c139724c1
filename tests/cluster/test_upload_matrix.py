"""A node is lost in the middle of an upload, at any point and in any way; then another one goes (P1, P2, S9).

The short form runs with every `make test`, the long one with 1 GiB in `make test-long`.
"""

import asyncio
import random
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from cluster.blob_reader import BlobReader
from cluster.budget import ByteBudget
from cluster.receipt import Receipt
from cluster.topology import NodeSet
from tests.cluster.conftest import connect, until
from tests.cluster.nodes import RealNode
from tests.cluster.volatile_node import VolatileNodes
from tests.cluster.writing import BUDGET, Rig, linked_to, row

MIB = 1 << 20
RUNS_MAX = 24  # few, also on a machine so busy that nodes are late for no fault of theirs

pytestmark = pytest.mark.usefixtures("silent_loop")


class Content:
    """Bytes that are made again whenever they are needed: stripe i is the same however often it is asked for."""

    def __init__(self, stripes: int) -> None:
        self.stripes = stripes
        self._pattern = random.Random(stripes).randbytes(2 * MIB)

    def stripe(self, number: int) -> bytes:
        start = (number * 7919) % MIB
        return number.to_bytes(8, "big") + self._pattern[start : start + MIB - 8]

    async def body(self, at: int, interrupt: Callable[[], Awaitable[None]]) -> AsyncIterator[bytes]:
        """The stripes; before number `at`, or at the very end, something happens."""
        for number in range(self.stripes):
            if number == at:
                await interrupt()
            yield self.stripe(number)
        if at == self.stripes:
            await interrupt()

    async def check(self, nodes: NodeSet, receipt: Receipt) -> None:
        """The object reads back whole from these nodes."""

        async def relocate(_: bytes) -> None:
            raise AssertionError("a block is missing")

        faults: list[object] = []
        reader = BlobReader(nodes, ByteBudget(BUDGET), relocate, faults.append)
        stream = reader.open(row(receipt), 0, receipt.size)
        got = bytearray()
        number = 0
        try:
            while (buffers := await stream.next()) is not None:
                for buffer in buffers:
                    got += buffer
                while len(got) >= MIB:
                    assert got[:MIB] == self.stripe(number), f"stripe {number}"
                    number += 1
                    del got[:MIB]
        finally:
            stream.close()
        assert (number, len(got)) == (self.stripes, 0)
        assert faults == []


async def upload(linked: NodeSet, victim: RealNode, how: str, content: Content, at: int) -> Receipt:
    """Upload, while the victim is lost before stripe number `at`; it is there again when this returns."""
    rig = Rig(linked, stripe_bytes=MIB)
    link = linked.link(victim.info.number)
    assert link is not None

    async def back() -> None:
        await asyncio.to_thread(victim.start)
        await until(lambda: link.up and link.incarnation != before, "the link is back")

    async def interrupt() -> None:
        if how == "freeze":
            victim.freeze()
        else:
            await asyncio.to_thread(victim.kill)
        if how == "power":
            await back()

    before = link.incarnation
    size = content.stripes * MIB
    receipt = await rig.writer.write(content.body(at, interrupt), epoch=1, size_hint=size)
    rig.check_whole()
    if how == "freeze":
        victim.thaw()
    elif how == "kill":
        await back()
    assert (receipt.size, receipt.stripes) == (size, content.stripes)
    assert len(receipt.runs) <= RUNS_MAX, receipt
    return receipt


async def uploads_survive(running: VolatileNodes, how: str, content: Content, percents: list[int]) -> None:
    """Each upload loses node 2 on its way; then the power fails everywhere; then another node is taken away.

    What was killed or frozen does not come back for the reader, what restarted does."""
    async with connect(running) as linked:
        receipts = []
        for percent in percents:
            await until(lambda: len(linked.for_write(3)) == 3, "all nodes are admitted", 30)
            at = content.stripes * percent // 100
            receipts.append(await upload(linked, running[2], how, content, at))
    running.power_cycle()
    rest = [info for info in running.infos if how == "power" or info.number != 2]
    for lost in rest:
        async with linked_to([info for info in rest if info != lost]) as left:
            assert await left.wait_up(10) == len(rest) - 1
            for receipt in receipts:
                await content.check(left, receipt)


@pytest.mark.parametrize("how", ["kill", "freeze", "power"])
async def test_s9_an_upload_survives_the_loss_of_a_node_and_then_of_another(tmp_path: Path, how: str) -> None:
    """Red when `Upload._finish` does not look for weak stripes, and when the last sync is not waited for."""
    with VolatileNodes(tmp_path) as running:
        await uploads_survive(running, how, Content(16), [50, 100])


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("percent", [10, 50, 90, 100])
@pytest.mark.parametrize("how", ["kill", "freeze", "power"])
async def test_s9_long_an_upload_of_1_gib_survives_the_loss_of_a_node_and_then_of_another(
    tmp_path: Path, how: str, percent: int
) -> None:
    with VolatileNodes(tmp_path) as running:
        await uploads_survive(running, how, Content(1024), [percent])
    shutil.rmtree(tmp_path)
