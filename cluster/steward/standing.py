"""How each node stands with regard to repair: may it get shards, may it keep those it has, can it be asked."""

from dataclasses import dataclass

from catalog import nodes
from cluster.steward.services import Statuses, StewardServices
from cluster.topology import NodeInfo

_CLOSED = frozenset(("joining", "draining", "removed"))


@dataclass(frozen=True, slots=True)
class Standing:
    """The nodes at one moment, by number.

    `numbers`: part of the cluster, in any state but removed; any other node is gone for good. `present`:
    connected now. `writable`: present, and they take new blocks. `leaving`: what they hold belongs elsewhere,
    because they are draining or have been away for too long. `settled`: all others but those that are
    joining, there or not. `members`: those that we know how to reach.
    """

    members: tuple[NodeInfo, ...]
    numbers: frozenset[int]
    present: frozenset[int]
    writable: frozenset[int]
    leaving: frozenset[int]
    settled: frozenset[int]

    @property
    def keeping(self) -> frozenset[int]:
        """Nodes that may keep what they hold, also while they are away for a moment."""
        return self.numbers - self.leaving


class Roster:
    """Judges the nodes. How long one has been away is our own monotonic time, never a clock of another (S22):
    a new steward starts to count anew, and so rebuilds later rather than too early."""

    def __init__(self, services: StewardServices, statuses: Statuses) -> None:
        self._services = services
        self._statuses = statuses
        self._away_since: dict[int, float] = {}

    async def look(self) -> Standing:
        """The nodes as they are now. Raises CatalogError."""
        node_set = self._services.nodes
        states = {row.number: row.state for row in await nodes.current(self._services.catalog)}
        numbers = frozenset(number for number, state in states.items() if state != "removed")
        members = tuple(node for node in node_set.nodes if node.number in numbers)
        present = frozenset(node.number for node in members if self._is_up(node.number))
        taking = {node.number for node in node_set.alive()}
        leaving = frozenset(
            number for number in numbers if states[number] == "draining" or self._is_lost(number, present)
        )
        return Standing(
            members=members,
            numbers=numbers,
            present=present,
            writable=frozenset(
                number
                for number in present & taking
                if states[number] not in _CLOSED and self._takes_blocks(number)
            ),
            leaving=leaving,
            settled=frozenset(number for number in numbers - leaving if states[number] != "joining"),
        )

    def _is_up(self, number: int) -> bool:
        link = self._services.nodes.link(number)
        return link is not None and link.up

    def _takes_blocks(self, number: int) -> bool:
        status = self._statuses().get(number)
        return status is None or not (status.read_only or status.failing)

    def _is_lost(self, number: int, present: frozenset[int]) -> bool:
        """Away for longer than a restart or a repair by hand takes."""
        if number in present:
            self._away_since.pop(number, None)
            return False
        now = self._services.monotonic()
        since = self._away_since.setdefault(number, now)
        return now - since >= self._services.settings.rebuild_after_s
