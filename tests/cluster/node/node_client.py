"""A raw client of a node and a node served in the same loop, for tests of the wire."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

from cluster.handshake import ClientHandshake
from cluster.node.config import NodeConfig
from cluster.node.files import FileLayer, RealFiles
from cluster.node.identity import initialise, is_initialised
from cluster.node.server import open_service, run
from cluster.node.service import Service
from cluster.wire import (
    Frame,
    FrameDecoder,
    Message,
    Op,
    PutBlock,
    ReadBlock,
    Role,
    encode,
    encode_frame,
)
from codec.block import BlockKey, page_checksums
from tests.cluster.node.node_bench import CLUSTER, SECRET


class NodeClient(asyncio.BufferedProtocol):
    """Pipelined calls; a dict of futures."""

    def __init__(self, secret: bytes = SECRET, cluster_id: bytes = CLUSTER) -> None:
        loop = asyncio.get_running_loop()
        self.decoder = FrameDecoder()
        self.handshake = ClientHandshake(secret=secret, role=Role.FRONT, cluster_id=cluster_id)
        self.ready: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self.replies: dict[int, asyncio.Future[Frame]] = {}
        self.write_paused = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self.handshake.start())

    def connection_lost(self, exc: Exception | None) -> None:
        waiting: list[asyncio.Future[Any]] = [*self.replies.values(), self.ready]
        for future in waiting:
            if not future.done():
                future.set_exception(ConnectionError("connection lost"))
                future.exception()  # it may be that nobody waits
        self.lost.set_result(None)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.decoder.get_buffer(sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        for frame in self.decoder.buffer_updated(nbytes):
            if self.handshake.result is None:
                self._shake(frame)
            else:
                self.replies.pop(frame.request_id).set_result(frame)

    def _shake(self, frame: Frame) -> None:
        try:
            answer = self.handshake.receive(frame)
        except Exception as error:  # noqa: BLE001 - the test wants to see it
            self.ready.set_exception(error)
            self.ready.exception()
            return
        if answer:
            self.transport.write(answer)
        if self.handshake.result is not None:
            self.ready.set_result(None)

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False

    def send(
        self, op: int, header: bytes | Message, payload: bytes = b"", *, deadline_ms: int = 0
    ) -> asyncio.Future[Frame]:
        request_id = len(self.replies) and max(self.replies) + 1
        while request_id in self.replies:
            request_id += 1
        packed = header if isinstance(header, bytes) else encode(header)
        future: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self.replies[request_id] = future
        self.transport.write(encode_frame(request_id, op, 0, deadline_ms, packed, len(payload)) + payload)
        return future

    def put(
        self, key: BlockKey, payload: bytes, *, sync: bool = True, deadline_ms: int = 0
    ) -> asyncio.Future[Frame]:
        message = PutBlock(*key, 2, 1, 1, 2 * len(payload), page_checksums(payload), sync)
        return self.send(Op.PUT_BLOCK, message, payload, deadline_ms=deadline_ms)

    def read(self, key: BlockKey, start: int = 0, stop: int = 0) -> asyncio.Future[Frame]:
        return self.send(Op.READ_BLOCK, ReadBlock(*key, start, stop))


class ServedNode:
    """A node on an ephemeral port of this loop."""

    def __init__(self, task: asyncio.Task[None], service: Service, port: int) -> None:
        self.task = task
        self.service = service
        self.port = port
        self.clients: list[NodeClient] = []

    async def connect(
        self, secret: bytes = SECRET, cluster_id: bytes = CLUSTER, *, wait: bool = True
    ) -> NodeClient:
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(
            lambda: NodeClient(secret, cluster_id), "127.0.0.1", self.port
        )
        self.clients.append(client)
        if wait:
            await client.ready
        return client

    async def hang_up(self) -> None:
        for client in self.clients:
            client.transport.close()
            await client.lost

    async def stop(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


def config_for(directory: Path, **settings: object) -> NodeConfig:
    arguments: dict[str, object] = {"index_map_bytes": 1 << 24, "reserve_bytes": 0} | settings
    return NodeConfig(directory=directory, cluster_id=CLUSTER, secret=SECRET, **arguments)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def served(
    directory: Path, files: FileLayer | None = None, **settings: object
) -> AsyncIterator[ServedNode]:
    """A node that serves `directory`, made when it is new; stopped cleanly at the end."""
    if not is_initialised(directory):
        initialise(directory, cluster_id=CLUSTER, name="node-1", region="r", zone="z", files=RealFiles())
    service = await open_service(config_for(directory, **settings), files or RealFiles())
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        ready = asyncio.Event()
        task = asyncio.create_task(run(service, listener, ready.set))
        await ready.wait()
        node = ServedNode(task, service, listener.getsockname()[1])
        try:
            yield node
        finally:
            await node.hang_up()
            if not task.done():
                await node.stop()
