"""A node as a process of its own: what it loads, and what SIGKILL leaves."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from cluster.node import dump
from cluster.node.files import RealFiles
from cluster.node.identity import initialise
from cluster.wire import DeleteBlocks, Op, Status, StatusRequest, Sync, decode_appended, decode_node_status
from codec.block import pack_key, verify
from tests.cluster.node.node_bench import CATALOG, CLUSTER, SECRET, key_of, payload_of
from tests.cluster.node.node_client import NodeClient

NODE_PROGRAM = """
import asyncio, socket, sys, uvloop
from pathlib import Path
from cluster.node.config import NodeConfig
from cluster.node.server import serve

async def main():
    config = NodeConfig(
        directory=Path(sys.argv[1]), cluster_id=bytes.fromhex(sys.argv[3]), secret=bytes.fromhex(sys.argv[4]),
        segment_bytes=1 << 20, reserve_bytes=int(sys.argv[5]), index_flush_s=0.05,
    )
    await serve(config, socket.socket(fileno=int(sys.argv[2])), lambda: print("ready", flush=True))

uvloop.run(main())
"""


@contextmanager
def node_process(directory: Path, *, reserve_bytes: int = 0) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The process, ready, and its port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                NODE_PROGRAM,
                directory,
                str(listener.fileno()),
                CLUSTER.hex(),
                SECRET.hex(),
                str(reserve_bytes),
            ],
            pass_fds=[listener.fileno()],
            stdout=subprocess.PIPE,
            text=True,
        )
        port: int = listener.getsockname()[1]
    # From here the socket is the node's alone: who connects to a node that died is refused, and does not wait.
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process, port
    finally:
        process.kill()
        process.communicate()


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[NodeClient]:
    _, client = await asyncio.get_running_loop().create_connection(NodeClient, "127.0.0.1", port)
    try:
        await client.ready
        yield client
    finally:
        client.transport.close()
        await client.lost


class Writers:
    """16 writers in flight; what they heard."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.next = 0
        self.stored: set[int] = set()
        self.deleted: set[int] = set()
        self.unsure: set[int] = set()

    async def one(self, client: NodeClient) -> None:
        while True:
            number = self.next
            self.next += 1
            what = self.chance.random()
            self.unsure.add(number)
            try:
                if what < 0.7:
                    reply = await client.put(key_of(number), self.payload(number))
                else:
                    appended = await client.put(key_of(number), self.payload(number), sync=False)
                    answer = decode_appended(appended.header)
                    reply = await client.send(Op.SYNC, Sync(answer.incarnation, answer.position))
                assert reply.status == Status.OK
                self.settle(self.stored, number)
                if what > 0.9:
                    self.unsure.add(number)
                    order = DeleteBlocks(CATALOG, 1, [(pack_key(key_of(number)), 0)])
                    assert (await client.send(Op.DELETE_BLOCKS, order)).status == Status.OK
                    self.settle(self.deleted, number)
            except ConnectionError:
                return

    def settle(self, where: set[int], number: int) -> None:
        self.stored.discard(number)
        self.unsure.discard(number)
        where.add(number)

    @staticmethod
    def payload(number: int) -> bytes:
        return payload_of(number, 100 + number * 37 % 9000)


async def check(port: int, writers: Writers) -> None:
    async with connected(port) as client:
        for number in range(writers.next):
            reply = await client.read(key_of(number))
            if number in writers.stored - writers.unsure:
                assert reply.status == Status.OK, number
            elif number in writers.deleted:
                assert reply.status == Status.NOT_FOUND, number
            if reply.status == Status.OK:
                assert bytes(verify(reply.payload, key_of(number)).payload) == writers.payload(number)
        status = decode_node_status((await client.send(Op.STATUS, StatusRequest())).header)
        assert set(status.damage) <= {"torn"}


def test_p1_sigkill_among_16_writers_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """Killed again and again, the last time with its index deleted."""
    initialise(tmp_path, cluster_id=CLUSTER, name="n", region="r", zone="z", files=RealFiles())
    writers = Writers(1)

    async def write(process: subprocess.Popen[str], port: int, enough: int) -> None:
        async with connected(port) as client:
            tasks = [asyncio.create_task(writers.one(client)) for _ in range(16)]
            while writers.next < enough:
                await asyncio.sleep(0.001)
            process.kill()
            await asyncio.gather(*tasks)

    for round_ in range(1, 4):
        with node_process(tmp_path) as (process, port):
            asyncio.run(check(port, writers))
            asyncio.run(write(process, port, round_ * 700))
    assert len(writers.stored) > 1000
    with node_process(tmp_path) as (_, port):
        asyncio.run(check(port, writers))
    for path in (tmp_path / "index").iterdir():
        path.unlink()
    with node_process(tmp_path) as (_, port):
        asyncio.run(check(port, writers))


def test_a_node_loads_little_and_stays_small(tmp_path: Path) -> None:
    initialise(tmp_path, cluster_id=CLUSTER, name="n", region="r", zone="z", files=RealFiles())
    with node_process(tmp_path) as (process, _):
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        for library in ("pyeclib", "liberasurecode", "sqlite", "lxml", "httptools"):
            assert library not in maps
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
        )
        assert int(status["VmRSS"].split()[0]) < 40_000  # kB; 34,500 measured


def test_sigterm_by_default_is_survived(tmp_path: Path) -> None:
    initialise(tmp_path, cluster_id=CLUSTER, name="n", region="r", zone="z", files=RealFiles())

    async def put(port: int) -> None:
        async with connected(port) as client:
            assert (await client.put(key_of(1), b"x")).status == Status.OK

    async def read(port: int) -> None:
        async with connected(port) as client:
            assert (await client.read(key_of(1))).status == Status.OK

    with node_process(tmp_path) as (process, port):
        asyncio.run(put(port))
        os.kill(process.pid, signal.SIGTERM)
        process.wait()
    with node_process(tmp_path) as (_, port):
        asyncio.run(read(port))


def test_dump_shows_every_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    initialise(tmp_path, cluster_id=CLUSTER, name="n", region="r", zone="z", files=RealFiles())

    async def fill(port: int) -> None:
        async with connected(port) as client:
            await client.put(key_of(1), payload_of(1))
            await client.put(key_of(2), payload_of(2))
            await client.send(Op.DELETE_BLOCKS, DeleteBlocks(CATALOG, 1, [(pack_key(key_of(1)), 0)]))

    with node_process(tmp_path) as (_, port):
        asyncio.run(fill(port))
    (segment,) = (tmp_path / "segments").iterdir()
    content = bytearray(segment.read_bytes())
    content[content.rfind(payload_of(2))] ^= 1
    segment.write_bytes(content + b"rubbish behind")
    dump.main([str(segment)])
    shown = capsys.readouterr().out
    assert f"cluster {CLUSTER.hex()}" in shown
    assert shown.count("SHARD") == 2
    assert shown.count("BATCH") == 3
    assert shown.count("BAD PAYLOAD") == 1
    assert f"blob {key_of(2).blob.hex()} stripe 0 shard 1 code 2+1/1 stripe bytes 200" in shown
    assert "TOMBSTONE" in shown
    assert "deletes any copy" in shown
    assert "BAD  14 bytes are no record" in shown
    assert "not sealed" in shown
    with pytest.raises(SystemExit):
        dump.main(["/etc/hostname"])
