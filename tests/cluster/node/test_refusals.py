"""What a node process does not serve, and strangers at its port: a clear error, nothing lost, nobody disturbed."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path

import msgspec
import pytest

from cluster.handshake import (
    ClientHandshake,
    HandshakeFailed,
    NoCommonVersion,
    WrongCluster,
    WrongNode,
    WrongSecret,
)
from cluster.node.files import RealFiles
from cluster.node.identity import IDENTITY_FILE, NodeIdentity, initialise
from cluster.wire import (
    HANDSHAKE_FRAME_BYTES,
    MAX_FRAME_BYTES,
    VERSION_MAX,
    Op,
    Role,
    Status,
    encode_frame,
)
from codec.block import verify
from tests.cluster.node.node_bench import CLUSTER, SECRET, key_of, payload_of
from tests.cluster.node.node_client import NodeClient
from tests.cluster.node.test_process import NODE_PROGRAM, connected, node_process

OTHER_CLUSTER = b"x" * 16


def new_node(directory: Path, name: str = "node-1") -> NodeIdentity:
    directory.mkdir(exist_ok=True)
    return initialise(directory, cluster_id=CLUSTER, name=name, region="r", zone="z", files=RealFiles())


def filled(directory: Path) -> NodeIdentity:
    """A node that was served, holds blocks 0-9, and was killed."""
    identity = new_node(directory)
    with node_process(directory) as (_, port):
        talk(port, put_all)
    return identity


def talk(port: int, what: Callable[[NodeClient], Coroutine[object, object, None]]) -> None:
    async def main() -> None:
        async with connected(port) as client:
            await what(client)

    asyncio.run(asyncio.wait_for(main(), 20))


async def put_all(client: NodeClient) -> None:
    for number in range(10):
        assert (await client.put(key_of(number), payload_of(number))).status == Status.OK


async def read_all(client: NodeClient) -> None:
    for number in range(10):
        reply = await client.read(key_of(number))
        assert bytes(verify(reply.payload, key_of(number)).payload) == payload_of(number)


def refusal(directory: Path, *, cluster: bytes = CLUSTER, node: bytes | None = None) -> str:
    """What a node process says that must not start there. It must end by itself."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        program = NODE_PROGRAM.replace("segment_bytes=", f"node_id={node!r}, segment_bytes=")
        arguments = [str(directory), str(listener.fileno()), cluster.hex(), SECRET.hex(), "0"]
        ended = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            pass_fds=[listener.fileno()],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    assert ended.returncode != 0
    assert "ready" not in ended.stdout
    assert "NodeRefused" in ended.stderr
    return ended.stderr.splitlines()[-1]


async def introduce(port: int, error: type[HandshakeFailed], **wrong: object) -> str:
    """What a client hears that begins with something `wrong`."""

    def client() -> NodeClient:
        made = NodeClient()
        arguments = {"secret": SECRET, "cluster_id": CLUSTER, "role": Role.FRONT} | wrong
        made.handshake = ClientHandshake(**arguments)  # type: ignore[arg-type]
        return made

    _, stranger = await asyncio.get_running_loop().create_connection(client, "127.0.0.1", port)
    with pytest.raises(error) as caught:
        await stranger.ready
    stranger.transport.close()
    await stranger.lost
    return str(caught.value)


