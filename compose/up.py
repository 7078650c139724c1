"""``trivet up``: the whole store on one machine, from an empty directory to a printed endpoint, and back
down.

Order of starting: port, data directory, credentials, cluster secret, catalog and node directories (in a
short-lived child, because the supervisor stays small: it loads neither SQL nor HTTP), nodes, steward and
fronts. Order of stopping: fronts, steward, nodes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from compose import credentials, listening
from compose.data_dir import DataDir
from compose.founding_plan import FoundedStore, FoundingPlan, PlannedNode
from compose.process import trivet_command
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
REGIONS = ("us-east-1", "us-west-1", "eu-west-1")

ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(2 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(4 << 20),
    "MALLOC_ARENA_MAX": "2",
}
"""glibc would give each buffer of a stripe back to the kernel and fetch it page by page again: kept, encoding a MiB
takes 0.07 ms instead of 0.5, and large writes double. Two arenas, because many keep memory that one would reuse.
"""

_log = logging.getLogger("trivet.compose")


def up(settings: Settings, environment: Mapping[str, str]) -> int:
    """Runs until it is told to stop; the process's exit code. Raises StartRefused before anything runs."""
    settings = replace(
        settings,
        data=settings.data.absolute(),
        node_dirs=tuple(directory.absolute() for directory in settings.node_dirs),
    )
    credentials.from_environment(environment)  # half a pair is refused before anything is created
    node_dirs = plan_node_dirs(settings)
    data = DataDir(settings.data)
    with listening.listen_s3(settings.host, settings.port) as s3_socket:
        lock = data.hold(settings.stop_wait_s + 5.0)
        try:
            root = credentials.settle(data, environment)
            credentials.settle_cluster_secret(data)
            _clear_run_files(data)
            data.pid_file("supervisor").write_text(f"{os.getpid()}\n", encoding="ascii")
            try:
                store = Store(
                    settings=settings,
                    data=data,
                    environment=environment,
                    s3_socket=s3_socket,
                    lock=lock,
                    node_dirs=node_dirs,
                )
                return asyncio.run(store.run(root))
            finally:
                _clear_run_files(data)
        finally:
            os.close(lock)


