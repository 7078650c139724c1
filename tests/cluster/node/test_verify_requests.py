"""VERIFY_BLOCKS and DAMAGED over the wire: fair to other requests, bounded, and found rot is told."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path

import msgspec
import pytest
import uvloop

from cluster.handshake import ClientHandshake
from cluster.node import verify
from cluster.node.files import RealFiles
from cluster.wire import (
    VERIFY_BLOCKS_MAX,
    BlocksVerified,
    Damaged,
    DamagedPage,
    Frame,
    NodeStatus,
    Op,
    PutBlock,
    ReadBlock,
    Role,
    Status,
    StatusRequest,
    VerifyBlocks,
    decode_appended,
    decode_blocks_verified,
    decode_damaged_page,
    decode_node_status,
)
from codec.block import Buffer, pack_key, page_checksums
from codec.block import verify as verify_block
from tests.cluster.node.node_bench import CLUSTER, SECRET, key_of, payload_of
from tests.cluster.node.node_client import NodeClient, ServedNode, served

Run = Callable[[Coroutine[object, object, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    runner = asyncio.run if request.param == "asyncio" else uvloop.run

    async def limited(main: Coroutine[object, object, None]) -> None:
        await asyncio.wait_for(main, 30)

    return lambda main: runner(limited(main))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


class SlowDisk(RealFiles):
    """Reads past the cache wait at a gate, and are counted."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.under_way = 0
        self.most_under_way = 0
        self.reads: list[int] = []
        self._lock = threading.Lock()

    def read_disk(self, path: Path, offset: int, length: int) -> Buffer:
        with self._lock:
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            self.reads.append(offset)
        assert self.gate.wait(20)
        with self._lock:
            self.under_way -= 1
        return super().read_disk(path, offset, length)


def packed(*numbers: int) -> list[bytes]:
    return [pack_key(key_of(number)) for number in numbers]


async def ask(client: NodeClient, keys: list[bytes], *, deep: bool) -> BlocksVerified:
    reply = await client.send(Op.VERIFY_BLOCKS, VerifyBlocks(keys, deep))
    assert reply.status == Status.OK
    return decode_blocks_verified(reply.header)


async def status_of(client: NodeClient) -> NodeStatus:
    return decode_node_status((await client.send(Op.STATUS, StatusRequest())).header)


def flip(directory: Path, needle: bytes) -> None:
    """One bit of the record that holds `needle`, behind the node's back."""
    for path in (directory / "segments").iterdir():
        at = path.read_bytes().find(needle)
        if at >= 0:
            with path.open("r+b") as file:
                file.seek(at)
                file.write(bytes([needle[0] ^ 1]))
            return
    raise AssertionError("no such bytes")


def test_states_and_the_list_of_damage(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path, scrub_bytes_per_s=0) as node:
            client = await node.connect()
            copies = {}
            for number in (1, 2, 3):
                reply = await client.put(key_of(number), payload_of(number, 1000 * number))
                copies[number] = decode_appended(reply.header).sequence
            flip(tmp_path, payload_of(2, 2000))
            keys = packed(3, 9, 2, 1)
            shallow = await ask(client, keys, deep=False)
            assert shallow.blocks == [
                (0, copies[3], 3000),
                (1, 0, 0),
                (0, copies[2], 2000),
                (0, copies[1], 1000),
            ]
            deep = await ask(client, keys, deep=True)
            assert deep.blocks == [
                (0, copies[3], 3000),
                (1, 0, 0),
                (2, copies[2], 2000),
                (0, copies[1], 1000),
            ]
            assert await ask(client, keys, deep=False) == deep
            assert await ask(client, [], deep=True) == BlocksVerified([])

            page = decode_damaged_page((await client.send(Op.DAMAGED, Damaged(b"", 10))).header)
            assert page == DamagedPage([(packed(2)[0], copies[2], "rotten")], False)
            after = decode_damaged_page((await client.send(Op.DAMAGED, Damaged(packed(2)[0], 10))).header)
            assert after == DamagedPage([], False)
            status = await status_of(client)
            assert (status.damaged_blocks, status.damage) == (1, {"rotten": 1})

            put = PutBlock(*key_of(2), 2, 1, 1, 4000, page_checksums(payload_of(2, 2000)), True, True)
            healed = await client.send(Op.PUT_BLOCK, put, payload_of(2, 2000))
            assert healed.status == Status.OK
            assert (await ask(client, packed(2), deep=True)).blocks == [
                (0, decode_appended(healed.header).sequence, 2000)
            ]
            assert (await status_of(client)).damaged_blocks == 0

    run(main())


