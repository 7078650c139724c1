"""Connections without sockets: streams of bytes that arrive late, wait behind a cut, or break.

As TCP does it: a connection delivers in order or ends, nothing in between. A reply is lost when its connection
breaks before it has arrived. Behind a blocked path bytes wait until it opens again or one side gives up.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.sim.loop import PROCESS, Process, SimLoop

Address = tuple[str, int]
_NOBODY = contextvars.Context()  # the network itself: no process


class Listener(Protocol):
    """Who listens at an address: a new protocol for each connection, within `process`."""

    process: Process

    def accept(self) -> asyncio.BufferedProtocol: ...


@dataclass(slots=True)
class Path:
    """Between one process and one address; latencies in seconds, one way."""

    latency_s: float = 0.0003
    jitter_s: float = 0.0004
    blocked: bool = False
    pipes: list[Pipe] = field(default_factory=list)

    def block(self) -> None:
        """Nothing passes any more, and nobody is told."""
        self.blocked = True

    def open(self) -> None:
        """What waited arrives."""
        self.blocked = False
        for pipe in list(self.pipes):
            pipe.flush()

    def cut(self) -> None:
        """All connections break: what is on its way is lost, both sides learn of it."""
        for pipe in list(self.pipes):
            pipe.break_off()


class Network:
    """Listeners by address, and the paths to them by process name."""

    def __init__(self, loop: SimLoop, chance: random.Random) -> None:
        self.loop = loop
        self.chance = chance
        self.listeners: dict[Address, Listener] = {}
        self._paths: dict[tuple[str, Address], Path] = {}
        loop.connect = self.connect

    def path(self, name: str, address: Address) -> Path:
        """The path from the process of that name."""
        return self._paths.setdefault((name, address), Path())

    def paths_to(self, address: Address) -> list[Path]:
        """All of them."""
        return [path for (_, to), path in self._paths.items() if to == address]

    async def connect(self, address: Address, factory: Callable[[], Any]) -> tuple[Any, Any]:
        """For `create_connection`. Raises ConnectionRefusedError; behind a blocked path it never returns."""
        client = PROCESS.get()
        assert client is not None, "only processes connect"
        path = self.path(client.name, address)
        await asyncio.sleep(path.latency_s * 2)
        if path.blocked:
            await self.loop.create_future()
        listener = self.listeners.get(address)
        if listener is None or listener.process.dead:
            raise ConnectionRefusedError(f"nobody listens at {address}")
        protocol = factory()
        server = (listener.process, listener.accept())
        pipe = Pipe(self, path, client=(client, protocol), server=server)
        protocol.connection_made(pipe.client)
        return pipe.client, protocol


class Pipe:
    """One connection: two ends and what is on its way between them."""

    def __init__(
        self,
        network: Network,
        path: Path,
        *,
        client: tuple[Process, asyncio.BufferedProtocol],
        server: tuple[Process, asyncio.BufferedProtocol],
    ) -> None:
        self.network = network
        self.path = path
        self.client = End(self, *client)
        self.server = End(self, *server)
        self.client.peer, self.server.peer = self.server, self.client
        path.pipes.append(self)
        network.loop.call_soon(server[1].connection_made, self.server, context=server[0].context)

    def flush(self) -> None:
        """The path is open again."""
        for end in (self.client, self.server):
            waiting, end.waiting = end.waiting, []
            for data in waiting:
                end.send(data)

    def break_off(self) -> None:
        """Both sides see a reset."""
        for end in (self.client, self.server):
            end.lose(ConnectionResetError("connection reset"))

    def forget(self) -> None:
        """One end is gone; the other learns of it unless the path is blocked."""
        if self in self.path.pipes:
            self.path.pipes.remove(self)
        if not self.path.blocked:
            for end in (self.client, self.server):
                end.lose(ConnectionResetError("connection reset by peer"))


class End(asyncio.Transport):
    """One side's transport."""

    peer: End

    def __init__(self, pipe: Pipe, process: Process, protocol: asyncio.BufferedProtocol) -> None:
        super().__init__()
        self.pipe = pipe
        self.process = process
        self.protocol = protocol
        self.waiting: list[bytes] = []  # behind a blocked path
        self.lost = False
        self._arrives_s = 0.0
        self._held: list[bytes] = []  # arrived while its reader pauses
        self._paused = False

    def write(self, data: Any) -> None:
        if not self.lost:
            self.send(bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        if not self.lost:
            self.send(b"".join(list_of_data))

    def send(self, data: bytes) -> None:
        """Off it goes, in order behind what went before."""
        path, loop = self.pipe.path, self.pipe.network.loop
        if path.blocked:
            self.waiting.append(data)
            return
        delay = path.latency_s + path.jitter_s * self.pipe.network.chance.random()
        self._arrives_s = max(self._arrives_s, loop.now + delay)
        peer = self.peer
        loop.call_at(self._arrives_s, peer.arrived, data, context=peer.process.context)

    def arrived(self, data: bytes) -> None:
        """In the process of this end."""
        if self.lost:
            return
        if self._paused:
            self._held.append(data)
            return
        protocol, view = self.protocol, memoryview(data)
        while view and not self.lost:
            buffer = memoryview(protocol.get_buffer(-1))
            n = min(len(buffer), len(view))
            buffer[:n] = view[:n]
            protocol.buffer_updated(n)
            view = view[n:]

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        held, self._held = self._held, []
        for data in held:
            self.arrived(data)

    def is_closing(self) -> bool:
        return self.lost

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        self.lose(None)
        loop, pipe = self.pipe.network.loop, self.pipe
        loop.call_at(loop.now + pipe.path.latency_s, pipe.forget, context=_NOBODY)

    def lose(self, error: Exception | None) -> None:
        """The connection is over for this side."""
        if not self.lost:
            self.lost = True
            self.pipe.network.loop.call_soon(
                self.protocol.connection_lost, error, context=self.process.context
            )

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.process.name if name == "peername" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is buffered."""
