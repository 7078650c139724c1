"""Real node processes for the tests: started, killed, frozen, started again, on a socket that stays."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import ClassVar, Self

from cluster.node.files import RealFiles
from cluster.node.identity import initialise
from cluster.topology import NodeInfo

REPOSITORY = Path(__file__).parents[2]
CLUSTER_ID = b"test cluster 016"
SECRET = b"a secret of at least 32 bytes...!"
START_S_MAX = 20.0

_CHILD = """
import asyncio, pathlib, socket, sys
from cluster.node.config import NodeConfig
from cluster.node.server import serve
directory, fd, cluster_id, secret = sys.argv[1:]
config = NodeConfig(
    directory=pathlib.Path(directory), cluster_id=bytes.fromhex(cluster_id), secret=bytes.fromhex(secret),
    reserve_bytes=1 << 20,
)
ready = lambda: (sys.stdout.write("ready\\n"), sys.stdout.flush())
asyncio.run(serve(config, socket.socket(fileno=int(fd)), ready))
"""


class RealNode:
    """One node with a directory of its own. `info` is how the front side knows it; `child` is its program."""

    child: ClassVar[str] = _CHILD

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
        self._process: subprocess.Popen[str] | None = None

    def launch(self) -> None:
        """Start the process; `wait_ready` must follow."""
        fd = self._socket.fileno()
        arguments = [str(self.directory), str(fd), CLUSTER_ID.hex(), SECRET.hex()]
        self._process = subprocess.Popen(
            [sys.executable, "-c", self.child, *arguments],
            pass_fds=[fd],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_ready(self) -> None:
        process = self._running()
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], START_S_MAX)
        assert ready, f"node {self.info.number} did not start in time"
        assert process.stdout.readline() == "ready\n", f"node {self.info.number} did not start"

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
        process.wait()
        assert process.stdout is not None
        process.stdout.close()

    def freeze(self) -> None:
        os.kill(self._running().pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._running().pid, signal.SIGCONT)

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

    def _running(self) -> subprocess.Popen[str]:
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
