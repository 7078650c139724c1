"""How far a running store is from full redundancy, by its own catalog."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from catalog import nodes, placements, work
from catalog.engine import Catalog
from catalog.statement import Reader
from cluster.placement import is_standard
from tests.system.conftest import Store

T = TypeVar("T")


def with_catalog(store: Store, use: Callable[[Catalog], Awaitable[T]]) -> T:
    """Use the catalog of a running store beside its own processes."""

    async def work_with_it() -> T:
        catalog = Catalog.open(store.catalog)
        await catalog.start()
        try:
            return await use(catalog)
        finally:
            await catalog.close()

    return asyncio.run(work_with_it())


def below_full_redundancy(store: Store) -> list[str]:
    """Why not every blob has all its shards where they belong; empty when it has."""
    return with_catalog(store, lambda catalog: catalog.read(_waiting))


def _waiting(reader: Reader) -> list[str]:
    present = {row.number for row in nodes.list_nodes(reader) if row.state != "removed"}
    waiting = [
        f"{row.name} is {row.state}" for row in nodes.list_nodes(reader) if row.state not in ("up", "removed")
    ]
    repairs = work.repair_count(reader)
    if repairs:
        waiting.append(f"{repairs} repairs are queued")
    waiting += [
        f"{blobs} blobs lie on {use.nodes}"
        for use in placements.in_use(reader)
        if not (is_standard(use.nodes, use.k + use.m) and present.issuperset(use.nodes))
        and (blobs := placements.count(reader, use.number)[0])
    ]
    return waiting
