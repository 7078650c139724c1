"""What a node counts of its own work: exact against a known load, and next to nothing in cost."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import timeit
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.node.figures import NodeFigures
from cluster.node.files import RealFiles
from cluster.wire import NodeStatus, Op, Status, StatusRequest, Sync, decode_appended, decode_node_status
from codec.block import header_bytes
from codec.histogram import bucket_of
from tests.cluster.node.memory_disk import MemoryDisk, Trap
from tests.cluster.node.node_bench import CATALOG, NodeBench, delete_write, key_of, payload_of, put_write
from tests.cluster.node.node_client import NodeClient, served

_COST_S_MAX = 3e-6
"""Of all counting for one group and one read: about one µs, and more on a machine that is busy with other tests."""


async def status_of(client: NodeClient) -> NodeStatus:
    reply = await client.send(Op.STATUS, StatusRequest())
    assert reply.status == Status.OK
    return decode_node_status(reply.header)


def test_a_known_load_is_counted_exactly(tmp_path: Path) -> None:
    """Red when a block that was there already counted as stored, or one that is missing as read."""

    async def main() -> None:
        async with served(tmp_path) as node:
            client, other = await node.connect(), await node.connect()
            for number in (1, 2, 3, 3):
                assert (await client.put(key_of(number), payload_of(number, 5000))).status == Status.OK
            assert (await client.put(key_of(3), payload_of(4, 5000))).status == Status.CONFLICT
            for number in (1, 2):
                assert (await client.read(key_of(number))).status == Status.OK
            assert (await other.read(key_of(9))).status == Status.NOT_FOUND
            status = await status_of(client)
            assert (status.stored_blocks, status.stored_bytes) == (3, 15_000)
            assert (status.read_blocks, status.peers, status.queued_bytes) == (2, 2, 0)
            assert 10_000 + 2 * header_bytes(5000) <= status.read_bytes <= 2 * (header_bytes(5000) + 5008)
            assert status.group_writes == {bucket_of(1): 3}
            assert sum(status.sync_us.values()) == 3
            assert status.capacity_bytes == _size_of(tmp_path)
            assert 0 < status.free_bytes < status.capacity_bytes
            assert status.release
            assert 0 < status.uptime_s < 60

    asyncio.run(main())


def _size_of(path: Path) -> int:
    system = os.statvfs(path)
    return system.f_blocks * system.f_frsize


class Gate(RealFiles):
    """fdatasync waits."""

    def __init__(self) -> None:
        self.open_again = threading.Event()
        self.waiting = threading.Event()

    def fdatasync(self, fd: int) -> None:
        self.waiting.set()
        assert self.open_again.wait(20)
        super().fdatasync(fd)


def test_what_waits_for_the_disk_is_queued_and_then_one_group(tmp_path: Path) -> None:
    """Red when the queue was that of one connection."""

    async def main() -> None:
        gate = Gate()
        gate.open_again.set()
        async with served(tmp_path, gate) as node:
            first, second = await node.connect(), await node.connect()
            await first.put(key_of(0), b"x")
            gate.open_again.clear()
            gate.waiting.clear()
            puts = [first.put(key_of(1), payload_of(1, 1000))]
            while not gate.waiting.is_set():
                await asyncio.sleep(0.001)
            puts += [
                client.put(key_of(10 + n), payload_of(n, 1000)) for n, client in enumerate((first, second))
            ]
            while (await status_of(first)).queued_bytes < 3000:
                await asyncio.sleep(0.001)
            gate.open_again.set()
            assert [reply.status for reply in await asyncio.gather(*puts)] == [Status.OK] * 3
            status = await status_of(second)
            assert status.queued_bytes == 0
            assert status.stored_blocks == 4
            assert status.group_writes in ({bucket_of(1): 2, bucket_of(2): 1}, {bucket_of(1): 4})

    asyncio.run(main())


class Slow(MemoryDisk):
    """Each sync takes as long as `takes_s` says, on the clock of `bench`."""

    bench: NodeBench
    takes_s = 0.0

    def fdatasync(self, fd: int) -> None:
        super().fdatasync(fd)
        if self.takes_s:
            self.bench.now += self.takes_s


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[NodeBench]:
    disk = Slow()
    disk.bench = NodeBench(tmp_path, disk)
    yield disk.bench
    disk.bench.store.abandon()


def test_each_sync_of_the_log_is_timed(slow: NodeBench) -> None:
    """Red when looks that found nothing to sync were counted."""
    disk = slow.disk
    assert isinstance(disk, Slow)
    slow.store.commit([put_write(key_of(0), b"first")])
    assert slow.store.status().sync_us == {0: 1}
    for number, takes_s in enumerate((0.000_250, 0.004, 0.004, 2.0), 1):
        disk.takes_s = takes_s
        slow.store.commit([put_write(key_of(number), payload_of(number))])
        slow.store.begin_checkpoint()
    assert slow.store.status().sync_us == {
        0: 1,
        bucket_of(250): 1,
        bucket_of(4000): 2,
        bucket_of(2_000_000): 1,
    }
    assert slow.store.status().uptime_s == pytest.approx(2.00825)


def test_groups_count_requests_and_repairs_count_as_stored(bench: NodeBench) -> None:
    bench.store.commit([put_write(key_of(n), payload_of(n, 10)) for n in range(5)])
    bench.store.commit([put_write(key_of(1), payload_of(1, 10), repair=True)])
    bench.store.commit([delete_write((key_of(2), 0), catalog=CATALOG)])
    status = bench.store.status()
    assert status.group_writes == {bucket_of(5): 1, bucket_of(1): 2}
    assert (status.stored_blocks, status.stored_bytes, status.blocks) == (6, 60, 4)


def test_what_failed_was_not_stored(bench: NodeBench) -> None:
    """Red when blocks counted before they were appended."""
    bench.store.commit([put_write(key_of(0), b"first")])
    bench.disk.traps.append(Trap("pwritev", errno.EIO))
    write = put_write(key_of(1), payload_of(1))
    bench.store.commit([write])
    status = bench.store.status()
    assert write.status == Status.FAILED
    assert (status.stored_blocks, sum(status.group_writes.values())) == (1, 1)


def test_counting_costs_hardly_anything() -> None:
    figures = NodeFigures()

    def count() -> None:
        figures.appended(3, 3, 30_000)
        figures.synced(0.002_3)
        figures.sent(10_000)

    assert min(timeit.repeat(count, number=2000, repeat=20)) / 2000 < _COST_S_MAX


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 1e9])
def test_a_sync_of_any_length_has_a_bucket(seconds: float) -> None:
    figures = NodeFigures()
    figures.synced(seconds)
    assert list(figures.sync_us.values()) == [1]


def test_the_position_asked_for_is_synced_once(tmp_path: Path) -> None:
    """A SYNC of what is durable already is none."""

    async def main() -> None:
        async with served(tmp_path, index_flush_s=60.0) as node:
            client = await node.connect()
            unsynced = decode_appended((await client.put(key_of(1), b"x", sync=False)).header)
            for _ in range(2):
                await client.send(Op.SYNC, Sync(unsynced.incarnation, unsynced.position))
            assert sum((await status_of(client)).sync_us.values()) == 1

    asyncio.run(main())
