"""``trivet events``: what happened to the nodes, and what the steward did about it."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compose.cli.moments import moment_text
from compose.cli.store_access import AsJson, Data, print_json, settings_of, with_catalog

if TYPE_CHECKING:
    from catalog.engine import Catalog
    from catalog.model import Event
    from catalog.statement import Reader

KEPT = 10_000
"""So many the catalog keeps at most: a filter looks at all of them."""
FOLLOW_EVERY_S = 0.5

Found = list[dict[str, Any]]


def events(
    *,
    limit: Annotated[int, typer.Option(min=1, max=KEPT, help="how many of the latest")] = 50,
    kind: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="only of this kind, as node-down; may be given several times"),
    ] = None,
    node: Annotated[
        str | None, typer.Option(metavar="NAME", help="only those of this node, and of those it replaced")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="go on with what happens from now on, until Ctrl-C")
    ] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Show what happened to the nodes and what the steward did about it, the latest last.

    With --json an array; with --follow and --json one object a line.
    """
    wanted = Wanted(frozenset(kind or ()), node)
    say = _say_json if as_json else _say

    async def show(catalog: Catalog) -> None:
        found, last = await catalog.read(lambda reader: (latest(reader, limit, wanted), _last_number(reader)))
        if as_json and not follow:
            print_json(found)
            return
        if not found and not as_json:
            print(
                "nothing of that kind has happened"
                if wanted.narrow
                else "nothing has happened to the nodes yet"
            )
        say(found)
        while follow:
            await asyncio.sleep(FOLLOW_EVERY_S)
            found, last = await catalog.read(partial(_since, last=last, wanted=wanted))
            say(found)

    try:
        with_catalog(settings_of(data), show)
    except KeyboardInterrupt:
        if not follow:
            raise
        # That is how it ends.


class Wanted:
    """Which events a person wants to see."""

    def __init__(self, kinds: frozenset[str] = frozenset(), node: str | None = None) -> None:
        self.kinds = kinds
        self.node = node

    @property
    def narrow(self) -> bool:
        return bool(self.kinds) or self.node is not None

    def has(self, event: dict[str, Any]) -> bool:
        return (not self.kinds or event["kind"] in self.kinds) and self.node in {
            None,
            (event["node"] or "").partition("#")[0],  # that of a removed node has a number behind it
        }


ALL = Wanted()


def latest(reader: Reader, limit: int, wanted: Wanted = ALL) -> Found:
    """The last `limit` events, the latest last: number, happened_at, kind, node (its name now),
    detail."""
    from catalog import work

    rows = work.list_events(reader, limit=KEPT if wanted.narrow else limit, newest_first=True)
    told = [event for event in _told(reader, rows) if wanted.has(event)]
    return told[:limit][::-1]


def _since(reader: Reader, last: int, wanted: Wanted) -> tuple[Found, int]:
    from catalog import work

    rows = work.list_events(reader, after=last, limit=KEPT)
    told = [event for event in _told(reader, rows) if wanted.has(event)]
    return told, max((row.number for row in rows), default=last)


def _last_number(reader: Reader) -> int:
    from catalog import work

    rows = work.list_events(reader, limit=1, newest_first=True)
    return rows[0].number if rows else 0


def _told(reader: Reader, rows: list[Event]) -> Found:
    from catalog import nodes

    if not rows:
        return []
    names = {row.number: row.name for row in nodes.list_nodes(reader)}
    return [
        {
            "number": event.number,
            "happened_at": moment_text(event.at_ms),
            "kind": event.kind,
            "node": names.get(event.node or 0),
            "detail": event.detail,
        }
        for event in rows
    ]


def _say(found: Found) -> None:
    for event in found:
        print(line(event), flush=True)


def _say_json(found: Found) -> None:
    for event in found:
        print(json.dumps(event), flush=True)


def line(event: dict[str, Any], *, of_today: bool = False) -> str:
    """One event as people read it; `of_today`: the time without the date."""
    at = event["happened_at"][11:19] if of_today else event["happened_at"]
    return f"{at}  {event['kind']:<22} {event['node'] or '':<12} {event['detail']}".rstrip()
