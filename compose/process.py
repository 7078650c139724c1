"""What every long-running process of ours does around its work: event loop, signals, heartbeat."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from compose.lifeline import Lifeline

log = logging.getLogger(__name__)

OnReady = Callable[[], None]

ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(2 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(4 << 20),
    "MALLOC_ARENA_MAX": "2",
}
"""glibc would give each buffer of a stripe back to the kernel and fetch it page by page again: kept, encoding a MiB
takes 0.07 ms instead of 0.5, and large writes double. Two arenas, because many keep memory that one would reuse.
"""


def run_until_stopped(
    work: Callable[[OnReady], Coroutine[Any, Any, None]],
    *,
    supervisor_fd: int | None,
    stop_wait_s: float,
    own_signals: bool = False,
) -> None:
    """Runs `work(on_ready)` on uvloop until it returns or SIGTERM or SIGINT cancels it.

    `own_signals`: the work handles both signals itself (uvicorn does).
    """
    _take_open_files()
    import uvloop  # here, because the supervisor, which runs none of this, imports this module too

    lifeline = Lifeline(supervisor_fd, stop_wait_s)

    async def live() -> None:
        task = asyncio.current_task()
        assert task is not None
        if not own_signals:
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await work(lifeline.ready)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(live())


def _take_open_files() -> None:
    """Every connection and every segment is an open file. The usual soft limit of 1,024 is there for programs that use
    select(2), which ours do not."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == most:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (OSError, ValueError) as error:  # a container that forbids it; more than the kernel's own limit
        log.warning("this process may have no more than %d open files: %s", soft, error)


def inherited_listener(descriptor: int) -> socket.socket:
    """The listening socket that a supervisor left open for this process, kept from processes started by
    it.
    """
    listener = socket.socket(fileno=descriptor)
    listener.set_inheritable(False)
    return listener


def trivet_command() -> tuple[str, ...]:
    """How this program starts another process of itself."""
    return (sys.executable, "-m", "compose.cli.main")
