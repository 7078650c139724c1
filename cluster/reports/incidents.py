"""Failures and how long they lasted, from the events that the steward keeps.

An incident of a node runs from its first silence, or from the moment when an operator said that its data is gone, to
when it is up again; a node that takes another's place ends the other's. An incident of redundancy runs from such a
failure, or from the first damage that had to be repaired, to when every object is whole again. Where nothing had to be
repaired, all is whole when the last node is back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, Literal

import msgspec

from catalog import nodes, work
from catalog.model import Event
from catalog.statement import Reader
from cluster.reports.redundancy import is_whole

SUSPECT: Final = "node-suspect"
DOWN: Final = "node-down"
LOST: Final = "node-lost"
REDUNDANCY: Final = "redundancy"

_EVENTS_MAX: Final = 10_000  # that is how many are kept
_EVENTS_OF_LATE: Final = 500
_STILL_THE_SAME_MS: Final = 60_000
"""Repair that begins so soon after the last node came back belongs to its failure: what failed meanwhile is tried again
half a minute later."""


class Incident(msgspec.Struct, frozen=True):
    """`kind`: node-suspect (silent for a moment), node-down, node-lost (its data is gone), or redundancy. `node`: its
    name, of a redundancy incident that of the node whose failure began it, None for damage alone. `ended_ms` is None
    while it goes on. `outcome`: `recovered`; `removed` for a node that is no longer expected back; `ongoing`."""

    kind: str
    node: str | None
    began_ms: int
    ended_ms: int | None
    outcome: Literal["recovered", "removed", "ongoing"]
    detail: str = ""

    @property
    def seconds(self) -> float | None:
        """How long it lasted; None while it goes on."""
        return None if self.ended_ms is None else max(0, self.ended_ms - self.began_ms) / 1000


class IncidentSummary(msgspec.Struct, frozen=True):
    """`failures`: incidents of nodes, of which `recovered` are over and `ongoing` not. `by_kind` counts all incidents.
    `mttr_…`: seconds until every object had its full redundancy again, over the redundancy incidents that are over
    (`restored` of them). `absent_…`: seconds until the node was back. None: there was none."""

    failures: int
    recovered: int
    ongoing: int
    restored: int
    by_kind: dict[str, int]
    mttr_mean_s: float | None
    mttr_max_s: float | None
    absent_mean_s: float | None
    absent_max_s: float | None


def incidents(reader: Reader, from_ms: int, to_ms: int) -> list[Incident]:
    """Those that went on at some time in from_ms ≤ t < to_ms, in the order in which they began, as far back as events
    are kept."""
    found = _latest(reader, _EVENTS_MAX)
    return [each for each in found if each.began_ms < to_ms and (each.ended_ms or to_ms) >= from_ms]


def ongoing(reader: Reader) -> list[Incident]:
    """Those that are not over, as far as the last events tell: a look that costs little."""
    return [each for each in _latest(reader, _EVENTS_OF_LATE) if each.ended_ms is None]


def _latest(reader: Reader, events_max: int) -> list[Incident]:
    names = {row.number: row.name.rpartition("#")[0] or row.name for row in nodes.list_nodes(reader)}
    events = work.list_events(reader, limit=events_max, newest_first=True)
    return read_events(reversed(events), names, whole=is_whole(reader))


def summarise_incidents(found: Sequence[Incident]) -> IncidentSummary:
    """Counts and times of these."""
    of_nodes = [each for each in found if each.kind != REDUNDANCY]
    absent_s = [s for each in of_nodes if each.outcome == "recovered" and (s := each.seconds) is not None]
    mttr_s = [s for each in found if each.kind == REDUNDANCY and (s := each.seconds) is not None]
    return IncidentSummary(
        failures=len(of_nodes),
        recovered=len(absent_s),
        ongoing=sum(each.ended_ms is None for each in of_nodes),
        restored=len(mttr_s),
        by_kind=dict(Counter(each.kind for each in found)),
        mttr_mean_s=_mean(mttr_s),
        mttr_max_s=max(mttr_s, default=None),
        absent_mean_s=_mean(absent_s),
        absent_max_s=max(absent_s, default=None),
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def read_events(events: Iterable[Event], names: dict[int, str], *, whole: bool) -> list[Incident]:
    """The incidents of a run of events, the oldest first. `names`: of the nodes by number, where a removed node goes
    by the name that it had. `whole`: every object has its full redundancy now."""
    book = _Book(names)
    for event in events:
        book.note(event)
    return book.closed(whole=whole)


class _Book:
    """Incidents as the events tell them, one after the other."""

    def __init__(self, names: dict[int, str]) -> None:
        self._names = names
        self._found: list[Incident] = []
        self._absent: dict[str, int] = {}  # name -> place in _found
        self._reduced: int | None = None  # place in _found
        self._repairing = False
        self._all_back_ms: int | None = None  # with an incident of redundancy that no repair has taken up
        self._back_ms = 0  # when the last node came back

    def note(self, event: Event) -> None:
        """The next event."""
        name = self._names.get(event.node or 0, "")
        self._let_pass(event)
        match event.kind:
            case "node-suspect" | "node-down":
                self._fails(name, event, event.kind)
            case "node-replaced":
                self._fails(name, event, LOST)
            case "node-up" | "node-undrained":
                self._returns(name, event.at_ms, "recovered")
            case "node-removed":
                self._returns(name, event.at_ms, "removed")
            case "repair-started":
                self._repairs(event)
            case "redundancy-restored":
                self._restored(event.at_ms)

    def closed(self, *, whole: bool) -> list[Incident]:
        """All of them, once every event is noted. What had to be repaired may have been deleted instead: nobody
        tells of that."""
        if self._reduced is not None and whole and not self._absent:
            self._restored(max(self._back_ms, self._found[self._reduced].began_ms))
        return sorted(self._found, key=lambda each: each.began_ms)

    def _fails(self, name: str, event: Event, kind: str) -> None:
        place = self._absent.get(name)
        if place is None:
            self._absent[name] = len(self._found)
            self._found.append(Incident(kind, name, event.at_ms, None, "ongoing", event.detail))
        elif kind != SUSPECT:
            self._change(place, kind=kind)
        self._all_back_ms = None
        if self._reduced is None:
            self._begin_reduced(name, event)

    def _returns(self, name: str, at_ms: int, outcome: str) -> None:
        place = self._absent.pop(name, None)
        if place is None:
            return
        self._change(place, ended_ms=at_ms, outcome=outcome)
        self._back_ms = at_ms
        if not self._absent and self._reduced is not None and not self._repairing:
            self._all_back_ms = at_ms

    def _repairs(self, event: Event) -> None:
        if self._reduced is None:
            self._begin_reduced(None, event)
        self._repairing = True
        self._all_back_ms = None

    def _begin_reduced(self, name: str | None, event: Event) -> None:
        self._reduced = len(self._found)
        self._found.append(Incident(REDUNDANCY, name, event.at_ms, None, "ongoing", event.kind))

    def _restored(self, at_ms: int) -> None:
        if self._reduced is not None:
            self._change(self._reduced, ended_ms=at_ms, outcome="recovered")
        self._reduced, self._repairing, self._all_back_ms = None, False, None

    def _let_pass(self, event: Event) -> None:
        """When all were back for so long and nothing was repaired, nothing had to be."""
        back_ms = self._all_back_ms
        if back_ms is not None and event.at_ms - back_ms > _STILL_THE_SAME_MS:
            self._restored(back_ms)

    def _change(self, place: int, **values: object) -> None:
        self._found[place] = msgspec.structs.replace(self._found[place], **values)
