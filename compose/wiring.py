"""What fronts and the steward have in common: the open catalog and the links to the nodes that it knows."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from catalog import nodes
from catalog.engine import Catalog, CatalogSettings
from catalog.errors import CatalogError
from catalog.model import NodeRow
from catalog.transaction import read_meta
from cluster import wire
from cluster.catalog_log import CatalogLog
from cluster.topology import NodeInfo, NodeSet
from cluster.tracing import TraceContext, no_trace
from compose.catalog_place import catalog_of, describe
from compose.catalog_reach import COMMAND_WAIT_S, when_reached
from compose.data_dir import DataDir
from compose.join_token import cluster_secret, given_token
from compose.refusal import StartRefused
from compose.running import processes
from compose.settings import Settings

log = logging.getLogger(__name__)

NODES_FOLLOW_S = 0.5
"""How often each process looks whether the catalog's nodes changed. It costs one point read of a number."""
NODES_WAIT_S = 5.0
"""A front waits so long for its links before it takes requests: the first ones should not meet a 503."""
ASKED_WAIT_S = 2.0
DOWN_WAIT_S = 0.5
TRIED_S = 0.01
"""How often a command looks whether each node was tried."""


@asynccontextmanager
async def opened_catalog(settings: Settings, wait_s: float = COMMAND_WAIT_S) -> AsyncIterator[Catalog]:
    """The store's catalog, which must be there already. A file of an older release is migrated, unless processes of
    the store run: those are of the older release too, or their founding would have done it. For a database, which
    processes on other hosts may be using, only `trivet init` and `trivet up` do that. A database out of reach is waited
    for, `wait_s` at most. Raises StartRefused when it can't be used, or is not the one that the join token names."""
    place, where, token = DataDir(settings.data), catalog_of(settings), given_token(settings)
    try:
        limits = CatalogSettings(
            grace_ms=settings.grace_s * 1000,
            day_ms=settings.lifecycle_day_s * 1000,
            copies=settings.catalog_copies if isinstance(where, Path) else 0,
        )
        may_migrate = isinstance(where, Path) and not processes(place)
        catalog = await when_reached(
            lambda: Catalog.open(where, limits, may_migrate=may_migrate), where, wait_s
        )
        await catalog.start()
    except CatalogError as refusal:
        raise StartRefused(str(refusal)) from refusal
    try:
        if token is not None and token.cluster_id != (await catalog.meta()).cluster_id:
            raise StartRefused(f"the join token is not of the store whose catalog is {describe(where)}")
        yield catalog
    finally:
        await catalog.close()


@asynccontextmanager
async def connected_nodes(
    settings: Settings, catalog: Catalog, role: wire.Role, trace_context: TraceContext = no_trace
) -> AsyncIterator[NodeSet]:
    """Links to all nodes that the catalog knows, connected where they answer within NODES_WAIT_S.

    From then on the set follows the catalog: nodes that are added, drained, moved, replaced or removed.
    """
    rows = await nodes.current(catalog)
    async with await _linked(settings, catalog, role, rows, trace_context) as node_set:
        await node_set.wait_up(NODES_WAIT_S)
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(follow_nodes(node_set, catalog, rows), name="nodes of the catalog")
            yield node_set
            following.cancel()


def catalog_log(catalog: Catalog, node_set: NodeSet) -> CatalogLog | None:
    """Have the embedded catalog's log go to the nodes (S17). None where it needs none: a database server replicates
    by itself, and TRIVET_CATALOG_COPIES=0 leaves the catalog on its own disk."""
    if catalog.path is None or not catalog.settings.copies:
        return None

    async def read_term() -> int:
        return (await catalog.read(read_meta)).term

    sink = CatalogLog(node_set, catalog.settings.copies, read_term=read_term)
    catalog.replicate_to(sink)
    return sink


@asynccontextmanager
async def asked_nodes(settings: Settings, catalog: Catalog) -> AsyncIterator[NodeSet]:
    """Likewise for a command, which asks the nodes that are there: it waits for none whose first answer was no, and
    ASKED_WAIT_S for one that is silent. What its work raises comes out as it is.
    """
    rows = await nodes.current(catalog)
    async with await _linked(settings, catalog, wire.Role.CLI, rows) as node_set:
        await _all_tried(node_set)
        following = asyncio.create_task(follow_nodes(node_set, catalog, rows), name="nodes of the catalog")
        try:
            yield node_set
        finally:
            following.cancel()
            await asyncio.wait([following])
            if not following.cancelled():
                following.result()


async def _all_tried(node_set: NodeSet) -> None:
    """Nodes that the catalog knows to be silent get a moment only: their sockets may be held open for them."""
    began = time.monotonic()

    def awaited() -> bool:
        waited_s = time.monotonic() - began
        return any(
            waited_s < (DOWN_WAIT_S if node.state in {nodes.SUSPECT, nodes.DOWN} else ASKED_WAIT_S)
            and (link := node_set.link(node.number)) is not None
            and not link.tried
            for node in node_set.nodes
        )

    while awaited():  # noqa: ASYNC110 - no event says it of all
        await asyncio.sleep(TRIED_S)


async def _linked(
    settings: Settings,
    catalog: Catalog,
    role: wire.Role,
    rows: Sequence[NodeRow],
    trace_context: TraceContext = no_trace,
) -> NodeSet:
    return NodeSet.connecting(
        _infos(rows),
        secret=cluster_secret(settings),
        cluster_id=(await catalog.meta()).cluster_id,
        role=role,
        here=(settings.region, settings.zone),
        trace_context=trace_context,
    )


async def follow_nodes(
    node_set: NodeSet, catalog: Catalog, rows: Sequence[NodeRow], period_s: float = NODES_FOLLOW_S
) -> None:
    """Keep `node_set`, which was made from `rows`, as the catalog has its nodes. Ends by cancellation only.

    While the catalog can't be read the set stays as it is.
    """
    seen = rows
    while True:
        await asyncio.sleep(period_s)
        try:
            now = await nodes.current(catalog)
        except CatalogError as error:
            log.warning("the catalog's nodes could not be read: %s", error)
            continue
        if now != seen:
            log.info("nodes: %s", ", ".join(f"{row.name} {row.state}" for row in now))
            await node_set.update(_infos(now))
            seen = now


def _infos(rows: Sequence[NodeRow]) -> list[NodeInfo]:
    return [
        NodeInfo(
            number=row.number,
            node_id=row.node_id,
            name=row.name,
            region=row.region,
            zone=row.zone,
            address=(row.host, row.port),
            state=row.state,
        )
        for row in rows
    ]