def test_requests_that_make_no_sense(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path) as node:
            client = await node.connect()
            asks = [
                client.send(Op.VERIFY_BLOCKS, VerifyBlocks([b"short"], True)),
                client.send(Op.VERIFY_BLOCKS, VerifyBlocks(packed(1) * (VERIFY_BLOCKS_MAX + 1), False)),
                client.send(Op.VERIFY_BLOCKS, b"\x91\xc0"),
                client.send(Op.DAMAGED, Damaged(b"short", 1)),
                client.send(Op.DAMAGED, Damaged(b"", 0)),
                client.send(Op.DAMAGED, Damaged(b"", 1001)),
                client.send(Op.DAMAGED, b""),
            ]
            assert {reply.status for reply in await asyncio.gather(*asks)} == {Status.BAD_REQUEST}
            most = await ask(client, packed(1) * VERIFY_BLOCKS_MAX, deep=True)
            assert most.blocks == [(Status.NOT_FOUND, 0, 0)] * VERIFY_BLOCKS_MAX

    run(main())


def test_p8_a_long_verification_holds_nobody_up(run: Run, tmp_path: Path) -> None:
    """Reads that need the disk, puts and STATUS of the same connection are answered meanwhile.

    Red when requests may fill the read pool, or when one holds its connection back.
    """
    disk = SlowDisk()

    async def main() -> None:
        async with served(tmp_path, disk, scrub_bytes_per_s=0, read_threads=4) as node:
            client, other = await node.connect(), await node.connect()
            for number in range(20):
                await client.put(key_of(number), payload_of(number))
            disk.gate.clear()
            keys = packed(*range(20))
            long = [client.send(Op.VERIFY_BLOCKS, VerifyBlocks(keys, True)) for _ in range(10)]
            await until(lambda: disk.under_way == 2)
            for asker in (client, other):
                assert (await asker.put(key_of(30), b"x")).status == Status.OK
                assert (await status_of(asker)).blocks == 21
                page = await asker.send(Op.INVENTORY, msgspec.msgpack.encode([b"", 10]))  # in the read pool
                assert page.status == Status.OK
                read = await asker.read(key_of(3))
                assert bytes(verify_block(read.payload, key_of(3)).payload) == payload_of(3)
            assert disk.most_under_way == 2
            assert not any(reply.done() for reply in long)
            disk.gate.set()
            for reply in await asyncio.gather(*long):
                assert [state for state, *_ in decode_blocks_verified(reply.header).blocks] == [0] * 20

    run(main())


def test_requests_take_turns(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short one does not wait for all of a long one. Red when slices go on where they are."""
    monkeypatch.setattr(verify, "SLICE_KEYS", 5)
    disk = SlowDisk()

    async def main() -> None:
        async with served(tmp_path, disk, scrub_bytes_per_s=0, read_threads=1) as node:
            client = await node.connect()
            for number in range(50):
                await client.put(key_of(number), payload_of(number))
            disk.gate.clear()
            long = client.send(Op.VERIFY_BLOCKS, VerifyBlocks(packed(*range(50)) * 10, True))
            await until(lambda: disk.under_way == 1)
            short = client.send(Op.VERIFY_BLOCKS, VerifyBlocks(packed(7), True))
            await status_of(client)
            disk.gate.set()
            await short
            assert not long.done()
            await long

    run(main())


def test_p8_requests_under_way_are_bounded(run: Run, tmp_path: Path) -> None:
    """Red when the queue takes all."""
    disk = SlowDisk()

    async def main() -> None:
        async with served(tmp_path, disk, scrub_bytes_per_s=0) as node:
            client = await node.connect()
            await client.put(key_of(1), b"x")
            disk.gate.clear()
            message = VerifyBlocks(packed(1), True)
            taken = [client.send(Op.VERIFY_BLOCKS, message) for _ in range(verify.QUEUE_MAX)]
            refused = await client.send(Op.VERIFY_BLOCKS, message)
            assert refused.status == Status.BUSY
            disk.gate.set()
            assert {reply.status for reply in await asyncio.gather(*taken)} == {Status.OK}
            assert (await client.send(Op.VERIFY_BLOCKS, message)).status == Status.OK

    run(main())


def test_what_nobody_waits_for_is_not_done(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too late, or the peer has left. Red when only the deadline on arrival counts."""
    monkeypatch.setattr(verify, "SLICE_KEYS", 1)
    disk = SlowDisk()

    async def start(client: NodeClient, deadline_ms: int) -> asyncio.Future[Frame]:
        disk.reads.clear()
        disk.gate.clear()
        message = VerifyBlocks(packed(*range(20)), True)
        reply = client.send(Op.VERIFY_BLOCKS, message, deadline_ms=deadline_ms)
        await until(lambda: disk.under_way == 1)
        return reply

    async def main() -> None:
        async with served(tmp_path, disk, scrub_bytes_per_s=0) as node:
            client = await node.connect()
            for number in range(20):
                await client.put(key_of(number), b"x")
            reply = await start(client, deadline_ms=30)
            at = node.service.loop.time()
            await until(lambda: node.service.loop.time() > at + 0.04)
            disk.gate.set()
            assert (await reply).status == Status.DEADLINE
            assert len(disk.reads) < 5

            leaver = await node.connect()
            await start(leaver, deadline_ms=0)
            leaver.transport.abort()
            await leaver.lost
            await until(lambda: len(node.service.connections) == 1)
            disk.gate.set()
            await ask(client, packed(1), deep=True)
            assert len(disk.reads) < 5

    run(main())


def test_a_clean_stop_does_not_wait_for_all_of_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "SLICE_KEYS", 1)
    disk = SlowDisk()

    async def main() -> None:
        async with served(tmp_path, disk, scrub_bytes_per_s=0) as node:
            client = await node.connect()
            await client.put(key_of(1), b"x")
            disk.gate.clear()
            reply = client.send(Op.VERIFY_BLOCKS, VerifyBlocks(packed(1) * 1000, True))
            await until(lambda: disk.under_way == 1)
            stopping = asyncio.create_task(node.stop())
            await until(lambda: node.service.stopping)
            disk.gate.set()
            await stopping
            await client.lost
            with contextlib.suppress(ConnectionError):
                assert (await reply).status == Status.DEADLINE
            assert len(disk.reads) < 10

    run(main())


