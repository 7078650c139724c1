"""All processes of one `trivet up`: started in order, kept running, stopped in order (see compose.up)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from functools import partial

from compose import control, credentials, listening
from compose.banner import banner
from compose.data_dir import DataDir
from compose.founding_plan import FoundingPlan
from compose.founding_process import found
from compose.lifeline import ServiceManager
from compose.node_children import NodeChildren
from compose.process import ALLOCATOR, trivet_command
from compose.refusal import StartRefused
from compose.settings import Settings
from compose.supervisor import Child, ChildSpec, Limits, stop_in_order

NODES_WAIT_S = 60.0
"""A node that has to rebuild its index may come later: the store starts as soon as enough of them are
there.
"""
FRONTS_WAIT_S = 60.0
SAME_WORD_S = 1.0
"""A process above us (make, timeout) may pass on a signal that its group got already: that is one and the
same.
"""

_log = logging.getLogger("trivet.compose")


class Store:
    """All processes of one `trivet up`."""

    def __init__(
        self,
        *,
        settings: Settings,
        data: DataDir,
        environment: Mapping[str, str],
        s3_socket: socket.socket,
        lock: int,
    ) -> None:
        self._settings = settings
        self._data = data
        self._environment = {**ALLOCATOR, **environment, **settings.to_environment()}
        self._service_manager = ServiceManager(environment)
        self._s3_socket = s3_socket
        self._lock = lock
        self._nodes = NodeChildren(
            data,
            self._child,
            partial(found, environment=self._environment, lock=lock),
            self._keep,
        )
        self._stewards: list[Child] = []
        self._fronts: list[Child] = []
        self._watches: set[asyncio.Task[None]] = set()
        self._founded = asyncio.Event()
        self._started = asyncio.Event()
        self._stop = asyncio.Event()
        self._broken: asyncio.Future[None]
        self._told_at = 0.0

    async def run(self, root: credentials.RootCredentials, plan: FoundingPlan) -> int:
        loop = asyncio.get_running_loop()
        self._broken = loop.create_future()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._told_to_stop, number)
        verbs: control.Verbs = {
            control.REFRESH: self._refresh,
            control.PROCESSES: self._processes,
            control.RESTART: self._restart,
        }
        starting = asyncio.create_task(self._start(plan))
        stopping = asyncio.create_task(self._stop.wait())
        try:
            async with control.ControlServer(self._data.control, verbs):
                await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not self._stop.is_set():
                    await starting
                    print(self._banner(root), flush=True)
                    self._service_manager.ready()
                    await asyncio.wait(
                        (stopping, asyncio.ensure_future(self._broken)), return_when=asyncio.FIRST_COMPLETED
                    )
        finally:
            self._service_manager.stopping()
            starting.cancel()
            stopping.cancel()
            await asyncio.gather(starting, stopping, return_exceptions=True)
            await stop_in_order((self._fronts, self._stewards, self._nodes.children))
            _log.info("stopped")
        if self._broken.done():
            self._broken.result()
        return 0

    def _told_to_stop(self, number: signal.Signals) -> None:
        if not self._stop.is_set():
            _log.info("stopping (%s)", signal.Signals(number).name)
            self._stop.set()
            self._told_at = time.monotonic()
        elif time.monotonic() - self._told_at > SAME_WORD_S:
            _log.warning("told again to stop: killing what still runs")
            for child in (*self._fronts, *self._stewards, *self._nodes.children):
                child.end_at_once()

    def _keep(self, child: Child) -> None:
        """Starts it; what breaks its keeping, which is a fault of ours, ends the store."""

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) and not self._broken.done():
                self._broken.set_exception(error)

        child.start()
        task = asyncio.create_task(child.wait_ended(), name=f"watch {child.spec.name}")
        self._watches.add(task)
        task.add_done_callback(self._watches.discard)
        task.add_done_callback(ended)

    async def _start(self, plan: FoundingPlan) -> None:
        await self._nodes.settle(plan)
        self._founded.set()
        await self._await_nodes()
        self._tell_about_disks()
        self._stewards.append(self._child("steward", ("steward",), ()))
        listen_fd = self._s3_socket.fileno()
        for number in range(1, self._front_count() + 1):
            command = ("front", "--name", f"front-{number}", "--listen-fd", str(listen_fd))
            self._fronts.append(self._child(f"front-{number}", command, (listen_fd,)))
        for child in (*self._stewards, *self._fronts):
            self._keep(child)
        await self._await_fronts()
        self._started.set()

    async def _processes(self, _process: str) -> control.Reply:
        """A node only while all that were there before it are there again, a front under the socket that stays open."""
        await self._started.wait()
        return control.Reply(processes=[child.spec.name for child in self._children()])

    async def _restart(self, process: str) -> control.Reply:
        """One process, until it is ready again. Whether the next one may go is for compose.restarting to say."""
        await self._started.wait()
        for child in self._children():
            if child.spec.name == process:
                wait_s = NODES_WAIT_S if child in self._nodes.children else FRONTS_WAIT_S
                if await child.restart(wait_s):
                    return control.Reply()
                return control.Reply(
                    [f"{process} does not come back (see the log for why): the rest is as it was"]
                )
        return control.Reply([f"there is no process {process} (any more)"])

    def _children(self) -> list[Child]:
        return [*self._nodes.children, *self._stewards, *self._fronts]

    async def _refresh(self, _process: str) -> control.Reply:
        """The catalog has other nodes than before: run those."""
        await self._founded.wait()
        try:
            return control.Reply(await self._nodes.settle(FoundingPlan(nodes=[])))
        except StartRefused as refusal:
            _log.error("the nodes could not be settled: %s", refusal)
            return control.Reply([str(refusal)])

    def _child(self, name: str, command: tuple[str, ...], descriptors: tuple[int, ...]) -> Child:
        return Child(
            ChildSpec(name, (*trivet_command(), *command), (*descriptors, self._lock)),
            environment=self._environment,
            pid_file=self._data.pid_file(name),
            limits=Limits(
                stop_wait_s=self._settings.stop_wait_s,
                silence_s_max=self._settings.silence_s_max,
                restart_wait_s_max=self._settings.restart_wait_s_max,
            ),
            clock=time.monotonic,
        )

    def _front_count(self) -> int:
        return self._settings.fronts or max(1, len(os.sched_getaffinity(0)) // 2)

    async def _await_nodes(self) -> None:
        """Returns when all are ready, or enough of them and the rest had its time or refused (P2)."""
        children = self._nodes.children
        await _answers(children, NODES_WAIT_S)
        ready = sum(child.ready.is_set() for child in children)
        needed = self._settings.data_shards - self._nodes.elsewhere
        if ready < needed:
            raise StartRefused(
                f"only {ready} of {len(children)} nodes started, and reading needs "
                f"{needed} (the reasons stand above)"
            )
        for child in children:
            if not child.ready.is_set():
                _log.error("%s is missing: starting without it, with less redundancy", child.spec.name)

    async def _await_fronts(self) -> None:
        children = (*self._stewards, *self._fronts)
        await _answers(children, FRONTS_WAIT_S)
        for child in children:
            if not child.ready.is_set():
                raise StartRefused(f"{child.spec.name} did not start (the reason stands above)")

    def _tell_about_disks(self) -> None:
        directories = self._nodes.directories
        devices = {directory.stat().st_dev for directory in directories if directory.exists()}
        if len(devices) < len(directories):
            _log.warning(
                "some nodes share a disk: the loss of any one node's process loses nothing, the loss of "
                "that disk may (give each node a disk of its own with --node-dir)"
            )

    def _banner(self, root: credentials.RootCredentials) -> str:
        return banner(
            listening.url(self._s3_socket),
            region=self._settings.region,
            data=self._data,
            root=root,
            environment=self._environment,
        )


async def _answers(children: Sequence[Child], wait_s: float) -> None:
    """Waits until each child is ready or has refused, but no longer than `wait_s`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await asyncio.gather(*(child.answered.wait() for child in children))
