"""Processes tell systemd that they are ready and alive, in the words of sd_notify(3)."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from compose.lifeline import Lifeline, ServiceManager


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        yield listening


async def _hear(ear: socket.socket, count: int) -> list[bytes]:
    async with asyncio.timeout(10):
        return [await asyncio.get_running_loop().sock_recv(ear, 100) for _ in range(count)]


async def test_ready_then_a_beat_within_half_the_period(ear: socket.socket) -> None:
    """Red without the beat: systemd would kill a process that works."""
    environment = {
        "NOTIFY_SOCKET": ear.getsockname(),
        "WATCHDOG_USEC": "20000",
        "WATCHDOG_PID": str(os.getpid()),
    }
    manager = ServiceManager(environment)
    manager.ready()
    began = asyncio.get_running_loop().time()
    assert await _hear(ear, 5) == [b"READY=1"] + [b"WATCHDOG=1"] * 4
    assert asyncio.get_running_loop().time() - began >= 0.025
    manager.stopping()
    heard = b""
    while heard != b"STOPPING=1":
        (heard,) = await _hear(ear, 1)


@pytest.mark.parametrize("watchdog", [{}, {"WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"}])
async def test_who_is_not_watched_does_not_beat(ear: socket.socket, watchdog: dict[str, str]) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": ear.getsockname(), **watchdog})
    manager.ready()
    manager.stopping()
    assert await _hear(ear, 2) == [b"READY=1", b"STOPPING=1"]


async def test_a_name_in_the_abstract_namespace() -> None:
    name = f"trivet-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind("\0" + name)
        ear.setblocking(False)
        ServiceManager({"NOTIFY_SOCKET": "@" + name}).ready()
        assert await _hear(ear, 1) == [b"READY=1"]


async def test_nobody_there_is_no_reason_to_stop(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ServiceManager({}).ready()
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()
    assert caplog.messages == ["systemd can't be told READY=1: No such file or directory"]


async def test_a_process_tells_its_supervisor_or_systemd(
    ear: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never both: the supervisor is what systemd watches, and its children inherit its variables."""
    monkeypatch.setenv("NOTIFY_SOCKET", ear.getsockname())
    monkeypatch.setattr(Lifeline, "_watch", lambda _self: None)  # its thread would end this process
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        supervised = Lifeline(os.dup(theirs.fileno()), 1.0)
        supervised.ready()
        assert (await asyncio.get_running_loop().sock_recv(ours, 1)) == b"r"
        with pytest.raises(BlockingIOError):
            ear.recv(100)
        assert supervised._socket is not None
        supervised._socket.close()
    alone = Lifeline(None, 1.0)
    alone.ready()
    alone.ready()
    assert await _hear(ear, 1) == [b"READY=1"]
    with pytest.raises(BlockingIOError):
        ear.recv(100)
