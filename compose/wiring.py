"""What fronts and the steward have in common: the open catalog and the links to the nodes that it knows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from catalog import nodes
from catalog.engine import Catalog
from catalog.errors import CatalogError
from cluster import wire
from cluster.topology import NodeInfo, NodeSet
from compose import credentials
from compose.data_dir import DataDir
from compose.refusal import StartRefused
from compose.settings import Settings

NODES_WAIT_S = 5.0
"""A front waits so long for its links before it takes requests: the first ones should not meet a 503."""


@asynccontextmanager
async def opened_catalog(settings: Settings) -> AsyncIterator[Catalog]:
    """The store's catalog, which must be there already. Raises StartRefused when it can't be used."""
    try:
        catalog = Catalog.open(DataDir(settings.data).catalog)
        await catalog.start()
    except CatalogError as refusal:
        raise StartRefused(str(refusal)) from refusal
    try:
        yield catalog
    finally:
        await catalog.close()


@asynccontextmanager
async def connected_nodes(settings: Settings, catalog: Catalog, role: wire.Role) -> AsyncIterator[NodeSet]:
    """Links to all nodes that the catalog knows, connected where they answer within NODES_WAIT_S."""
    node_set = NodeSet.connecting(
        [
            NodeInfo(
                number=row.number,
                node_id=row.node_id,
                name=row.name,
                region=row.region,
                zone=row.zone,
                address=(row.host, row.port),
                state=row.state,
            )
            for row in await nodes.current(catalog)
        ],
        secret=credentials.load_cluster_secret(DataDir(settings.data).cluster_secret),
        cluster_id=(await catalog.meta()).cluster_id,
        role=role,
    )
    async with node_set:
        await node_set.wait_up(NODES_WAIT_S)
        yield node_set
