"""What is known of the copies of one upload: sent, acknowledged, durable (S1, S9). Pure: no I/O, no clock.

An acknowledgement is a position in a node's log within an incarnation; the copy counts as durable when a
sync of that incarnation covers it, and is forgotten when the incarnation ends first. Stripes share the sets
of copies they have in common, so a stripe costs two references, whatever the blob's size.
"""

from collections.abc import Iterable, Sequence, Set
from itertools import groupby
from typing import NamedTuple

from catalog.model import Run
from cluster import wire
from cluster.placement import Copy, packed, survives_any_loss

_Copies = frozenset[Copy]
_NONE: _Copies = frozenset()


class _Unsynced(NamedTuple):
    position: int
    stripe: int
    shard: int


class _NodeLog:
    """How far the upload got in the log of one node in its present incarnation."""

    __slots__ = ("incarnation", "past", "position", "unsynced", "unsynced_bytes")

    def __init__(self) -> None:
        self.incarnation: int | None = None
        self.past: set[int] = set()  # incarnations that have ended
        self.position = 0  # highest acknowledged
        self.unsynced: list[_Unsynced] = []
        self.unsynced_bytes = 0  # acknowledged since a sync was last asked for


class Ledger:
    """Stripes are counted from 0 and added in order by `sent`.

    `changed` is set when copies were lost, to be cleared by whoever looks at `weak`.
    """

    def __init__(self, k: int, width: int) -> None:
        self.changed = False
        self._k = k
        self._width = width
        self._sent: list[_Copies] = []
        self._durable: list[_Copies] = []  # of settled stripes: a stripe in flight is not judged yet
        self._logs: dict[int, _NodeLog] = {}
        self._shared: dict[_Copies, _Copies] = {}

    # -- what happens ----------------------------------------------------------------------------------------

    def sent(self, stripe: int, copies: Iterable[Copy]) -> None:
        """These copies may lie on nodes from now on."""
        while len(self._sent) <= stripe:
            self._sent.append(_NONE)
        self._sent[stripe] = self._share(self._sent[stripe].union(copies))

    def settled(self, stripe: int) -> None:
        """The acknowledgements of a stripe were noted; from now on it has to survive any loss."""
        while len(self._durable) <= stripe:
            self._durable.append(_NONE)

    def acknowledged(self, stripe: int, copy: Copy, appended: wire.Appended, nbytes: int) -> None:
        """A node has appended a copy of a settled stripe, and may lose it until it is synced."""
        shard, node = copy
        log = self._logs.setdefault(node, _NodeLog())
        if appended.incarnation in log.past:
            self.changed = True
            return
        if appended.incarnation != log.incarnation:
            if log.incarnation is not None:
                self.lost(node, log.incarnation)
            log.incarnation = appended.incarnation
            log.position = 0
        log.position = max(log.position, appended.position)
        log.unsynced.append(_Unsynced(appended.position, stripe, shard))
        log.unsynced_bytes += nbytes

    def durable(self, stripe: int, copy: Copy) -> None:
        """A copy of a settled stripe was acknowledged together with its sync."""
        self._durable[stripe] = self._share(self._durable[stripe] | {copy})

    def synced(self, node: int, incarnation: int, position: int) -> None:
        """A sync succeeded: all up to the position is durable, if the incarnation is still the same."""
        log = self._logs[node]
        if incarnation != log.incarnation:
            return
        for entry in log.unsynced:
            if entry.position <= position:
                self.durable(entry.stripe, (entry.shard, node))
        log.unsynced = [entry for entry in log.unsynced if entry.position > position]

    def lost(self, node: int, incarnation: int) -> None:
        """That incarnation has ended, or can't be trusted to sync: what it had not synced does not count."""
        log = self._logs[node]
        log.past.add(incarnation)
        if incarnation == log.incarnation:
            log.incarnation = None
            self.changed = self.changed or bool(log.unsynced)
            log.unsynced = []
            log.unsynced_bytes = 0

    def bad(self, stripe: int, copy: Copy) -> None:
        """A node does not have a copy that it acknowledged, or not whole."""
        self._durable[stripe] = self._share(self._durable[stripe] - {copy})

    def keep_only(self, nodes: Set[int]) -> None:
        """Other nodes than these are no longer part of the store: a layout must not name them."""
        kept = {
            copies: self._share(frozenset(c for c in copies if c[1] in nodes))
            for copies in set(self._durable)
        }
        self._durable = [kept[copies] for copies in self._durable]

    # -- what follows ----------------------------------------------------------------------------------------

    def to_sync(self, bytes_min: int = 0) -> list[int]:
        """Nodes with copies that are not durable yet, at least so many bytes since a sync was asked for."""
        return [node for node, log in self._logs.items() if log.unsynced and log.unsynced_bytes >= bytes_min]

    def sync_asked(self, node: int) -> wire.Sync:
        """What to ask a node of `to_sync` for, in order to cover all that it acknowledged."""
        log = self._logs[node]
        assert log.incarnation is not None
        log.unsynced_bytes = 0
        return wire.Sync(log.incarnation, log.position)

    def copies(self, stripe: int) -> _Copies:
        """Copies of a settled stripe: durable ones, and acknowledged ones that a sync may still cover."""
        waiting = {
            (entry.shard, node)
            for node, log in self._logs.items()
            for entry in log.unsynced
            if entry.stripe == stripe
        }
        return self._durable[stripe] | waiting

    def holders(self) -> set[int]:
        """Nodes that were sent anything."""
        return {node for copies in self._shared for _, node in copies}

    def weak(self, alive: Iterable[int]) -> list[int]:
        """Settled stripes that would not survive the loss of any one of the nodes alive.

        Copies that a sync may still cover count; who commits the blob has synced all of them before.
        """
        waiting: dict[int, set[Copy]] = {}
        for node, log in self._logs.items():
            for entry in log.unsynced:
                waiting.setdefault(entry.stripe, set()).add((entry.shard, node))
        present = frozenset(alive)
        judged: dict[_Copies, bool] = {}
        weak = []
        for stripe, durable in enumerate(self._durable):
            copies = durable.union(waiting[stripe]) if stripe in waiting else durable
            if copies not in judged:
                judged[copies] = survives_any_loss(self._k, copies, present)
            if not judged[copies]:
                weak.append(stripe)
        return weak

    def layout(self) -> list[Run]:
        """The durable copies by runs, the first one from stripe 0 on."""
        return self._runs(self._durable)

    def layout_sent(self) -> list[Run]:
        """All copies that may lie anywhere, by runs."""
        return self._runs(self._sent)

    def _runs(self, stripes: Sequence[_Copies]) -> list[Run]:
        runs = []
        first = 0
        for copies, group in groupby(stripes):
            runs.append(Run(first, packed(copies, self._width)))
            first += sum(1 for _ in group)
        return runs

    def _share(self, copies: _Copies) -> _Copies:
        return self._shared.setdefault(copies, copies)
