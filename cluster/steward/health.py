"""Which nodes answer: their shared state in the catalog, and the events of its changes."""

import asyncio
import logging
from collections.abc import Sequence

from catalog import nodes, work
from catalog.model import NodeRow
from catalog.transaction import Transaction
from cluster import wire
from cluster.errors import LinkError
from cluster.steward.services import StewardServices
from cluster.steward.tenure import Tenure

log = logging.getLogger(__name__)

_ASK = wire.encode(wire.StatusRequest())
_JUDGED = frozenset(("joining", "up", "suspect", "down"))  # other states are an operator's decision

Events = Sequence[tuple[str, str]]  # (kind, detail)


class HealthWatch:
    """Asks each node for its status and keeps `up`, `suspect` and `down` in the catalog.

    A node that does not answer is suspect; when it has been silent for `down_s` of our own monotonic time it
    is down. Fronts do not wait for this: each of them sees its own links.
    """

    def __init__(self, services: StewardServices) -> None:
        self._services = services
        self._silent_since: dict[int, float] = {}
        self._answers: dict[int, wire.NodeStatus] = {}  # the last of each node

    async def step(self, tenure: Tenure) -> None:
        """Ask all nodes once and write down what changed. Raises LeaseLost and other CatalogErrors."""
        rows = [row for row in await nodes.current(self._services.catalog) if row.state in _JUDGED]
        answers = await asyncio.gather(*(self._ask(row.number) for row in rows))
        now = self._services.monotonic()
        for row, answer in zip(rows, answers, strict=True):
            state = self._judge(row, answer, now)
            events = list(self._news(row.number, answer))
            if state != row.state:
                events.insert(0, (f"node-{state}", self._detail(row.number, answer, now)))
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
        except LinkError:
            return None
        return wire.decode_node_status(reply.header)

    def _judge(self, row: NodeRow, answer: wire.NodeStatus | None, now: float) -> str:
        if answer is not None:
            self._silent_since.pop(row.number, None)
            return nodes.UP
        if row.state in (nodes.JOINING, "down"):
            return row.state
        since = self._silent_since.setdefault(row.number, now)
        return "down" if now - since >= self._services.settings.down_s else "suspect"

    def _detail(self, number: int, answer: wire.NodeStatus | None, now: float) -> str:
        if answer is not None:
            return f"incarnation {answer.incarnation:x}, {answer.blocks} blocks"
        link = self._services.nodes.link(number)
        failure = link.failure if link is not None else "no link"
        silent_s = now - self._silent_since.get(number, now)
        return f"silent for {silent_s:.1f} s: {failure or 'connected'}"

    def _news(self, number: int, answer: wire.NodeStatus | None) -> Events:
        """What else an answer tells: a disk that filled up or has room again, damage found."""
        if answer is None:
            return ()
        before = self._answers.get(number)
        events = []
        if answer.read_only != (before is not None and before.read_only):
            kind = "node-full" if answer.read_only else "node-writable"
            events.append((kind, f"{answer.free_bytes} bytes free"))
        same_life = before is not None and before.incarnation == answer.incarnation
        known = before.damage if before is not None and same_life else {}
        grown = {kind: n for kind, n in answer.damage.items() if n > known.get(kind, 0)}
        if grown:
            found = ", ".join(f"{kind}: {n}" for kind, n in sorted(grown.items()))
            events.append(("node-damage", found))
        return events


async def _note(tenure: Tenure, row: NodeRow, state: str, events: Events) -> None:
    def write(tx: Transaction) -> None:
        if state != row.state:
            nodes.set_state(tx, row.number, state)
        for kind, detail in events:
            work.record_event(tx, kind, node=row.number, detail=detail)

    await tenure.write(write)
    for kind, detail in events:
        log.warning("node %s: %s (%s)", row.name, kind, detail)