def plan_node_dirs(settings: Settings) -> tuple[Path, ...]:
    """One directory for each node. Raises StartRefused when there are too few for k + m, or one named
    twice.
    """
    directories = settings.node_dirs
    if not directories:
        data = DataDir(settings.data)
        return tuple(data.node(number) for number in range(1, max(3, settings.width) + 1))
    if len(directories) < settings.width:
        raise StartRefused(
            f"{len(directories)} --node-dir given, but {settings.data_shards}+{settings.parity_shards} "
            f"shards need {settings.width} nodes: give --node-dir once for each node"
        )
    resolved = [directory.resolve() for directory in directories]
    if len(set(resolved)) < len(resolved):
        raise StartRefused("the same directory is given to two nodes: each --node-dir must be another one")
    return directories


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
        node_dirs: Sequence[Path],
    ) -> None:
        self._settings = settings
        self._data = data
        self._environment = {**ALLOCATOR, **environment, **settings.to_environment()}
        self._s3_socket = s3_socket
        self._lock = lock
        self._node_dirs = node_dirs
        self._node_sockets: list[socket.socket] = []
        self._nodes: list[Child] = []
        self._stewards: list[Child] = []
        self._fronts: list[Child] = []
        self._stop = asyncio.Event()
        self._told_at = 0.0

    async def run(self, root: credentials.RootCredentials) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._told_to_stop, number)
        starting = asyncio.create_task(self._start())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not self._stop.is_set():
                await starting
                print(self._banner(root), flush=True)
                await self._run_until_stopped(stopping)
        finally:
            starting.cancel()
            stopping.cancel()
            await asyncio.gather(starting, stopping, return_exceptions=True)
            await stop_in_order((self._fronts, self._stewards, self._nodes))
            _log.info("stopped")
        return 0

    def _told_to_stop(self, number: signal.Signals) -> None:
        if not self._stop.is_set():
            _log.info("stopping (%s)", signal.Signals(number).name)
            self._stop.set()
            self._told_at = time.monotonic()
        elif time.monotonic() - self._told_at > SAME_WORD_S:
            _log.warning("told again to stop: killing what still runs")
            for child in (*self._fronts, *self._stewards, *self._nodes):
                child.end_at_once()

    async def _run_until_stopped(self, stopping: asyncio.Task[bool]) -> None:
        """Ends early only by raising: a keeper that ends by itself is a fault of ours."""
        keepers = [
            asyncio.create_task(child.wait_ended())
            for child in (*self._fronts, *self._stewards, *self._nodes)
        ]
        done, _ = await asyncio.wait({stopping, *keepers}, return_when=asyncio.FIRST_COMPLETED)
        for keeper in keepers:
            if keeper in done:
                await keeper
            keeper.cancel()

    async def _start(self) -> None:
        names = [f"node-{number}" for number in range(1, len(self._node_dirs) + 1)]
        self._node_sockets = [listening.listen_node(self._data.node_socket(name)) for name in names]
        plan = FoundingPlan(
            [
                self._plan_node(number, *node)
                for number, node in enumerate(zip(names, self._node_dirs, self._node_sockets, strict=True))
            ]
        )
        founded = await self._found(plan)
        self._start_nodes(founded, plan)
        await self._await_nodes()
        self._tell_about_disks()
        self._stewards.append(self._child("steward", ("steward",), ()))
        listen_fd = self._s3_socket.fileno()
        for number in range(1, self._front_count() + 1):
            command = ("front", "--name", f"front-{number}", "--listen-fd", str(listen_fd))
            self._fronts.append(self._child(f"front-{number}", command, (listen_fd,)))
        for child in (*self._stewards, *self._fronts):
            child.start()
        await self._await_fronts()

    def _plan_node(self, number: int, name: str, directory: Path, listener: socket.socket) -> PlannedNode:
        region = REGIONS[number % len(REGIONS)]
        host, port = listening.address(listener)
        return PlannedNode(name, region, f"{region}a", str(directory), host, port)

    def _start_nodes(self, founded: FoundedStore, plan: FoundingPlan) -> None:
        node_ids = {node.name: node.node_id for node in founded.nodes}
        for node, sock in zip(plan.nodes, self._node_sockets, strict=True):
            command = (
                *("node", "--name", node.name, "--dir", node.directory, "--listen-fd", str(sock.fileno())),
                *("--cluster-id", founded.cluster_id, "--node-id", node_ids[node.name]),
            )
            self._nodes.append(self._child(node.name, command, (sock.fileno(),)))
        for child in self._nodes:
            child.start()

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

    async def _found(self, plan: FoundingPlan) -> FoundedStore:
        """Has catalog and node directories made, checked and brought up to date by a child (see
        compose.founding).
        """
        process = await asyncio.create_subprocess_exec(
            *trivet_command(),
            "found",
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(self._lock,),
            process_group=0,
        )
        try:
            answer, _ = await process.communicate(msgspec.json.encode(plan))
        except asyncio.CancelledError:
            process.terminate()  # what it does is one transaction or one durable file at a time
            await process.wait()
            raise
        if process.returncode != 0:
            raise StartRefused(
                "the catalog or the nodes' directories can't be used (the reason stands above)"
            )
        return msgspec.json.decode(answer, type=FoundedStore)

    async def _await_nodes(self) -> None:
        """Returns when all are ready, or enough of them and the rest had its time or refused (P2)."""
        await _answers(self._nodes, NODES_WAIT_S)
        ready = sum(child.ready.is_set() for child in self._nodes)
        if ready < self._settings.data_shards:
            raise StartRefused(
                f"only {ready} of {len(self._nodes)} nodes started, and reading needs "
                f"{self._settings.data_shards} (the reasons stand above)"
            )
        for child in self._nodes:
            if not child.ready.is_set():
                _log.error("%s is missing: starting without it, with less redundancy", child.spec.name)

    async def _await_fronts(self) -> None:
        children = (*self._stewards, *self._fronts)
        await _answers(children, FRONTS_WAIT_S)
        for child in children:
            if not child.ready.is_set():
                raise StartRefused(f"{child.spec.name} did not start (the reason stands above)")

    def _tell_about_disks(self) -> None:
        devices = {directory.stat().st_dev for directory in self._node_dirs if directory.exists()}
        if len(devices) < len(self._node_dirs):
            _log.warning(
                "some nodes share a disk: the loss of any one node's process loses nothing, the loss of "
                "that disk may (give each node a disk of its own with --node-dir)"
            )

    def _banner(self, root: credentials.RootCredentials) -> str:
        """What a person needs to begin, on stdout; the log, which is kept, goes to stderr and holds no secret."""
        endpoint = listening.url(self._s3_socket)
        from_environment = credentials.from_environment(self._environment) is not None
        if from_environment:
            secret = f"as given in {credentials.SECRET_KEY_VARIABLE}"
            variables = (
                f'AWS_ACCESS_KEY_ID="${credentials.ACCESS_KEY_VARIABLE}" '
                f'AWS_SECRET_ACCESS_KEY="${credentials.SECRET_KEY_VARIABLE}" aws'
            )
        else:
            secret = root.secret_key
            path = shlex.quote(str(self._data.credentials))
            variables = f"AWS_SHARED_CREDENTIALS_FILE={path} aws --profile {credentials.PROFILE}"
        aws = f"{variables} --endpoint-url {endpoint} --region {self._settings.region}"
        return (
            f"\nTrivet is up. Ctrl-C stops it.\n\n"
            f"  endpoint    {endpoint}\n"
            f"  region      {self._settings.region}\n"
            f"  access key  {root.access_key}\n"
            f"  secret key  {secret}\n"
            f"  data        {self._data.root}\n\n"
            f"Lines to paste in another terminal:\n\n"
            f"  {aws} s3 mb s3://first\n"
            f"  {aws} s3 ls\n"
        )


async def _answers(children: Sequence[Child], wait_s: float) -> None:
    """Waits until each child is ready or has refused, but no longer than `wait_s`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await asyncio.gather(*(child.answered.wait() for child in children))


def _clear_run_files(data: DataDir) -> None:
    """What a life that ended by SIGKILL left names processes that are gone or, by now, somebody else's."""
    for pattern in ("*.pid", "*.sock"):
        for path in data.run.glob(pattern):
            path.unlink(missing_ok=True)
