"""What the commands that look into a store, or change it, have in common: its catalog, and how they answer.

They open the catalog themselves, beside the running store or without it; what they commit is seen at once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from compose import control
from compose.catalog_place import catalog_of
from compose.data_dir import DataDir
from compose.refusal import CommandRefused, StartRefused
from compose.running import processes
from compose.settings import Settings

if TYPE_CHECKING:
    from catalog.engine import Catalog
    from catalog.statement import Reader
    from catalog.transaction import Transaction
    from cluster.topology import NodeSet

T = TypeVar("T")

REFRESH_WAIT_S = 60.0
KILLED_WAIT_S = 5.0
"""After a SIGKILL the kernel may still be ending a process that waits for its disk."""
SHIPPED_WAIT_S = 2.0
_SHIPPED_LOOK_S = 0.05

Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="data directory of the store [TRIVET_DATA; default: data]"),
]
AsJson = Annotated[bool, typer.Option("--json", help="answer in JSON, for programs")]


def settings_of(data: Path | None) -> Settings:
    """Raises CommandRefused when there is no store in the directory."""
    settings = Settings.read(os.environ, {"data": data})
    place = catalog_of(settings)
    if isinstance(place, Path) and not place.exists():
        raise CommandRefused(
            f"there is no store in {settings.data.absolute()}: name its directory with --data DIR or TRIVET_DATA"
        )
    return settings


def with_catalog(settings: Settings, work: Callable[[Catalog], Awaitable[T]]) -> T:
    """Runs `work` on the store's open catalog. Raises CommandRefused when it can't be used, or not now; that a name is
    not there, or taken, comes out as it is: the command knows what to say of it.
    """
    from catalog.errors import (
        AccessKeyExists,
        CatalogError,
        EncryptionKeyExists,
        NoSuchAccessKey,
        NoSuchBucket,
        NoSuchEncryptionKey,
        TooManyAccessKeys,
        TooManyEncryptionKeys,
    )
    from compose.wiring import opened_catalog

    async def opened() -> T:
        async with opened_catalog(settings) as catalog:
            return await work(catalog)

    try:
        return asyncio.run(opened())
    except StartRefused as refusal:
        raise CommandRefused(str(refusal)) from None
    except (NoSuchBucket, NoSuchAccessKey, AccessKeyExists, TooManyAccessKeys):
        raise
    except (NoSuchEncryptionKey, EncryptionKeyExists, TooManyEncryptionKeys):
        raise
    except CatalogError as error:
        raise CommandRefused(f"the catalog could not do it now ({error}); try again") from error


def read_catalog(settings: Settings, question: Callable[[Reader], T]) -> T:
    """The answer of one read. Raises as `with_catalog` does."""

    async def read(catalog: Catalog) -> T:
        return await catalog.read(question)

    return with_catalog(settings, read)


def write_catalog(settings: Settings, change: Callable[[Transaction], T], *, frees: bool = False) -> T:
    """What one transaction returns, when it is durable. Raises as `with_catalog` does. `frees`: it must pass while the
    disk is full.
    """

    async def write(catalog: Catalog) -> T:
        done = await catalog.write(change, frees=frees)
        if settings.catalog_copies and processes(DataDir(settings.data)):
            await _shipped(catalog)
        return done

    return with_catalog(settings, write)


async def _shipped(catalog: Catalog) -> None:
    """Give the running store a moment to take the change to the storage nodes (S17), so that it outlives the disk."""
    from catalog import outbox

    if catalog.path is None:
        return
    try:
        async with asyncio.timeout(SHIPPED_WAIT_S):
            while await catalog.read(outbox.newest):  # noqa: ASYNC110 - another process empties it
                await asyncio.sleep(_SHIPPED_LOOK_S)
    except TimeoutError:
        return  # no store runs, or its nodes are away: it is shipped with what comes next


def with_store(settings: Settings, work: Callable[[Catalog, NodeSet], Awaitable[T]]) -> T:
    """As `with_catalog`, with links to the nodes, as far as they answer."""

    from compose.wiring import asked_nodes

    # Who does not answer is told by the command, in its own words.
    logging.getLogger("cluster").addHandler(logging.NullHandler())

    async def linked(catalog: Catalog) -> T:
        async with asked_nodes(settings, catalog) as node_set:
            return await work(catalog, node_set)

    return with_catalog(settings, linked)


def refresh(settings: Settings) -> list[str]:
    """Has the `trivet up` of this host start and stop nodes as the catalog says; what a person should know of it."""
    try:
        reply = control.tell(DataDir(settings.data).control, control.REFRESH, REFRESH_WAIT_S)
    except TimeoutError:
        return ["the store is busy: it has not said yet that it took the change over"]
    if reply is not None:
        return reply.problems
    if isinstance(catalog_of(settings), Path) and not processes(DataDir(settings.data)):
        return ["the store does not run: this takes effect at its next start"]
    return [
        "no `trivet up` runs here: fronts and stewards follow the catalog, the node's own process starts or stops "
        "when the `trivet up` that runs it is started again"
    ]


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


def answer(facts: dict[str, Any], words: str, *, as_json: bool) -> None:
    """The outcome of a command, for a program or for a person."""
    if as_json:
        print_json(facts)
    else:
        print(words)
