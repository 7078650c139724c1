"""A node process on a small tmpfs: full, and writable again when space returns."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cluster.node.files import RealFiles
from cluster.node.identity import initialise
from cluster.wire import (
    DeleteBlocks,
    NodeStatus,
    Op,
    Status,
    StatusRequest,
    VerifyBlocks,
    decode_blocks_verified,
    decode_node_status,
)
from codec.block import pack_key, verify
from tests.cluster.node.node_bench import CATALOG, CLUSTER, key_of
from tests.cluster.node.node_client import NodeClient
from tests.cluster.node.test_process import connected, node_process

DISK_BYTES = 12 << 20
FILLER_BYTES = 5 << 20
BLOCK_BYTES = 60_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of DISK_BYTES."""
    directory = tmp_path / "small"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "trivet-test", str(directory)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)


@asynccontextmanager
async def started(directory: Path, *, reserve_bytes: int = 0) -> AsyncIterator[NodeClient]:
    with node_process(directory, reserve_bytes=reserve_bytes) as (_, port):
        async with connected(port) as client:
            yield client


def payload(number: int) -> bytes:
    return random.Random(number).randbytes(BLOCK_BYTES)


async def status_of(client: NodeClient) -> NodeStatus:
    return decode_node_status((await client.send(Op.STATUS, StatusRequest())).header)


async def fill(client: NodeClient, first: int) -> list[int]:
    """Put until the node refuses; what it took."""
    taken: list[int] = []
    for number in range(first, first + 2 * DISK_BYTES // BLOCK_BYTES):
        reply = await client.put(key_of(number), payload(number))
        if reply.status == Status.READ_ONLY:
            return taken
        assert reply.status == Status.OK
        taken.append(number)
    raise AssertionError("the disk does not get full")


async def check(client: NodeClient, numbers: list[int]) -> None:
    for number in numbers:
        reply = await client.read(key_of(number))
        assert reply.status == Status.OK, number
        assert bytes(verify(reply.payload, key_of(number)).payload) == payload(number)
    reply = await client.send(Op.VERIFY_BLOCKS, VerifyBlocks([pack_key(key_of(n)) for n in numbers], True))
    assert {state for state, *_ in decode_blocks_verified(reply.header).blocks} == {Status.OK}


async def writable_again(client: NodeClient) -> NodeStatus:
    while (status := await status_of(client)).read_only:
        await asyncio.sleep(0.01)
    return status


def test_a_full_disk_refuses_puts_and_loses_nothing(small_disk: Path) -> None:
    """Without a reserve: real ENOSPC, in the middle of whatever the node does, and SIGKILL in that state.

    Found on a tmpfs: every read failed, as it knows no RWF_NOWAIT.
    """
    directory, filler = small_disk / "node", small_disk / "filler"
    initialise(directory, cluster_id=CLUSTER, name="n", region="r", zone="z", files=RealFiles())
    filler.write_bytes(bytes(FILLER_BYTES))

    async def main() -> None:
        async with started(directory) as client:
            taken = await fill(client, 0)
            assert len(taken) > 20
            assert (await status_of(client)).read_only
            assert (await client.put(key_of(5000), payload(5000))).status == Status.READ_ONLY
            await check(client, taken)

        async with started(directory) as client:
            await check(client, taken)
            filler.unlink()
            await writable_again(client)
            taken += await fill(client, 1000)
            await check(client, taken)

        async with started(directory) as client:
            await check(client, taken)
            assert set((await status_of(client)).damage) <= {"torn"}

    asyncio.run(asyncio.wait_for(main(), 60))


def test_deletes_in_the_reserve_make_a_full_disk_writable(small_disk: Path) -> None:
    """Nobody but the node itself makes room."""
    directory = small_disk / "node"
    initialise(directory, cluster_id=CLUSTER, name="n", region="r", zone="z", files=RealFiles())

    async def main() -> None:
        async with started(directory, reserve_bytes=3 << 20) as client:
            taken = await fill(client, 0)
            kept, doomed = taken[::4], [number for number in taken if number % 4]
            order = DeleteBlocks(CATALOG, 1, [(pack_key(key_of(number)), 0) for number in doomed])
            assert (await client.send(Op.DELETE_BLOCKS, order)).status == Status.OK
            await check(client, kept)
            more: list[int] = []
            while len(more) < len(doomed) // 2:
                await writable_again(client)
                more += await fill(client, 1000 + len(more))
            await check(client, kept + more)
        async with started(directory, reserve_bytes=3 << 20) as client:
            await check(client, kept + more)
            for number in doomed:
                assert (await client.read(key_of(number))).status == Status.NOT_FOUND

    asyncio.run(asyncio.wait_for(main(), 60))