def test_the_scrub_runs_beside_requests(run: Run, tmp_path: Path) -> None:
    """Rot behind the node's back ends up in DAMAGED without anybody asking."""

    async def damage(node: ServedNode, client: NodeClient) -> list[tuple[bytes, int, str]]:
        reply = await client.send(Op.DAMAGED, Damaged(b"", 10))
        return decode_damaged_page(reply.header).entries

    async def main() -> None:
        async with served(tmp_path, scrub_bytes_per_s=1 << 30, scrub_pause_s=0.005) as node:
            client = await node.connect()
            for number in range(20):
                await client.put(key_of(number), payload_of(number))
            flip(tmp_path, payload_of(7))
            while not (entries := await damage(node, client)):
                assert (await client.put(key_of(100), b"x")).status == Status.OK
            assert [(key, kind) for key, _, kind in entries] == [(packed(7)[0], "rotten")]
            passes = node.service.store.scrub.passes
            await until(
                lambda: node.service.store.scrub.passes >= passes + 2
            )  # the one that found it has ended
            status = await status_of(client)
            assert status.damage == {"rotten": 1}
            assert status.scrub_passes >= 2
            assert status.scrubbed_bytes > 2000

    run(main())


# -- the release before (S25) -----------------------------------------------------------------------------


class PutBlock1(msgspec.Struct, array_like=True):
    """As protocol 1 has it."""

    blob: bytes
    stripe: int
    shard: int
    k: int
    m: int
    codec: int
    stripe_length: int
    pages: bytes
    sync: bool


class NodeStatus1(msgspec.Struct, array_like=True):
    """As protocol 1 has it."""

    node_id: bytes
    incarnation: int
    blocks: int
    segment_bytes: int
    live_bytes: int
    free_bytes: int
    damage: dict[str, int]
    read_only: bool


class Client1(NodeClient):
    """A front of the release before."""

    def __init__(self) -> None:
        super().__init__()
        self.handshake = ClientHandshake(secret=SECRET, role=Role.FRONT, cluster_id=CLUSTER, versions=(1, 1))


def test_s25_a_front_of_protocol_1_is_served(run: Run, tmp_path: Path) -> None:
    """Red when VERSION_MIN is 2, or a new field has no default."""

    async def main() -> None:
        async with served(tmp_path) as node:
            loop = asyncio.get_running_loop()
            _, client = await loop.create_connection(Client1, "127.0.0.1", node.port)
            await client.ready
            assert client.handshake.result is not None
            assert client.handshake.result.version == 1
            payload = payload_of(1)
            put = PutBlock1(*key_of(1), 2, 1, 1, 200, page_checksums(payload), True)
            first = await client.send(Op.PUT_BLOCK, msgspec.msgpack.encode(put), payload)
            again = await client.send(Op.PUT_BLOCK, msgspec.msgpack.encode(put), payload)
            assert decode_appended(first.header) == decode_appended(again.header)
            read = await client.send(Op.READ_BLOCK, ReadBlock(*key_of(1), 0, 0))
            assert bytes(verify_block(read.payload, key_of(1)).payload) == payload
            reply = await client.send(Op.STATUS, StatusRequest())
            status = msgspec.msgpack.decode(reply.header, type=NodeStatus1)
            assert (status.blocks, status.live_bytes, status.read_only) == (1, 100, False)
            client.transport.close()
            await client.lost

    run(main())
