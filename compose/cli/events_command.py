"""``trivet events``: what happened to the nodes, and what the steward did about it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from compose.cli.store_access import AsJson, Data, print_json, settings_of, with_catalog
from compose.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catalog.engine import Catalog
    from catalog.statement import Reader
    from cluster.reports.events import EventReport

LIMIT_MAX = 10_000
FOLLOW_EVERY_S = 0.5


def events(
    *,
    limit: Annotated[int, typer.Option(min=1, max=LIMIT_MAX, help="how many of the latest")] = 50,
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
    from cluster.reports.events import KEPT, last_number
    from cluster.reports.events import events as events_of

    def since(reader: Reader, number: int, most: int) -> tuple[list[EventReport], int]:
        found = events_of(reader, limit=most, kinds=kind or (), node=node, after=number)
        return found[::-1], last_number(reader)

    say = _say_json if as_json else _say

    async def show(catalog: Catalog) -> None:
        found, last = await catalog.read(lambda reader: since(reader, 0, limit))
        if as_json and not follow:
            print_json(msgspec.to_builtins(found))
            return
        if not found and not as_json:
            print(
                "nothing of that kind has happened"
                if kind or node
                else "nothing has happened to the nodes yet"
            )
        say(found)
        while follow:
            await asyncio.sleep(FOLLOW_EVERY_S)
            found, last = await catalog.read(lambda reader, number=last: since(reader, number, KEPT))  # type: ignore[misc]
            say(found)

    try:
        with_catalog(settings_of(data), show)
    except KeyboardInterrupt:
        if not follow:
            raise
        # That is how it ends.


def _say(found: Sequence[EventReport]) -> None:
    for event in found:
        print(line(event), flush=True)


def _say_json(found: Sequence[EventReport]) -> None:
    for event in found:
        print(json.dumps(msgspec.to_builtins(event)), flush=True)


def line(event: EventReport, *, of_today: bool = False) -> str:
    """One event as people read it; `of_today`: the time without the date."""
    at = event.happened_at[11:19] if of_today else event.happened_at
    return f"{at}  {event.kind:<22} {event.node or '':<12} {printable(event.detail)}".rstrip()
