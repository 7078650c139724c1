"""Storage nodes as the cluster knows them. Every change makes the fronts read them again (S16)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from catalog import schema
from catalog.model import NodeRow
from catalog.statement import Reader, Statement, parameter
from catalog.transaction import Transaction

if TYPE_CHECKING:
    from catalog.engine import Catalog

JOINING = "joining"
UP = "up"

_nodes = schema.nodes
_LIST = Statement(
    sa.select(
        _nodes.c.number,
        _nodes.c.node_id,
        _nodes.c.name,
        _nodes.c.region,
        _nodes.c.zone,
        _nodes.c.host,
        _nodes.c.port,
        _nodes.c.state,
    ).order_by(_nodes.c.number)
)
_INSERT = Statement(
    sa.insert(_nodes).returning(_nodes.c.number), "node_id", "name", "region", "zone", "host", "port", "state"
)
_MOVE = Statement(
    sa.update(_nodes)
    .values(host=parameter("n_host"), port=parameter("n_port"))
    .where(_nodes.c.number == parameter("p_number")),
    "n_host",
    "n_port",
    "p_number",
)
_SET_STATE = Statement(
    sa.update(_nodes).values(state=parameter("n_state")).where(_nodes.c.number == parameter("p_number")),
    "n_state",
    "p_number",
)


def list_nodes(reader: Reader) -> tuple[NodeRow, ...]:
    """All nodes by number."""
    return tuple(NodeRow(*row) for row in reader.rows(_LIST))


async def current(catalog: Catalog) -> tuple[NodeRow, ...]:
    """All nodes as of now; the same tuple as long as nothing changed."""
    cache = await catalog.configuration()
    if cache.nodes is None:
        cache.nodes = tuple(NodeRow(*row) for row in await catalog.point(_LIST))
    return cache.nodes


def register(
    tx: Transaction, *, node_id: bytes, name: str, region: str, zone: str, host: str, port: int
) -> NodeRow:
    """Add a node in state `joining`: its directory may still be empty. Its row."""
    row = tx.row(_INSERT, (node_id, name, region, zone, host, port, JOINING))
    assert row is not None
    tx.touch_configuration()
    return NodeRow(row[0], node_id, name, region, zone, host, port, JOINING)


def move(tx: Transaction, number: int, *, host: str, port: int) -> None:
    """A node listens somewhere else now."""
    tx.execute(_MOVE, (host, port, number))
    tx.touch_configuration()


def set_state(tx: Transaction, number: int, state: str) -> None:
    """Change a node's state; from the first `up` on it is known and refuses an empty directory (S23)."""
    tx.execute(_SET_STATE, (state, number))
    tx.touch_configuration()
