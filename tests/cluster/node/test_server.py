"""The node on real sockets: requests, limits, bad peers, and its end. On both event loops."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path

import msgspec
import pytest
import uvloop

from cluster.handshake import WrongCluster, WrongSecret
from cluster.node.connection import Connection
from cluster.node.files import RealFiles
from cluster.node.identity import NodeRefused
from cluster.wire import (
    HANDSHAKE_FRAME_BYTES,
    MAX_FRAME_BYTES,
    DeleteBlocks,
    Fence,
    Inventory,
    Op,
    PutBlock,
    Status,
    StatusRequest,
    Sync,
    decode_appended,
    decode_block_read,
    decode_fault,
    decode_fenced,
    decode_inventory_page,
    decode_node_status,
    decode_synced,
    encode_frame,
)
from codec.block import PAGE_BYTES, Buffer, pack_key, page_checksums, verify, verify_pages
from tests.cluster.node.node_bench import CATALOG, NODE, key_of, payload_of
from tests.cluster.node.node_client import served

Run = Callable[[Coroutine[object, object, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    runner = asyncio.run if request.param == "asyncio" else uvloop.run

    async def limited(main: Awaitable[None]) -> None:
        await asyncio.wait_for(main, 30)

    return lambda main: runner(limited(main))


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until the condition holds."""
    while not condition():
        await asyncio.sleep(0.001)


