"""The supervisor's ear: who may speak, what it understands, and what it says when it does not."""

from __future__ import annotations

import asyncio
import socket
import stat
from pathlib import Path

import msgspec

from compose import control
from compose.control import ControlServer, Reply, tell
from compose.listening import short_name


async def _tell(path: Path, verb: str = control.REFRESH) -> Reply | None:
    return await asyncio.to_thread(tell, path, verb, 10.0)


async def test_a_verb_is_answered_and_others_are_not_known(tmp_path: Path) -> None:
    async def refresh(_process: str) -> Reply:
        return Reply(["node-4 can't join"])

    path = tmp_path / "control.sock"
    async with ControlServer(path, {control.REFRESH: refresh}):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert await _tell(path) == Reply(["node-4 can't join"])
        unknown = await _tell(path, "explode")
        assert unknown is not None
        assert "not known" in unknown.problems[0]
        assert "not understood" in (await asyncio.to_thread(_say, path, b"refresh\n")).problems[0]
    assert not path.exists()


def _say(path: Path, line: bytes) -> Reply:
    with socket.socket(socket.AF_UNIX) as connection, short_name(path) as name:
        connection.connect(name)
        connection.sendall(line)
        return msgspec.json.decode(connection.makefile("rb").readline(), type=Reply)


async def test_nobody_listens(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    assert await _tell(path) is None
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    assert await _tell(path) is None


async def test_a_path_too_long_for_a_unix_socket(tmp_path: Path) -> None:
    """Red when the path itself was bound."""
    folder = tmp_path / ("long" * 30)
    folder.mkdir()

    async def refresh(_process: str) -> Reply:
        return Reply()

    async with ControlServer(folder / "control.sock", {control.REFRESH: refresh}):
        assert await _tell(folder / "control.sock") == Reply()


async def test_the_end_does_not_wait_for_what_is_under_way(tmp_path: Path) -> None:
    began = asyncio.Event()

    async def never(_process: str) -> Reply:
        began.set()
        await asyncio.Event().wait()
        return Reply()

    path = tmp_path / "control.sock"
    async with ControlServer(path, {control.REFRESH: never}):
        telling = asyncio.create_task(_tell(path))
        await began.wait()
    assert await telling is None
