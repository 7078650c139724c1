"""Whole shards: k verified ones from wherever they can be had, each copy read once."""

import os
from collections import Counter

import pytest

from cluster import shard_io, wire
from cluster.errors import LinkError
from cluster.placement import copies
from cluster.receipt import Receipt
from codec.erasure import ErasureCode
from codec.geometry import Geometry
from tests.cluster.conftest import connect
from tests.cluster.nodes import RealNodes
from tests.cluster.proxy import pass_on
from tests.cluster.writing import STRIPE, Proxied, Rig

pytestmark = pytest.mark.usefixtures("silent_loop")

CODE = ErasureCode(Geometry(2, 1, STRIPE))
CONTENT = os.urandom(STRIPE - 7)


async def written(proxied: Proxied) -> Receipt:
    return await Rig(proxied.nodes).writer.write_one(CONTENT, epoch=1)


def count_reads(proxied: Proxied) -> Counter[tuple[int, int]]:
    """(shard, node) of all reads that reach the nodes."""
    reads: Counter[tuple[int, int]] = Counter()

    def watch(number: int) -> None:
        def request(frame: wire.Frame) -> list[wire.Frame]:
            if frame.op == wire.Op.READ_BLOCK:
                reads[wire.decode_read_block(frame.header).shard, number] += 1
            return [frame]

        proxied.proxies[number].requests = request

    for number in proxied.proxies:
        watch(number)
    return reads


async def fetch(proxied: Proxied, receipt: Receipt, layout: list[tuple[int, int]]) -> shard_io.Fetched:
    return await shard_io.fetch(proxied.nodes, CODE, receipt.blob_id, 0, len(CONTENT), layout, 10)


async def test_the_first_k_in_the_order_given_are_read_and_no_other(nodes: RealNodes) -> None:
    async with Proxied(nodes) as proxied:
        receipt = await written(proxied)
        layout = copies(receipt.nodes, 3)
        reads = count_reads(proxied)
        for order in (layout, layout[::-1]):
            reads.clear()
            fetched = await fetch(proxied, receipt, order)
            assert CODE.decode(list(fetched.blocks.values()), len(CONTENT)) == CONTENT
            assert reads == Counter(order[:2])
            assert fetched.holders == dict(order[:2])
            assert not fetched.bad
            assert not fetched.unreached


async def test_bad_and_unreached_copies_are_told_apart_and_replaced(nodes: RealNodes) -> None:
    """Red when any status but OK counts as missing, and when the block in a reply is not verified."""
    async with Proxied(nodes) as proxied:
        receipt = await written(proxied)
        layout = copies(receipt.nodes, 3)
        (zero, one, two) = (node for _, node in layout)
        reads = count_reads(proxied)

        async def outcome() -> tuple[set[int], list[tuple[int, int, str]], list[tuple[int, int]]]:
            fetched = await fetch(proxied, receipt, layout)
            return set(fetched.blocks), sorted(fetched.bad), fetched.unreached

        proxied.refuse(zero, wire.Status.NOT_FOUND, wire.Op.READ_BLOCK)
        assert await outcome() == ({1, 2}, [(0, zero, "missing")], [])
        assert set(reads.values()) == {1}
        proxied.refuse(zero, wire.Status.CORRUPT, wire.Op.READ_BLOCK)
        assert await outcome() == ({1, 2}, [(0, zero, "corrupt")], [])
        proxied.refuse(zero, wire.Status.FAILED, wire.Op.READ_BLOCK)
        assert await outcome() == ({1, 2}, [], [(0, zero)])

        def flip(frame: wire.Frame) -> list[wire.Frame]:
            payload = bytearray(frame.payload)
            if frame.op == wire.Op.READ_BLOCK:
                payload[-9] ^= 1
            return [frame._replace(payload=bytes(payload))]

        proxied.proxies[zero].replies = flip
        assert await outcome() == ({1, 2}, [(0, zero, "corrupt")], [])
        proxied.refuse(one, wire.Status.NOT_FOUND, wire.Op.READ_BLOCK)
        assert await outcome() == ({2}, [(0, zero, "corrupt"), (1, one, "missing")], [])
        proxied.proxies[zero].replies = proxied.proxies[one].replies = pass_on
        await proxied.lose(two)
        fetched = await fetch(proxied, receipt, [(2, two), (1, 99), *layout])
        assert set(fetched.blocks) == {0, 1}
        assert fetched.unreached == [(2, two), (1, 99)]


async def test_other_copies_of_a_shard_are_read_only_when_the_first_fails(nodes: RealNodes) -> None:
    async with Proxied(nodes) as proxied:
        receipt = await written(proxied)
        (zero, one, two) = receipt.nodes
        for shard, payload in enumerate(CODE.encode(CONTENT)[:2]):
            link = proxied.link(two)
            await shard_io.put(
                link,
                receipt.blob_id,
                0,
                shard,
                payload,
                CODE.geometry,
                len(CONTENT),
                sync=True,
                repair=True,
                deadline_s=10,
            )
        reads = count_reads(proxied)
        layout = [(0, zero), (0, two), (1, one), (1, two)]
        assert (await fetch(proxied, receipt, layout)).holders == {0: zero, 1: one}
        assert len(reads) == 2
        proxied.refuse(zero, wire.Status.NOT_FOUND, wire.Op.READ_BLOCK)
        assert (await fetch(proxied, receipt, layout)).holders == {0: two, 1: one}


async def test_a_frozen_node_costs_the_deadline_and_no_more(nodes: RealNodes) -> None:
    async with Proxied(nodes) as proxied:
        receipt = await written(proxied)
        layout = copies(receipt.nodes, 3)
        proxied.freeze(receipt.nodes[0])
        fetched = await shard_io.fetch(
            proxied.nodes, CODE, receipt.blob_id, 0, len(CONTENT), layout[:2], deadline_s=0.1
        )
        assert set(fetched.blocks) == {1}
        assert fetched.unreached == [layout[0]]
        proxied.thaw(receipt.nodes[0])


async def test_put_raises_when_there_is_no_connection(nodes: RealNodes) -> None:
    unconnected = connect(nodes).link(1)
    assert unconnected is not None
    with pytest.raises(LinkError):
        shard_io.put(
            unconnected, bytes(16), 0, 0, b"x", CODE.geometry, 1, sync=True, repair=False, deadline_s=1
        )
