"""Starts child processes, watches their heartbeat, restarts them, stops them.

Every child runs in a process group of its own, so that Ctrl-C in the terminal reaches the supervisor
alone and the order of stopping stays in its hands. A child that exits is started again after a pause that
grows; one whose heartbeat is silent for too long is killed first (S16: a frozen front may hold the
catalog's file lock).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from compose.lifeline import BEAT_EVERY_S, READY
from compose.refusal import EXIT_REFUSED

RESTART_WAIT_S_MIN = 0.2
SETTLED_AFTER_S = 30.0
"""A child that lived this long has earned a quick restart again."""
REFUSED_WAIT_S = 60.0
"""A child that refuses to start (an unmounted disk, S23) is asked again this often: the cause may be
mended.
"""

_log = logging.getLogger("trivet.compose")


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """One process: its name in logs and pid files, its command line, the descriptors it inherits."""

    name: str
    command: tuple[str, ...]
    descriptors: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    stop_wait_s: float
    silence_s_max: float
    restart_wait_s_max: float


class Child:
    """Keeps one process running from `start` until `stop`."""

    def __init__(
        self,
        spec: ChildSpec,
        *,
        environment: Mapping[str, str],
        pid_file: Path,
        limits: Limits,
        clock: Callable[[], float],
    ) -> None:
        self.spec = spec
        self.ready = asyncio.Event()
        """Set while the running process has said that it can do its work."""
        self.answered = asyncio.Event()
        """Set once the process was ready, or has refused to start (and told the reason itself)."""
        self._environment = environment
        self._pid_file = pid_file
        self._limits = limits
        self._clock = clock
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._again = False
        self._keeper: asyncio.Task[None] | None = None
        self._heard_at = 0.0

    def start(self) -> None:
        assert self._keeper is None, "started twice"
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.spec.name}")

    async def wait_ended(self) -> None:
        """Returns, or raises what broke it, when this child is no longer kept running."""
        assert self._keeper is not None
        await asyncio.shield(self._keeper)

    async def stop(self) -> None:
        """Asks the process to stop (SIGTERM), kills it when it takes longer than it may, and waits for
        its end.
        """
        self._stopping.set()
        if self._keeper is None:
            return
        self._signal(signal.SIGTERM)
        _, running = await asyncio.wait({self._keeper}, timeout=self._limits.stop_wait_s)
        if running:
            _log.error("%s did not stop within %s s: killing it", self.spec.name, self._limits.stop_wait_s)
            self._signal(signal.SIGKILL)
        await self._keeper

    async def restart(self, wait_s: float) -> bool:
        """Asks the process to stop and starts it again at once; whether it was ready again within `wait_s`."""
        process = self._process
        if process is not None and not self._stopping.is_set():
            self._again = True
            self._signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(asyncio.shield(process.wait()), self._limits.stop_wait_s)
            except TimeoutError:
                _log.error(
                    "%s did not stop within %s s: killing it", self.spec.name, self._limits.stop_wait_s
                )
                self._signal(signal.SIGKILL)
                await process.wait()
            self.ready.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ready.wait(), wait_s)
        return self.ready.is_set()

    def end_at_once(self) -> None:
        """SIGKILL, and no other life after it; `stop` still waits for the end."""
        self._stopping.set()
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self._process is not None:
                self._process.send_signal(number)

    async def _keep(self) -> None:
        wait_s = RESTART_WAIT_S_MIN
        while not self._stopping.is_set():
            started_at = self._clock()
            try:
                code = await self._live()
            except OSError as error:  # no memory, no descriptors: as good a reason to try again as a crash
                _log.error("%s can't be started: %s", self.spec.name, error)
                code = 1
            if self._stopping.is_set():
                return
            if self._again:
                self._again, wait_s = False, RESTART_WAIT_S_MIN
                continue
            if code == EXIT_REFUSED:
                self.answered.set()
                wait_s = REFUSED_WAIT_S
            elif self._clock() - started_at > SETTLED_AFTER_S:
                wait_s = RESTART_WAIT_S_MIN
            _log.error("%s ended (%s): starting it again in %.1f s", self.spec.name, _ending(code), wait_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait_s)
            wait_s = min(wait_s * 2, self._limits.restart_wait_s_max)

    async def _live(self) -> int:
        """One life of the process, from its start to its exit code."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        with ours:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *self.spec.command,
                    "--supervisor-fd",
                    str(theirs.fileno()),
                    pass_fds=(*self.spec.descriptors, theirs.fileno()),
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=sys.stderr.fileno(),
                    process_group=0,
                )
            self._process = process
            if self._stopping.is_set():  # it was told to stop while it was being started
                self._signal(signal.SIGTERM)
            self._pid_file.write_text(f"{process.pid}\n", encoding="ascii")
            loop.add_reader(ours, self._hear, ours)
            try:
                return await self._watch(process)
            finally:
                loop.remove_reader(ours)
                self.ready.clear()
                self._process = None
                self._pid_file.unlink(missing_ok=True)

    def _hear(self, ours: socket.socket) -> None:
        try:
            said = ours.recv(4096)
        except BlockingIOError:
            return
        except ConnectionResetError:
            said = b""
        if not said:  # the process is ending; its exit is awaited in _watch
            asyncio.get_running_loop().remove_reader(ours)
            return
        self._heard_at = self._clock()
        if READY in said:
            self.ready.set()
            self.answered.set()
            _log.info("%s is ready", self.spec.name)

    async def _watch(self, process: asyncio.subprocess.Process) -> int:
        exit_code = asyncio.ensure_future(process.wait())
        looked_at = self._clock()
        while True:
            done, _ = await asyncio.wait({exit_code}, timeout=BEAT_EVERY_S)
            if done:
                return exit_code.result()
            now = self._clock()
            # While the supervisor itself was stopped (Ctrl-Z) it could hear nobody: that time does not count.
            self._heard_at += max(0.0, now - looked_at - 2 * BEAT_EVERY_S)
            looked_at = now
            silence_s = now - self._heard_at
            if self.ready.is_set() and silence_s > self._limits.silence_s_max:
                _log.error("%s has been silent for %.0f s: killing it", self.spec.name, silence_s)
                self._signal(signal.SIGKILL)
                return await exit_code


def _ending(code: int) -> str:
    if code == EXIT_REFUSED:
        return "it refused to start"
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


async def stop_in_order(stages: Sequence[Sequence[Child]]) -> None:
    """Stops each stage's children together, and one stage after the other."""
    for stage in stages:
        await asyncio.gather(*(child.stop() for child in stage))
