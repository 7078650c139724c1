"""Which nodes answer: their shared state in the catalog, and the events of its changes."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

import msgspec

from catalog import nodes, work
from catalog.model import NodeRow
from catalog.transaction import Transaction
from cluster import wire
from cluster.errors import LinkError
from cluster.operations import resume_repair
from cluster.steward.services import StewardServices
from cluster.steward.tenure import Tenure

log = logging.getLogger(__name__)

_ASK: Final = wire.encode(wire.StatusRequest())
# The other states are an operator's decision.
_JUDGED: Final = frozenset((nodes.JOINING, nodes.UP, nodes.SUSPECT, nodes.DOWN))

Events = Sequence[tuple[str, str]]  # (kind, detail)


class HealthWatch:
    """Asks each node for its status and keeps `up`, `suspect` and `down` in the catalog.

    A node that does not answer is suspect; when it has been silent for `down_s` of our own monotonic time,
    and was asked more than once, it is down. A node that our link has not yet tried to reach to the end is not
    judged at all: a steward that has just started would suspect all of them. Fronts do not wait for this: each
    of them sees its own links.

    `statuses`: by node number, what each node said that answered when last asked; also of those whose state
    is an operator's.
    """

    def __init__(self, services: StewardServices) -> None:
        self.statuses: dict[int, wire.NodeStatus] = {}
        self._services = services
        self._silent_since_s: dict[int, float] = {}
        self._answers: dict[int, wire.NodeStatus] = {}  # the last of each node, for what is new in the next

    async def step(self, tenure: Tenure) -> None:
        """Ask all nodes once and write down what changed. Raises LeaseLost and other CatalogErrors."""
        rows = [row for row in await nodes.current(self._services.catalog) if row.state != nodes.REMOVED]
        asked_s = self._services.monotonic()
        answers = await asyncio.gather(*(self._ask(row.number) for row in rows))
        now = self._services.monotonic()
        self.statuses = {row.number: a for row, a in zip(rows, answers, strict=True) if a is not None}
        for row, answer in zip(rows, answers, strict=True):
            silent_s = self._silent_s(row.number, answer, asked_s, now)
            state = self._judge(row, answer, silent_s)
            events = list(self._news(row.number, answer))
            if state != row.state:
                events.insert(0, (f"node-{state}", self._detail(row.number, answer, silent_s)))
            if events:
                await _note(tenure, row, state, events)
            if answer is not None:
                self._answers[row.number] = answer

    async def _ask(self, number: int) -> wire.NodeStatus | None:
        link = self._services.nodes.link(number)
        if link is None:
            return None
        deadline_s = self._services.settings.status_deadline_s
        try:
            reply = await link.call(int(wire.Op.STATUS), _ASK, None, deadline_s)
            return wire.decode_node_status(reply.header)
        except (LinkError, msgspec.DecodeError):
            return None

    def _silent_s(self, number: int, answer: wire.NodeStatus | None, asked_s: float, now: float) -> float:
        """How long the node has been silent; only a second question in vain makes it more than 0.0: the
        first may have met a pause of our own."""
        if answer is not None or not self._is_tried(number):
            self._silent_since_s.pop(number, None)
            return 0.0
        if number not in self._silent_since_s:
            self._silent_since_s[number] = asked_s
            return 0.0
        return now - self._silent_since_s[number]

    def _judge(self, row: NodeRow, answer: wire.NodeStatus | None, silent_s: float) -> str:
        if row.state not in _JUDGED:
            return row.state
        if answer is not None:
            return nodes.UP
        if row.state in {nodes.JOINING, nodes.DOWN} or not self._is_tried(row.number):
            return row.state
        return nodes.DOWN if silent_s >= self._services.settings.down_s else nodes.SUSPECT

    def _is_tried(self, number: int) -> bool:
        """Whether the node had a fair chance; one without a link was added, and we have yet to hear of it."""
        link = self._services.nodes.link(number)
        return link is not None and link.tried

    def _detail(self, number: int, answer: wire.NodeStatus | None, silent_s: float) -> str:
        if answer is not None:
            return f"incarnation {answer.incarnation:x}, {answer.blocks} blocks"
        link = self._services.nodes.link(number)
        assert link is not None, "without one it is not judged"
        silence = f"silent for {silent_s:.1f} s" if silent_s else "does not answer"
        return f"{silence} ({link.failure})" if link.failure else silence

    def _news(self, number: int, answer: wire.NodeStatus | None) -> Events:
        """What else an answer tells: a disk that filled up, fails, or is well again; damage found."""
        if answer is None:
            return ()
        before = self._answers.get(number)
        events = []
        if answer.read_only != (before is not None and before.read_only):
            kind = "node-full" if answer.read_only else "node-writable"
            events.append((kind, f"{answer.free_bytes} bytes free"))
        if answer.failing != (before is not None and before.failing):
            kind = "node-failing" if answer.failing else "node-working"
            events.append((kind, "the last write or sync failed" if answer.failing else "a sync succeeded"))
        same_life = before is not None and before.incarnation == answer.incarnation
        known = before.damage if before is not None and same_life else {}
        grown = {kind: n - known.get(kind, 0) for kind, n in answer.damage.items() if n > known.get(kind, 0)}
        if grown:
            found = ", ".join(f"{kind}: {n}" for kind, n in sorted(grown.items()))
            events.append(("node-damage", f"{found} (since its start: {sum(answer.damage.values())} in all)"))
        return events


async def _note(tenure: Tenure, row: NodeRow, state: str, events: Events) -> None:
    def write(tx: Transaction) -> None:
        if row not in nodes.list_nodes(tx):
            return  # an operator decided about it meanwhile: judge again
        if state != row.state:
            nodes.set_state(tx, row.number, state)
        for kind, detail in events:
            work.record_event(tx, kind, node=row.number, detail=detail)
        if state == nodes.DOWN and row.state != nodes.DOWN:
            # Who paused it did not know of this one: what lacks another node's blocks too can't wait (P2).
            resume_repair(tx)

    # With too few nodes left for the catalog's log, that must be written all the same (S17).
    await tenure.write(write, unshipped=True)
    for kind, detail in events:
        log.warning("node %s: %s (%s)", row.name, kind, detail)
