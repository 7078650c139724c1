"""Real node processes for the tests: started, killed, frozen, started again, on a socket that stays.

They are forked from a process that has loaded a node's modules once, because hundreds are started in a run.
"""

import asyncio
import contextlib
import multiprocessing
import os
import signal
import socket
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import ClassVar, Self

from cluster.node.config import NodeConfig
from cluster.node.files import RealFiles
from cluster.node.identity import initialise
from cluster.node.server import open_service, run
from cluster.topology import NodeInfo

CLUSTER_ID = b"test cluster 016"
SECRET = b"a secret of exactly 32 bytes ..!"
START_S_MAX = 20.0

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([__name__])


def _serve(directory: Path, listening: socket.socket, starter: Connection, files: type[RealFiles]) -> None:
    """The whole life of a node's process."""
    config = NodeConfig(directory=directory, cluster_id=CLUSTER_ID, secret=SECRET, reserve_bytes=1 << 20)

    async def serve() -> None:
        await run(await open_service(config, files()), listening, lambda: starter.send("ready"))

    asyncio.run(serve())


class RealNode:
    """One node with a directory of its own. `info` is how the front side knows it; `files` is its disk."""

    files: ClassVar[type[RealFiles]] = RealFiles

    def __init__(self, directory: Path, number: int) -> None:
        self.directory = directory / f"node-{number}"
        self.node_id = bytes([number]) * 16
        initialise(
            self.directory,
            cluster_id=CLUSTER_ID,
            name=f"node-{number}",
            region=f"region-{number}",
            zone="a",
            files=RealFiles(),
            node_id=self.node_id,
        )
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.info = NodeInfo(
            number, self.node_id, f"node-{number}", f"region-{number}", "a", self._socket.getsockname()
        )
        self._process: ForkServerProcess | None = None
        self._starting: Connection | None = None

    def launch(self) -> None:
        """Start the process; `wait_ready` must follow."""
        self._starting, starter = _FORKS.Pipe(duplex=False)
        with starter:
            process = _FORKS.Process(
                target=_serve, args=(self.directory, self._socket, starter, self.files), daemon=True
            )
            process.start()
        self._process = process

    def wait_ready(self) -> None:
        assert self._starting is not None
        with self._starting as starting:
            assert starting.poll(START_S_MAX), f"node {self.info.number} did not start in time"
            try:
                starting.recv()
            except EOFError:
                raise AssertionError(f"node {self.info.number} did not start") from None

    def start(self) -> None:
        self.launch()
        self.wait_ready()

    @property
    def runs(self) -> bool:
        """True while there is a process, frozen or not."""
        return self._process is not None

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        process, self._process = self._running(), None
        process.kill()
        process.join()
        process.close()

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    @property
    def pid(self) -> int:
        pid = self._running().pid
        assert pid is not None
        return pid

    def damage(self, needle: bytes) -> None:
        """Flip one bit of the record that holds `needle` in a segment file, behind the node's back."""
        for path in sorted((self.directory / "segments").iterdir()):
            content = path.read_bytes()
            at = content.find(needle)
            if at >= 0:
                with path.open("r+b") as file:
                    file.seek(at)
                    file.write(bytes([needle[0] ^ 1]))
                return
        raise AssertionError("no such bytes on this node")

    def close(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.thaw()
            self.kill()
        self._socket.close()

    def _running(self) -> ForkServerProcess:
        assert self._process is not None, "the node does not run"
        return self._process


class RealNodes:
    """Several of them; closes all at the end."""

    def __init__(self, directory: Path, count: int = 3, node_type: type[RealNode] = RealNode) -> None:
        self.nodes = [node_type(directory, number) for number in range(1, count + 1)]

    def __getitem__(self, number: int) -> RealNode:
        """By node number, from 1 on."""
        return self.nodes[number - 1]

    @property
    def infos(self) -> list[NodeInfo]:
        return [node.info for node in self.nodes]

    def __enter__(self) -> Self:
        try:
            for node in self.nodes:
                node.launch()
            for node in self.nodes:
                node.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for node in self.nodes:
            node.close()
