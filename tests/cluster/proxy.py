"""A TCP proxy before a node that understands frames: it holds, drops, changes or cuts what passes."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Self

from cluster import wire
from cluster.topology import NodeInfo

Rewrite = Callable[[wire.Frame], list[wire.Frame]]


def pass_on(frame: wire.Frame) -> list[wire.Frame]:
    return [frame]


class Proxy:
    """Stands before `node`; point links at `info`. Set `requests` and `replies` to change what passes.

    While `replies_flow` is clear nothing comes back from the node, as if it were frozen.
    """

    def __init__(self, node: NodeInfo) -> None:
        self._node = node
        self.info = node
        self.requests: Rewrite = pass_on
        self.replies: Rewrite = pass_on
        self.replies_flow = asyncio.Event()
        self.replies_flow.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._adopt, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.info = replace(self._node, address=(host, port))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Break all connections at once."""
        for writer in self._writers:
            writer.transport.abort()

    def shut(self) -> None:
        """Break all connections and take no new ones."""
        self._server.close()
        self.cut()

    def _adopt(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self._tasks.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            host, port = self._node.address
            node_reader, node_writer = await asyncio.open_connection(host, port)
            self._writers.add(node_writer)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pump(reader, node_writer, lambda: self.requests, None))
                    group.create_task(
                        self._pump(node_reader, writer, lambda: self.replies, self.replies_flow)
                    )
            except* (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                node_writer.transport.abort()
                writer.transport.abort()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        rewrite: Callable[[], Rewrite],
        flow: asyncio.Event | None,
    ) -> None:
        while True:
            prefix = await reader.readexactly(4)
            rest = await reader.readexactly(int.from_bytes(prefix, "little"))
            decoder = wire.FrameDecoder()
            frames = []
            content = memoryview(prefix + rest)
            while content:
                space = decoder.get_buffer(0)
                part = content[: len(space)]
                space[: len(part)] = part
                frames += decoder.buffer_updated(len(part))
                content = content[len(part) :]
            (frame,) = frames
            if flow is not None:
                await flow.wait()
            for out in rewrite()(frame):
                writer.write(
                    wire.encode_frame(
                        out.request_id, out.op, out.status, out.deadline_ms, out.header, len(out.payload)
                    )
                )
                writer.write(out.payload)
            await writer.drain()