def content_of(directory: Path) -> dict[str, bytes]:
    """All but the lock, which is the kernel's."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != "lock.mdb")
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def test_s23_the_directory_of_another_cluster(tmp_path: Path) -> None:
    filled(tmp_path)
    before = content_of(tmp_path)
    assert f"belongs to another cluster ({CLUSTER.hex()})" in refusal(tmp_path, cluster=OTHER_CLUSTER)
    assert content_of(tmp_path) == before
    with node_process(tmp_path) as (_, port):
        talk(port, read_all)


def test_s23_an_unmounted_disk(tmp_path: Path) -> None:
    assert "is its disk mounted?" in refusal(tmp_path)
    assert content_of(tmp_path) == {}
    assert "is its disk mounted?" in refusal(tmp_path / "nothing")


def test_s23_two_processes_in_one_directory(tmp_path: Path) -> None:
    """The one that runs is not disturbed."""
    new_node(tmp_path)
    with node_process(tmp_path) as (_, port):
        talk(port, put_all)
        assert "in use by another process" in refusal(tmp_path)
        talk(port, read_all)


def test_s23_two_nodes_with_one_id(tmp_path: Path) -> None:
    """A directory copied to where another node lived: its process refuses, and fronts refuse its answer."""
    first, second = tmp_path / "1", tmp_path / "2"
    identity = filled(first)
    replaced = new_node(second, "node-2")
    shutil.rmtree(second)
    shutil.copytree(first, second)
    before = content_of(second)
    line = refusal(second, node=replaced.node_id)
    assert f"is the home of node {identity.node_id.hex()}, not of this one" in line
    assert content_of(second) == before

    with node_process(first) as (_, port), node_process(second) as (_, port_of_copy):
        text = asyncio.run(introduce(port_of_copy, WrongNode, node_id=replaced.node_id))
        assert f"this is node {identity.node_id.hex()}, not {replaced.node_id.hex()}" in text
        talk(port, read_all)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "has format 2; this release knows 1"),
        ({"format": 2, "encryption": {"of": "a later release"}}, "has format 2; this release knows 1"),
        ({"surprise": 1}, "can't be understood"),
    ],
)
def test_a_directory_of_a_newer_format(tmp_path: Path, change: dict[str, object], words: str) -> None:
    """It says so, also when it can't read the rest, and goes on with the release that wrote it."""
    filled(tmp_path)
    path = tmp_path / IDENTITY_FILE
    content = path.read_bytes()
    path.write_bytes(msgspec.json.encode(msgspec.json.decode(content) | change))
    before = content_of(tmp_path)
    assert words in refusal(tmp_path)
    assert content_of(tmp_path) == before
    path.write_bytes(content)
    with node_process(tmp_path) as (_, port):
        talk(port, read_all)


def test_strangers_at_the_port(tmp_path: Path) -> None:
    """Wrong secret, cluster, version; garbage; oversized lengths: one connection ends, a front in the middle
    of its work does not notice, nothing is lost, and the node's memory does not follow the lengths."""
    seed = 5
    print(f"seed {seed}")
    chance = random.Random(seed)
    new_node(tmp_path)

    async def knock(port: int, data: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        try:
            await reader.read()
        except ConnectionError:
            pass  # closed with our rubbish unread
        finally:
            writer.close()

    async def main(process: subprocess.Popen[str], port: int) -> None:
        done = asyncio.Event()

        async def work(client: NodeClient) -> None:
            while not done.is_set():
                await put_all(client)
                await read_all(client)

        async with connected(port) as front, connected(port) as broken, asyncio.TaskGroup() as tasks:
            working = tasks.create_task(work(front))
            later = VERSION_MAX + 1
            # Said by the node: a client that pretends would not mind what itself thinks of the node's proof.
            text = await introduce(port, WrongSecret, secret=b"y" * 32)
            assert "refused by the node: the peer does not know the cluster secret" in text
            assert "another cluster" in await introduce(port, WrongCluster, cluster_id=OTHER_CLUSTER)
            text = await introduce(port, NoCommonVersion, versions=(later, later + 1))
            assert f"peer speaks versions {later}-{later + 1}" in text
            for length in (HANDSHAKE_FRAME_BYTES, MAX_FRAME_BYTES, (1 << 31) - 1, (1 << 32) - 1):
                await knock(port, length.to_bytes(4, "little") + bytes(100))
            for _ in range(50):
                await knock(port, chance.randbytes(chance.randrange(20, 300)))
            broken.transport.write(encode_frame(1, Op.PUT_BLOCK, 0, 0, b"", (1 << 32) - 100))
            await broken.lost
            done.set()
            await working
            resident = Path(f"/proc/{process.pid}/statm").read_text().split()[1]
            assert int(resident) * os.sysconf("SC_PAGE_SIZE") < 64 << 20

    with node_process(tmp_path) as (process, port):
        asyncio.run(asyncio.wait_for(main(process, port), 30))
    with node_process(tmp_path) as (_, port):
        talk(port, read_all)
