"""The nodes as one process sees them: who they are, how to reach them, which to prefer right now."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from cluster import wire
from cluster.link import Link, LinkSettings
from cluster.tracing import TraceContext, no_trace

# The shared states in which a node gets no new blocks. `down` is not among them: the connection knows better
# and sooner than the catalog whether a node is there.
_CLOSED_TO_WRITES: Final = frozenset(("joining", "draining", "removed"))
_REMOVED: Final = "removed"

_READ: Final = int(wire.Op.READ_BLOCK)
_PUT: Final = int(wire.Op.PUT_BLOCK)
_STUCK_S: Final = 0.1
"""A node that has not answered writes for so long is avoided even when stripes then lie on fewer nodes."""
_PATIENCE_FACTOR: Final = 4.0
_PATIENCE_S_MIN: Final = 0.03
_PATIENCE_S_MAX: Final = 1.0
_RETURN_LOOK_S: Final = 0.02
_FAR_FACTOR: Final = 3.0
_FAR_S: Final = 0.005
_EXPLORE_READS: Final = 32


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
    """The nodes with one link each. Own it by `async with`, which owns the links; `update` changes it.

    `here` is this process's (region, zone): nearer nodes are read first. `far`: the nodes whose reads take
    so much longer than those of the nearest that going round them may pay; empty where all are alike.
    """

    def __init__(
        self,
        nodes: Sequence[NodeInfo],
        links: Mapping[int, Link],
        *,
        here: tuple[str, str] | None = None,
        new_link: Callable[[NodeInfo], Link] | None = None,
    ) -> None:
        """`links` has one for each node. `new_link` makes those of nodes that `update` brings."""
        self.far: frozenset[int] = frozenset()
        self._here = here
        self._new_link = new_link
        self._started = False
        self._reads_of_far = 0
        self._set(nodes, links)

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
        clock: Callable[[], float] = time.monotonic,
        trace_context: TraceContext = no_trace,
    ) -> Self:
        """A set with links of its own, not yet started. All of them go by `clock`."""

        def new_link(node: NodeInfo) -> Link:
            return Link(
                node.address,
                secret=secret,
                cluster_id=cluster_id,
                node_id=node.node_id,
                role=role,
                settings=settings,
                clock=clock,
                trace_context=trace_context,
            )

        present = [node for node in nodes if node.state != _REMOVED]
        return cls(present, {node.number: new_link(node) for node in present}, here=here, new_link=new_link)

    # -- life ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to connect to all of them; returns at once."""
        self._started = True
        for link in self._links.values():
            await link.start()

    async def close(self) -> None:
        """Cut all connections."""
        self._started = False
        for link in self._links.values():
            await link.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def update(self, nodes: Sequence[NodeInfo]) -> None:
        """Become the set of these nodes: new ones are connected to, removed and missing ones cut off, moved
        ones looked for at their new address, states and weights applied. The others notice nothing.

        New blocks follow the new states at once, also while this waits for old connections to end. Not to
        be called twice at a time.
        """
        assert self._new_link is not None, "a set that was given its links can't make more"
        before = self._links
        present = [node for node in nodes if node.state != _REMOVED]
        links: dict[int, Link] = {}
        for node in present:
            known = before.get(node.number)
            same = known is not None and known.node_id == node.node_id
            links[node.number] = known if known is not None and same else self._new_link(node)
        self._set(present, links)
        for number, link in before.items():
            if links.get(number) is not link:
                link.on_status = None
                await link.close()
        for node in present:
            link = links[node.number]
            if before.get(node.number) is not link:
                if self._started:
                    await link.start()
            elif link.address != node.address:
                await link.redirect(node.address)

    def _set(self, nodes: Sequence[NodeInfo], links: Mapping[int, Link]) -> None:
        self.nodes = tuple(nodes)
        self._links = dict(links)
        self._distance = {node.number: _distance(node, self._here) for node in self.nodes}
        self._open = [
            (node, self._links[node.number]) for node in self.nodes if node.state not in _CLOSED_TO_WRITES
        ]
        for link in self._links.values():
            link.on_status = self._survey
        self._survey()

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

    # -- writes ----------------------------------------------------------------------------------------------

    def alive(self) -> list[NodeInfo]:
        """Nodes that are connected and whose state lets them take new blocks, in no special order."""
        return [node for node, link in self._open if link.up]

    def for_write(self, width: int) -> list[NodeInfo]:
        """Nodes to write `width` shards to now: connected, open for new blocks, their breakers closed, brisk.

        Fewer than `width` when some are stuck or broken: the stripe is then better laid out on the others
        (S9). Never fewer than two because of that alone: then all are given that might do it after all. A
        node that is merely slow to answer just now is left out only where enough remain (S10).
        """
        admitted = [
            (node, link)
            for node, link in self._open
            if link.up
            and (link.breaker.closed or link.breaker.admits())
            and (link.write_breaker.closed or link.write_breaker.admits())
        ]
        brisk = [node for node, link in admitted if not link.is_stalled(writing=True)]
        if len(brisk) == len(admitted) >= 2 or len(brisk) >= width:
            return brisk
        moving = [node for node, link in admitted if link.stalled_for_s(writing=True) < _STUCK_S]
        if len(moving) >= 2:
            return moving
        return [node for node, link in self._open if link.up and not link.write_breaker.blocked]

    async def back_for_write(self, width: int, wait_s: float) -> list[NodeInfo]:
        """As `for_write`, once there are two; after `wait_s` whatever there is."""
        clock = asyncio.get_running_loop().time
        until_s = clock() + wait_s
        while len(nodes := self.for_write(width)) < 2 and clock() < until_s:  # noqa: ASYNC110 - no event says it
            await asyncio.sleep(_RETURN_LOOK_S)
        return nodes

    def write_patience_s(self, number: int, op: int = _PUT) -> float:
        """How long an acknowledgement of that node may take before it is late and the stripe is protected on
        the others: a multiple of its recent slow latency, within bounds."""
        link = self._links.get(number)
        if link is None:
            return _PATIENCE_S_MIN
        return min(max(link.latency[op].high_s * _PATIENCE_FACTOR, _PATIENCE_S_MIN), _PATIENCE_S_MAX)

    # -- reads -----------------------------------------------------------------------------------------------

    def usable(self, number: int) -> bool:
        """True when a read of that node may be expected to be answered soon: connected, not stalled, trusted."""
        link = self._links.get(number)
        return (
            link is not None
            and link.up
            and not link._stalled_s[False]
            and (link.breaker.closed or link.breaker.admits())
        )

    def order_for_read(self, numbers: Iterable[int]) -> list[int]:
        """Those of `numbers` that are connected: usable ones first, then near before far, else as given."""
        connected = [n for n in numbers if (link := self._links.get(n)) is not None and link.up]
        return sorted(connected, key=self._preference)

    def worth_avoiding(self, wanted: Iterable[int], others: Iterable[int]) -> bool:
        """True when reads of all of `others` are done long before those of `wanted`, by what was measured.

        All of them must be usable.
        """
        return _is_far(max(map(self._read_s, wanted)), max(map(self._read_s, others)))

    def explores(self) -> bool:
        """True for one in so many calls: then a far node is asked all the same, for else nobody would learn
        that it has become faster. No one need wait for that reply."""
        self._reads_of_far += 1
        return self._reads_of_far % _EXPLORE_READS == 0

    def _preference(self, number: int) -> tuple[bool, float, int]:
        far_s = self._read_s(number) if number in self.far else 0.0
        return (not self.usable(number), far_s, self._distance[number])

    def _read_s(self, number: int) -> float:
        """How long a read of that node, which is part of the cluster, takes: as measured, or its distance while
        there were none."""
        link = self._links[number]
        return max(link.latency[_READ].mean_s, link.round_trip_s)

    def _survey(self) -> None:
        """Which nodes are far: looked at as often as nodes tell their status, so that reads need not."""
        reads_s = {number: self._read_s(number) for number, link in self._links.items() if link.up}
        nearest_s = min(reads_s.values(), default=0.0)
        self.far = frozenset(number for number, s in reads_s.items() if _is_far(s, nearest_s))


def _is_far(s: float, other_s: float) -> bool:
    return s > _FAR_FACTOR * other_s + _FAR_S


def _distance(node: NodeInfo, here: tuple[str, str] | None) -> int:
    """0 the same zone, 1 the same region, 2 elsewhere; all the same when we are nowhere."""
    if here is None or node.region != here[0]:
        return 2
    return 0 if node.zone == here[1] else 1
