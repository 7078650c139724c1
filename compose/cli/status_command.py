"""``trivet status``: the store at one look, or live."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from compose.cli.store_access import AsJson, Data, settings_of, with_store
from compose.refusal import EXIT_NOT_DONE

if TYPE_CHECKING:
    from collections.abc import Callable

    from catalog.engine import Catalog
    from cluster.topology import NodeSet
    from compose.cli.status_look import Look

WATCH_EVERY_S = 1.0
IN_VAIN_MAX = 30
"""A live view bears so many looks at a catalog that is busy, one after the other."""


def status(
    *,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="go on, kept up to date on the screen, until Ctrl-C")
    ] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Show nodes, capacity, health, redundancy and repair, what the last minute brought, and what happened last.

    Exit code 1 when the store does not run, or objects are in danger.
    """
    from catalog.errors import CatalogError
    from compose.cli.status_look import look

    settings = settings_of(data)

    async def show(catalog: Catalog, node_set: NodeSet) -> Look:
        with ExitStack() as stack:
            say = _teller(stack, as_json=as_json, watch=watch)
            in_vain = 0
            while True:
                began_s = time.monotonic()
                try:
                    seen = await look(settings, catalog, node_set)
                except CatalogError:
                    in_vain += 1
                    if not watch or in_vain > IN_VAIN_MAX:
                        raise
                else:
                    in_vain = 0
                    say(seen)
                    if not watch:
                        return seen
                # To count many blobs takes its time: this must not become the store's main occupation.
                await asyncio.sleep(max(WATCH_EVERY_S, 10 * (time.monotonic() - began_s)))

    try:
        seen = with_store(settings, show)
    except KeyboardInterrupt:
        if not watch:
            raise
        return  # that is how it ends
    if not seen.well:
        raise typer.Exit(EXIT_NOT_DONE)


def _teller(stack: ExitStack, *, as_json: bool, watch: bool) -> Callable[[Look], None]:
    """In JSON, one object (a line while it goes on); or on a screen that is kept up to date; or in words."""
    if as_json:
        from compose.cli.status_look import as_json as plain

        indent = None if watch else 2
        return lambda seen: print(json.dumps(plain(seen), indent=indent), flush=True)

    from rich.console import Console

    from compose.cli.status_view import view

    console = Console()
    if watch and sys.stdout.isatty():
        from rich.live import Live

        live = stack.enter_context(Live(console=console, auto_refresh=False, vertical_overflow="ellipsis"))
        return lambda seen: live.update(view(seen, console.width, console.height), refresh=True)
    return lambda seen: console.print(view(seen, console.width, None))
