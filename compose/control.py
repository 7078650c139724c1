"""The supervisor's ear for the commands for people: DIR/run/control.sock, a Unix socket that only its owner may
connect to. One line of JSON asks, one answers, then the connection ends.

A command changes the catalog itself and then says `refresh`; fronts and steward see the catalog anyway. So a
store that doesn't run, or a supervisor that doesn't hear, only delays a change until the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Self

import msgspec

from compose.listening import listen_control, short_name

REFRESH = "refresh"
PROCESSES = "processes"
RESTART = "restart"
LINE_BYTES_MAX = 64 << 10
SAYING_S_MAX = 10.0
"""A caller has so long to say what it wants."""

_log = logging.getLogger("trivet.compose")


class Request(msgspec.Struct, frozen=True):
    """`process`: which one, where the verb is about one."""

    verb: str
    process: str = ""


class Reply(msgspec.Struct, frozen=True):
    """`problems` are for a person; empty when all went well. `processes`: those that the store keeps running, in the
    order in which they are restarted.
    """

    problems: list[str] = []
    processes: list[str] = []


Verbs = Mapping[str, Callable[[str], Awaitable[Reply]]]
"""Each is told the process."""


class ControlServer:
    """Hears requests while its `async with` lasts; what is under way at its end is cancelled."""

    def __init__(self, path: Path, verbs: Verbs) -> None:
        self._path = path
        self._verbs = verbs
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        listener = listen_control(self._path)
        self._server = await asyncio.start_unix_server(self._accept, sock=listener, limit=LINE_BYTES_MAX)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self._path.unlink(missing_ok=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._converse(reader, writer), name="control")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(SAYING_S_MAX):
                line = await reader.readline()
            writer.write(msgspec.json.encode(await self._answer(line)) + b"\n")
            await writer.drain()
        except (OSError, TimeoutError, ValueError) as error:  # ValueError: a line that is too long
            _log.info("a command was not understood: %s", error)
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> Reply:
        try:
            asked = msgspec.json.decode(line, type=Request)
        except msgspec.DecodeError as error:
            return Reply([f"not understood: {error}"])
        if asked.verb not in self._verbs:
            return Reply([f"{asked.verb!r} is not known to this release"])
        return await self._verbs[asked.verb](asked.process)


def tell(path: Path, verb: str, wait_s: float, process: str = "") -> Reply | None:
    """Says `verb`, of that `process`, to the supervisor that listens at `path`, and waits for its answer; None when
    none runs there. Raises TimeoutError.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(wait_s)
        try:
            with short_name(path) as name:
                connection.connect(name)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        connection.sendall(msgspec.json.encode(Request(verb, process)) + b"\n")
        said = b""
        with contextlib.suppress(ConnectionResetError):
            while received := connection.recv(LINE_BYTES_MAX):
                said += received
    return msgspec.json.decode(said, type=Reply) if said else None
