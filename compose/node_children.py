"""The storage nodes among the supervisor's children: as many as the catalog says, also when that changes
while the store runs.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from compose import listening
from compose.data_dir import DataDir
from compose.founding_plan import Addresses, FoundedNode, FoundedStore, FoundingPlan, NodeAddress
from compose.founding_process import Listen
from compose.supervisor import Child

MakeChild = Callable[[str, tuple[str, ...], tuple[int, ...]], Child]
"""A child from its name, its command and the descriptors it inherits."""
Found = Callable[[FoundingPlan, Listen], Awaitable[FoundedStore]]

_log = logging.getLogger("trivet.compose")


@dataclass(slots=True)
class _Node:
    founded: FoundedNode
    listener: socket.socket
    child: Child | None = None


class NodeChildren:
    """`make_child` gives children that are not started; `found` is compose.founding_process.found."""

    def __init__(
        self, data: DataDir, make_child: MakeChild, found: Found, on_start: Callable[[Child], None]
    ) -> None:
        self._data = data
        self._make_child = make_child
        self._found = found
        self._on_start = on_start
        self.elsewhere = 0
        """Nodes of the store that are started by themselves."""
        self._nodes: dict[str, _Node] = {}
        self._one_at_a_time = asyncio.Lock()

    @property
    def children(self) -> list[Child]:
        return [node.child for node in self._nodes.values() if node.child is not None]

    @property
    def directories(self) -> list[Path]:
        return [Path(node.founded.directory) for node in self._nodes.values()]

    async def settle(self, plan: FoundingPlan) -> list[str]:
        """Runs the nodes that the store has now, and no others: stops the ones that are gone, starts the ones
        that are new. What stands in the way of single nodes, for a person. Raises StartRefused.
        """
        async with self._one_at_a_time:
            store = await self._found(plan, self._listen)
            self.elsewhere = store.nodes_elsewhere
            for name, node in self._nodes.items():
                if node.child is None:
                    node.child = self._start(name, node, store.cluster_id)
            return [node.problem for node in store.nodes if node.problem]

    async def _listen(self, store: FoundedStore) -> Addresses:
        """A node that took the name of another one takes its socket and pid file too, so that one ends first."""
        usable = {node.name: node for node in store.nodes if not node.problem}
        gone = [name for name, node in self._nodes.items() if not _is_same(node, usable.get(name))]
        await asyncio.gather(*(self._stop(name) for name in gone))
        for name, founded in usable.items():
            if name not in self._nodes:
                self._nodes[name] = _Node(founded, listening.listen_node(self._data.node_socket(name)))
        return Addresses(
            [
                NodeAddress(node.founded.number, *listening.address(node.listener))
                for node in self._nodes.values()
            ]
        )

    def _start(self, name: str, node: _Node, cluster_id: str) -> Child:
        descriptor = node.listener.fileno()
        command = (
            *("node", "--name", name, "--dir", node.founded.directory, "--listen-fd", str(descriptor)),
            *("--cluster-id", cluster_id, "--node-id", node.founded.node_id),
        )
        child = self._make_child(name, command, (descriptor,))
        self._on_start(child)
        return child

    async def _stop(self, name: str) -> None:
        node = self._nodes.pop(name)
        node.listener.close()
        self._data.node_socket(name).unlink(missing_ok=True)
        if node.child is not None:
            _log.info("%s is no longer part of the store: stopping it", name)
            await node.child.stop()


def _is_same(node: _Node, founded: FoundedNode | None) -> bool:
    return founded is not None and founded.node_id == node.founded.node_id