class GatedFiles(RealFiles):
    """fdatasync waits at a gate; nothing is in the page cache when `cold`."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Event()
        self.cold = False
        self.broken = False

    def fdatasync(self, fd: int) -> None:
        self.waiting.set()
        assert self.gate.wait(20)
        super().fdatasync(fd)

    def preadv(self, fd: int, buffer: bytearray | memoryview, offset: int, nowait: bool = False) -> int:
        if nowait and self.cold:
            raise BlockingIOError
        return super().preadv(fd, buffer, offset, nowait)

    def pwritev(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        if self.broken:
            raise ZeroDivisionError("a bug")
        return super().pwritev(fd, buffers, offset)


def test_every_request(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path) as node:
            client = await node.connect()
            payload = payload_of(1, 3 * PAGE_BYTES)
            appended = decode_appended((await client.put(key_of(1), payload)).header)
            unsynced = await client.put(key_of(2), b"x", sync=False)
            position = decode_appended(unsynced.header).position
            synced = await client.send(Op.SYNC, Sync(appended.incarnation, position))
            assert decode_synced(synced.header).position >= position

            whole = await client.read(key_of(1))
            assert bytes(verify(whole.payload, key_of(1)).payload) == payload
            part = await client.read(key_of(1), PAGE_BYTES + 5, PAGE_BYTES + 6)
            first_page = decode_block_read(part.header).first_page
            block = verify_pages(part.payload, key_of(1), first_page)
            assert bytes(block.payload) == payload[PAGE_BYTES : 2 * PAGE_BYTES]
            assert (await client.read(key_of(9))).status == Status.NOT_FOUND
            assert (await client.read(key_of(1), 9, 8)).status == Status.BAD_REQUEST
            assert (await client.put(key_of(1), b"other")).status == Status.CONFLICT

            page = await client.send(Op.INVENTORY, Inventory(b"", 10))
            entries = decode_inventory_page(page.header).entries
            assert [entry[0] for entry in entries] == [pack_key(key_of(1)), pack_key(key_of(2))]
            status = decode_node_status((await client.send(Op.STATUS, StatusRequest())).header)
            assert (status.blocks, status.live_bytes, status.read_only) == (2, len(payload) + 1, False)
            assert status.incarnation == appended.incarnation
            assert client.handshake.result is not None
            assert client.handshake.result.incarnation == status.incarnation
            assert client.handshake.result.node_id == status.node_id

            fenced = await client.send(Op.FENCE, Fence(CATALOG, 4))
            assert decode_fenced(fenced.header) == decode_fenced(fenced.header)
            stale = DeleteBlocks(CATALOG, 3, [(pack_key(key_of(1)), 0)])
            assert (await client.send(Op.DELETE_BLOCKS, stale)).status == Status.FENCED
            order = DeleteBlocks(CATALOG, 4, [(pack_key(key_of(1)), appended.sequence)])
            assert (await client.send(Op.DELETE_BLOCKS, order)).status == Status.OK
            assert (await client.read(key_of(1))).status == Status.NOT_FOUND
            stale_sync = Sync(appended.incarnation + 1, position)
            assert (await client.send(Op.SYNC, stale_sync)).status == Status.STALE_INCARNATION

    run(main())


def test_requests_that_make_no_sense(run: Run, tmp_path: Path) -> None:
    good = b"x" * 100

    def put(**changes: object) -> PutBlock:
        message = PutBlock(*key_of(1), 2, 1, 1, 200, page_checksums(good), True)
        return msgspec.structs.replace(message, **changes)

    async def main() -> None:
        async with served(tmp_path) as node:
            client = await node.connect()
            asks = [
                client.send(Op.PUT_BLOCK, b"\xc1"),
                client.send(Op.PUT_BLOCK, put(pages=b"1234"), good),
                client.send(Op.PUT_BLOCK, put(pages=b""), good),
                client.send(Op.PUT_BLOCK, put(), b""),
                client.send(Op.PUT_BLOCK, put(stripe_length=99), good),
                client.send(Op.PUT_BLOCK, put(blob=b"short"), good),
                client.send(Op.PUT_BLOCK, put(stripe=1 << 32), good),
                client.send(Op.PUT_BLOCK, put(shard=256), good),
                client.send(Op.PUT_BLOCK, put(k=0), good),
                client.send(Op.READ_BLOCK, b"\x91\x01"),
                client.send(Op.INVENTORY, Inventory(b"short", 1)),
                client.send(Op.INVENTORY, Inventory(b"", 0)),
                client.send(Op.DELETE_BLOCKS, DeleteBlocks(CATALOG, 1, [(b"short", 0)])),
                client.send(Op.DELETE_BLOCKS, DeleteBlocks(CATALOG, 1, [(b"k" * 21, 0)] * 1001)),
                client.send(Op.FENCE, Fence(b"short", 1)),
                client.send(Op.SYNC, b""),
            ]
            for reply in await asyncio.gather(*asks):
                assert reply.status == Status.BAD_REQUEST, decode_fault(reply.header)
            for op in (98, 99, Op.HELLO):
                assert (await client.send(op, b"")).status == Status.NOT_SUPPORTED
            assert (await client.send(Op.PUT_BLOCK, put(), good)).status == Status.OK

    run(main())


def test_s25_a_wrong_secret_is_refused_and_logged(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with served(tmp_path) as node:
            good = await node.connect()
            with pytest.raises(WrongSecret):
                await (await node.connect(secret=b"x" * 32, wait=False)).ready
            with pytest.raises(WrongCluster):
                await (await node.connect(cluster_id=b"x" * 16, wait=False)).ready
            assert (await good.put(key_of(1), b"x")).status == Status.OK

    with caplog.at_level(logging.WARNING, "trivet.node"):
        run(main())
    assert "does not know the cluster secret" in caplog.text
    assert "belongs to another cluster" in caplog.text


@pytest.mark.parametrize(
    ("bad", "line"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 9, "unusable frame"),
        ((HANDSHAKE_FRAME_BYTES).to_bytes(4, "little") + bytes(60), "unusable frame"),
        (bytes(60), "unusable frame"),
        (encode_frame(1, Op.STATUS, 0, 0, b"\x90", 0), "handshake failed"),
        (encode_frame(0, Op.HELLO, 0, 0, b"\xc1", 0), "handshake failed"),
    ],
)
def test_garbage_closes_one_connection(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture, bad: bytes, line: str
) -> None:
    async def main() -> None:
        async with served(tmp_path) as node:
            good = await node.connect()
            reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
            writer.write(bad)
            await reader.read()
            writer.close()
            assert (await good.put(key_of(1), b"x")).status == Status.OK

    with caplog.at_level(logging.WARNING, "trivet.node"):
        run(main())
    assert line in caplog.text


def test_an_oversized_frame_after_the_handshake(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path) as node:
            good, bad = await node.connect(), await node.connect()
            bad.transport.write(encode_frame(1, Op.PUT_BLOCK, 0, 0, b"", MAX_FRAME_BYTES))
            await bad.lost
            assert (await good.put(key_of(1), b"x")).status == Status.OK

    run(main())


def test_a_handshake_takes_a_limited_time(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path, handshake_timeout_s=0.01) as node:
            reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
            assert await reader.read() == b""
            writer.close()
            client = await node.connect()
            await asyncio.sleep(0.02)
            assert (await client.put(key_of(1), b"x")).status == Status.OK

    run(main())


def test_connections_are_limited(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path, connections_max=2) as node:
            first, second = await node.connect(), await node.connect()
            third = await node.connect(wait=False)
            with pytest.raises(ConnectionError):
                await third.ready
            second.transport.close()
            await second.lost
            while True:
                try:
                    await node.connect()
                    break
                except ConnectionError:
                    continue
            assert (await first.put(key_of(1), b"x")).status == Status.OK

    run(main())


def test_a_request_that_is_too_late_is_not_done(run: Run, tmp_path: Path) -> None:
    files = GatedFiles()

    async def main() -> None:
        async with served(tmp_path, files) as node:
            client = await node.connect()
            await client.put(key_of(0), b"x")
            files.gate.clear()
            files.waiting.clear()
            first = client.put(key_of(1), b"x", deadline_ms=60_000)
            await until(files.waiting.is_set)
            late = client.put(key_of(2), b"x", deadline_ms=1)
            status = client.send(Op.STATUS, StatusRequest())
            await status  # the late one was received
            at = time.monotonic()
            await until(lambda: time.monotonic() > at + 0.005)
            files.gate.set()
            assert (await first).status == Status.OK
            assert (await late).status == Status.DEADLINE
            assert (await client.read(key_of(2))).status == Status.NOT_FOUND

    run(main())


def test_p8_a_front_that_sends_faster_than_the_disk_is_held_back(run: Run, tmp_path: Path) -> None:
    """Broken once: never paused reading; the queue grew to everything that was sent."""
    files = GatedFiles()
    payload = payload_of(1, 100_000)
    limit = 1 << 20

    async def main() -> None:
        async with served(tmp_path, files, connection_queue_bytes_max=limit) as node:
            client = await node.connect()
            await client.put(key_of(0), b"x")
            service = node.service
            files.gate.clear()
            puts = [client.put(key_of(n), payload) for n in range(1, 300)]
            highest = 0
            for _ in range(300):
                await asyncio.sleep(0)
                highest = max(highest, service.queued_bytes)
            await until(lambda: service.queued_bytes > limit)
            assert client.transport.get_write_buffer_size() > 0  # the rest waits at the sender
            assert highest <= limit + 2 * len(payload)
            files.gate.set()
            assert {reply.status for reply in await asyncio.gather(*puts)} == {Status.OK}
            assert service.queued_bytes == 0

    run(main())


def test_p8_all_connections_share_one_limit(run: Run, tmp_path: Path) -> None:
    files = GatedFiles()
    payload = payload_of(1, 100_000)
    limit = 1 << 20

    async def main() -> None:
        async with served(tmp_path, files, queue_bytes_max=limit) as node:
            clients = [await node.connect() for _ in range(3)]
            await clients[0].put(key_of(0), b"x")
            service = node.service
            files.gate.clear()
            numbers = itertools.count(1)
            puts = [client.put(key_of(next(numbers)), payload) for _ in range(50) for client in clients]
            await until(lambda: service.queued_bytes > limit)
            for _ in range(100):
                await asyncio.sleep(0)
            assert service.queued_bytes <= limit + 2 * len(payload)
            files.gate.set()
            assert {reply.status for reply in await asyncio.gather(*puts)} == {Status.OK}
            assert service.queued_bytes == 0

    run(main())


def test_p8_a_front_that_does_not_take_its_replies_is_not_read(run: Run, tmp_path: Path) -> None:
    """Broken once: went on answering while the peer was choked; all replies were in memory at once."""
    payload = payload_of(1, 500_000)

    async def main() -> None:
        async with served(tmp_path, reply_bytes_max=1 << 20) as node:
            client = await node.connect()
            await client.put(key_of(1), payload)
            client.transport.pause_reading()
            reads = [client.read(key_of(1)) for _ in range(200)]  # 100 MB
            (connection,) = node.service.connections
            assert isinstance(connection, Connection)
            transport = connection._transport
            await until(lambda: transport.get_write_buffer_size() > 1 << 20)
            for _ in range(300):
                await asyncio.sleep(0)
                assert transport.get_write_buffer_size() < 4 << 20
            client.transport.resume_reading()
            for reply in await asyncio.gather(*reads):
                assert len(reply.payload) > len(payload)
                assert reply.status == Status.OK

    run(main())


def test_reads_that_need_the_disk_go_to_the_pool(run: Run, tmp_path: Path) -> None:
    files = GatedFiles()

    async def main() -> None:
        async with served(tmp_path, files) as node:
            client = await node.connect()
            await asyncio.gather(*(client.put(key_of(n), payload_of(n)) for n in range(50)))
            files.cold = True
            replies = await asyncio.gather(*(client.read(key_of(n)) for n in range(51)))
            for number, reply in enumerate(replies[:50]):
                assert bytes(verify(reply.payload, key_of(number)).payload) == payload_of(number)
            assert replies[50].status == Status.NOT_FOUND
            for segment in (tmp_path / "segments").iterdir():
                with segment.open("r+b") as file:
                    file.truncate(1000)
            assert (await client.read(key_of(49))).status == Status.CORRUPT
            files.cold = False
            assert (await client.read(key_of(49))).status == Status.CORRUPT

    run(main())


def test_a_clean_stop_answers_and_keeps_what_it_took(run: Run, tmp_path: Path) -> None:
    files = GatedFiles()

    async def main() -> None:
        async with served(tmp_path, files) as node:
            client = await node.connect()
            await client.put(key_of(0), b"x")
            files.gate.clear()
            files.waiting.clear()
            puts = [client.put(key_of(n), payload_of(n), sync=n % 2 == 0) for n in range(1, 20)]
            await until(files.waiting.is_set)
            await client.send(Op.STATUS, StatusRequest())  # all were received
            stopping = asyncio.create_task(node.stop())
            await asyncio.sleep(0)
            files.gate.set()
            await stopping
            assert {reply.status for reply in await asyncio.gather(*puts)} == {Status.OK}
            await client.lost
        async with served(tmp_path) as node:
            client = await node.connect()
            for number in range(1, 20):
                reply = await client.read(key_of(number))
                assert bytes(verify(reply.payload, key_of(number)).payload) == payload_of(number)
            status = decode_node_status((await client.send(Op.STATUS, StatusRequest())).header)
            assert status.damage == {}

    run(main())


def test_a_peer_that_leaves_early_disturbs_nobody(run: Run, tmp_path: Path) -> None:
    files = GatedFiles()

    async def main() -> None:
        async with served(tmp_path, files) as node:
            stays, leaves = await node.connect(), await node.connect()
            await stays.put(key_of(0), b"x")
            files.gate.clear()
            kept = stays.put(key_of(1), b"x")
            for number in range(2, 30):
                leaves.put(key_of(number), payload_of(number, 10_000))
            files.cold = True
            leaves.read(key_of(0))
            await leaves.send(Op.STATUS, StatusRequest())
            leaves.transport.abort()
            await leaves.lost
            files.gate.set()
            assert (await kept).status == Status.OK
            await until(lambda: node.service.queued_bytes == 0)
            assert len(node.service.connections) == 1

    run(main())


def test_a_bug_in_the_writer_ends_the_node(run: Run, tmp_path: Path) -> None:
    files = GatedFiles()

    async def main() -> None:
        async with served(tmp_path, files) as node:
            client = await node.connect()
            files.broken = True
            put = client.put(key_of(1), b"x")
            with pytest.raises(RuntimeError, match="ZeroDivisionError"):
                await node.task
            with pytest.raises(ConnectionError):
                await put
        files.broken = False
        async with served(tmp_path, files) as node:
            client = await node.connect()
            assert (await client.put(key_of(1), b"x")).status == Status.OK

    run(main())


def test_s23_a_node_does_not_serve_what_is_not_its_own(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path):
            with pytest.raises(NodeRefused, match="in use"):
                async with served(tmp_path):
                    pass
        with pytest.raises(NodeRefused, match="home of node"):
            async with served(tmp_path, node_id=NODE):
                pass

    run(main())
