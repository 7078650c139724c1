"""Storage nodes as the cluster knows them. Every change makes the fronts read them again (S16)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from catalog import schema
from catalog.errors import NodeExists
from catalog.model import NodeRow
from catalog.statement import Reader, Statement, page, parameter
from catalog.transaction import Transaction

if TYPE_CHECKING:
    from catalog.engine import Catalog

JOINING = "joining"
UP = "up"
SUSPECT = "suspect"
DOWN = "down"
DRAINING = "draining"
REMOVED = "removed"

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
        _nodes.c.directory,
    ).order_by(_nodes.c.number)
)
_INSERT = Statement(
    sa.insert(_nodes).returning(_nodes.c.number),
    "node_id",
    "name",
    "region",
    "zone",
    "host",
    "port",
    "state",
    "directory",
)
_TAKEN = Statement(
    page(
        sa.select(_nodes.c.number, _nodes.c.name).where(
            sa.or_(_nodes.c.name == parameter("p_name"), _nodes.c.node_id == parameter("p_id")),
        )
    ),
    "p_name",
    "p_id",
    "limit",
)
_MOVE = Statement(
    sa.update(_nodes)
    .values(
        host=parameter("n_host"),
        port=parameter("n_port"),
        directory=sa.func.coalesce(parameter("n_directory"), _nodes.c.directory),
    )
    .where(_nodes.c.number == parameter("p_number")),
    "n_host",
    "n_port",
    "n_directory",
    "p_number",
)
_ADOPT = Statement(
    sa.update(_nodes)
    .values(
        node_id=parameter("n_id"),
        region=parameter("n_region"),
        zone=parameter("n_zone"),
        host=parameter("n_host"),
        port=parameter("n_port"),
    )
    .where(_nodes.c.number == parameter("p_number")),
    "n_id",
    "n_region",
    "n_zone",
    "n_host",
    "n_port",
    "p_number",
)
_RENAME = Statement(
    sa.update(_nodes).values(name=parameter("n_name")).where(_nodes.c.number == parameter("p_number")),
    "n_name",
    "p_number",
)
_COUNTS = Statement(
    sa.select(_nodes.c.state, sa.func.count()).group_by(_nodes.c.state).order_by(_nodes.c.state)
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


def stands_alone(row: NodeRow) -> bool:
    """Whether its process is started by itself, on whatever host, and told us its address; no supervisor runs it."""
    return row.directory is None and row.port != 0


def counts(reader: Reader) -> dict[str, int]:
    """How many nodes there are of each state."""
    return dict(reader.rows(_COUNTS))


def register(
    tx: Transaction,
    *,
    node_id: bytes,
    name: str,
    region: str,
    zone: str,
    host: str,
    port: int,
    directory: str | None = None,
    state: str = JOINING,
) -> NodeRow:
    """Add a node; while it is `joining` its directory may still be empty. Its row. Raises NodeExists when the
    name or the id is taken, by a removed node too: rename that first."""
    _refuse_taken(tx, name, node_id)
    row = tx.row(_INSERT, (node_id, name, region, zone, host, port, state, directory))
    assert row is not None
    tx.touch_configuration()
    return NodeRow(row[0], node_id, name, region, zone, host, port, state, directory)


def _refuse_taken(tx: Transaction, name: str, node_id: bytes | None) -> None:
    row = tx.row(_TAKEN, (name, node_id, 1))
    if row is not None:
        taken = f"the name {name}" if row[1] == name else f"the id {node_id.hex() if node_id else ''}"
        raise NodeExists(f"{taken} is that of node {row[0]}, {row[1]}")


def move(tx: Transaction, number: int, *, host: str, port: int, directory: str | None = None) -> None:
    """A node listens somewhere else now, and lies in another directory if one is given."""
    tx.execute(_MOVE, (host, port, directory, number))
    tx.touch_configuration()


def adopt(
    tx: Transaction, number: int, *, node_id: bytes, region: str, zone: str, host: str, port: int
) -> None:
    """Another node takes the place of one that is still `joining`, which holds nothing; never of any other."""
    tx.execute(_ADOPT, (node_id, region, zone, host, port, number))
    tx.touch_configuration()


def rename(tx: Transaction, number: int, name: str) -> None:
    """Give a node another name, e.g. to free that of a lost one for its successor. Raises NodeExists."""
    _refuse_taken(tx, name, None)
    tx.execute(_RENAME, (name, number))
    tx.touch_configuration()


def set_state(tx: Transaction, number: int, state: str) -> None:
    """Change a node's state; from the first `up` on it is known and refuses an empty directory (S23)."""
    tx.execute(_SET_STATE, (state, number))
    tx.touch_configuration()
