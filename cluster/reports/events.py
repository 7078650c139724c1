"""What happened to nodes and data, as people and programs are told."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec

from catalog import nodes, work
from catalog.statement import Reader
from cluster.reports.moments import At, iso_at

KEPT: Final = 10_000
"""So many the catalog keeps at most: a filter looks at all of them."""


class EventReport(msgspec.Struct, frozen=True):
    """`number` rises with time. `node` is the name that the node has now (`node-1#1` once it was removed); none where
    the event is not about a node."""

    number: int
    happened_at: At
    kind: str
    node: str | None
    detail: str


def events(
    reader: Reader,
    *,
    limit: int,
    kinds: Collection[str] = (),
    node: str | None = None,
    after: int = 0,
    before: int | None = None,
) -> list[EventReport]:
    """The last `limit` of those with numbers between `after` and `before`, newest first; only of these `kinds` where
    there are any, only of the node of that name, and of those it replaced, where one is given.
    """
    names = {row.number: row.name for row in nodes.list_nodes(reader)}
    narrow = bool(kinds) or node is not None or before is not None
    found: list[EventReport] = []
    for event in work.list_events(reader, after=after, limit=KEPT if narrow else limit, newest_first=True):
        name = names.get(event.node or 0)
        if (
            (before is None or event.number < before)
            and (not kinds or event.kind in kinds)
            # A removed node's name has a number behind a # (cluster.membership).
            and (node is None or (name or "").partition("#")[0] == node)
        ):
            found.append(EventReport(event.number, iso_at(event.at_ms), event.kind, name, event.detail))
            if len(found) == limit:
                break
    return found


def last_number(reader: Reader) -> int:
    """Of the newest event; 0 when nothing has happened yet."""
    newest = work.list_events(reader, limit=1, newest_first=True)
    return newest[0].number if newest else 0
