"""What the commands that look into a store, or change it, have in common: its catalog, and how they answer.

They open the catalog themselves, beside the running store or without it; what they commit is seen at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from compose import control
from compose.data_dir import DataDir
from compose.refusal import CommandRefused, StartRefused
from compose.settings import Settings

if TYPE_CHECKING:
    from catalog.engine import Catalog
    from cluster.topology import NodeSet

T = TypeVar("T")

REFRESH_WAIT_S = 60.0
NODES_TRIED_S = 1.0
"""A node that has not said hello by then is taken to be silent."""
_LOOK_EVERY_S = 0.01

Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="data directory of the store [TRIVET_DATA; default: data]"),
]
AsJson = Annotated[bool, typer.Option("--json", help="answer in JSON, for programs")]


def settings_of(data: Path | None) -> Settings:
    """Raises CommandRefused when there is no store in the directory."""
    settings = Settings.read(os.environ, {"data": data})
    if not DataDir(settings.data).catalog.exists():
        raise CommandRefused(
            f"there is no store in {settings.data.absolute()}: name its directory with --data DIR or TRIVET_DATA"
        )
    return settings


def with_catalog(settings: Settings, work: Callable[[Catalog], Awaitable[T]]) -> T:
    """Runs `work` on the store's open catalog. Raises CommandRefused when it can't be used, or not now."""
    from catalog.errors import CatalogError
    from compose.wiring import opened_catalog

    async def opened() -> T:
        async with opened_catalog(settings) as catalog:
            return await work(catalog)

    try:
        return asyncio.run(opened())
    except StartRefused as refusal:
        raise CommandRefused(str(refusal)) from None
    except CatalogError as error:
        raise CommandRefused(f"the catalog could not do it now ({error}); try again") from error


def with_store(settings: Settings, work: Callable[[Catalog, NodeSet], Awaitable[T]]) -> T:
    """As `with_catalog`, with links to the nodes, as far as they answer."""

    async def connected(catalog: Catalog) -> T:
        async with nodes_at_hand(settings, catalog) as node_set:
            return await work(catalog, node_set)

    return with_catalog(settings, connected)


@asynccontextmanager
async def nodes_at_hand(settings: Settings, catalog: Catalog) -> AsyncIterator[NodeSet]:
    """Links to all nodes as the catalog has them, now and later; each of them is up, or was tried, or frozen. So
    nodes that are dead cost no time, unlike in compose.wiring, where requests wait for the last one.
    """
    from cluster import wire
    from cluster.topology import NodeSet
    from compose import credentials
    from compose.wiring import follow_nodes

    node_set = NodeSet.connecting(
        (),
        secret=credentials.load_cluster_secret(DataDir(settings.data).cluster_secret),
        cluster_id=(await catalog.meta()).cluster_id,
        role=wire.Role.CLI,
        here=(settings.region, settings.zone),
    )
    async with node_set:
        following = asyncio.create_task(follow_nodes(node_set, catalog, (), _LOOK_EVERY_S))
        try:
            await _all_tried(catalog, node_set)
            yield node_set
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def _all_tried(catalog: Catalog, node_set: NodeSet) -> None:
    from catalog import nodes

    there = {row.number for row in await nodes.current(catalog) if row.state != nodes.REMOVED}
    for _ in range(round(NODES_TRIED_S / _LOOK_EVERY_S)):
        if all(_is_tried(node_set, number) for number in there):
            return
        await asyncio.sleep(_LOOK_EVERY_S)


def _is_tried(node_set: NodeSet, number: int) -> bool:
    link = node_set.link(number)
    return link is not None and (link.up or link.tried)


def refresh(settings: Settings) -> list[str]:
    """Has the running store start and stop nodes as the catalog says now; what a person should know of it."""
    try:
        reply = control.tell(DataDir(settings.data).control, control.REFRESH, REFRESH_WAIT_S)
    except TimeoutError:
        return ["the store is busy: it has not said yet that it took the change over"]
    if reply is None:
        return ["the store does not run: this takes effect at its next start"]
    return reply.problems


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


def terminal() -> bool:
    """Whether a person looks at what is printed."""
    return sys.stdout.isatty()


def answer(facts: dict[str, Any], words: str, *, as_json: bool) -> None:
    """The outcome of a command, for a program or for a person."""
    if as_json:
        print_json(facts)
    else:
        print(words)
