"""The nodes as one process sees them: who they are, how to reach them, which to prefer right now."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from cluster import wire
from cluster.link import Link, LinkSettings

# The shared states in which a node gets no new blocks. `down` is not among them: the connection knows better
# and sooner than the catalog whether a node is there.
_CLOSED_TO_WRITES = frozenset(("joining", "draining", "removed"))


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """One node as the catalog has it. `number` (> 0) is what placements name; `weight` (> 0) its share."""

    number: int
    node_id: bytes
    name: str
    region: str
    zone: str
    address: tuple[str, int]
    state: str = "up"
    weight: float = 1.0


class NodeSet:
    """The nodes with one link each. Own it by `async with`, which owns the links.

    `here` is this process's (region, zone): nearer nodes are read first.
    """

    def __init__(
        self,
        nodes: Sequence[NodeInfo],
        links: Mapping[int, Link],
        *,
        here: tuple[str, str] | None = None,
    ) -> None:
        self.nodes = tuple(nodes)
        self._links = dict(links)
        self._distance = {node.number: _distance(node, here) for node in self.nodes}
        self._writable = [
            (node, self._links[node.number]) for node in self.nodes if node.state not in _CLOSED_TO_WRITES
        ]

    @classmethod
    def connecting(
        cls,
        nodes: Sequence[NodeInfo],
        *,
        secret: bytes,
        cluster_id: bytes,
        role: wire.Role,
        settings: LinkSettings | None = None,
        here: tuple[str, str] | None = None,
    ) -> Self:
        """A set with links of its own, not yet started."""
        links = {
            node.number: Link(
                node.address,
                secret=secret,
                cluster_id=cluster_id,
                node_id=node.node_id,
                role=role,
                settings=settings,
            )
            for node in nodes
            if node.state != "removed"
        }
        return cls([node for node in nodes if node.number in links], links, here=here)

    async def start(self) -> None:
        """Begin to connect to all of them; returns at once."""
        for link in self._links.values():
            await link.start()

    async def close(self) -> None:
        """Cut all connections."""
        for link in self._links.values():
            await link.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def wait_up(self, timeout_s: float, *, nodes_min: int | None = None) -> int:
        """Wait until `nodes_min` (default: all) are connected, or the time is over; returns how many are."""
        wanted = len(self._links) if nodes_min is None else nodes_min
        waiting = {asyncio.ensure_future(link.wait_up()) for link in self._links.values()}
        try:
            async with asyncio.timeout(timeout_s):
                while waiting and self.up_count() < wanted:
                    _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            pass
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        return self.up_count()

    def up_count(self) -> int:
        """How many nodes are connected."""
        return sum(link.up for link in self._links.values())

    def link(self, number: int) -> Link | None:
        """The link of that node; None for a node that is not (any more) part of the cluster."""
        return self._links.get(number)

    def alive(self) -> list[NodeInfo]:
        """Nodes that are connected and take new blocks, in no special order."""
        return [node for node, link in self._writable if link.up]

    def for_write(self, width: int) -> list[NodeInfo]:
        """Nodes to choose from for `width` shards: those alive, without the stalled if enough remain (S10)."""
        alive = self.alive()
        if len(alive) > width:
            brisk = [node for node in alive if not self._links[node.number].is_stalled(writing=True)]
            if len(brisk) >= width:
                return brisk
        return alive

    def usable(self, number: int) -> bool:
        """True when a read of that node may be expected to be answered soon: connected and not stalled."""
        link = self._links.get(number)
        return link is not None and link.up and not link._stalled[False]

    def order_for_read(self, numbers: Iterable[int]) -> list[int]:
        """Those of `numbers` that are connected: usable ones first, then near before far, else as given."""
        connected = [n for n in numbers if (link := self._links.get(n)) is not None and link.up]
        return sorted(connected, key=lambda n: (not self.usable(n), self._distance[n]))


def _distance(node: NodeInfo, here: tuple[str, str] | None) -> int:
    """0 the same zone, 1 the same region, 2 elsewhere; all the same when we are nowhere."""
    if here is None or node.region != here[0]:
        return 2
    return 0 if node.zone == here[1] else 1
