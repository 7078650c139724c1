"""Which nodes hold which shards: each distinct assignment is stored once and named by number."""

from __future__ import annotations

import struct

import sqlalchemy as sa

from catalog import schema
from catalog.statement import Reader, Statement, page, parameter
from catalog.transaction import PlacementNumbers, Transaction

_placements = schema.placements
_BY_NUMBER = Statement(
    sa.select(_placements.c.nodes).where(_placements.c.id == parameter("p_number")), "p_number"
)
_BY_NODES = Statement(
    sa.select(_placements.c.id).where(_placements.c.nodes == parameter("p_nodes")), "p_nodes"
)
_INSERT = Statement(sa.insert(_placements).returning(_placements.c.id), "nodes")
_INSERT_NODE = Statement(sa.insert(schema.placement_nodes), "node", "placement_id")
_BLOBS_ON_NODE = Statement(
    page(
        sa.select(schema.blobs.c.id)
        .join(schema.placement_nodes, schema.placement_nodes.c.placement_id == schema.blobs.c.placement_id)
        .where(schema.placement_nodes.c.node == parameter("p_node"), schema.blobs.c.id > parameter("p_after"))
        .order_by(schema.blobs.c.id)
    ),
    "p_node",
    "p_after",
    "limit",
)


def pack(nodes: tuple[int, ...]) -> bytes:
    """Node numbers as stored: u32 big-endian each, by shard."""
    return struct.pack(f">{len(nodes)}I", *nodes)


def unpack(packed: bytes) -> tuple[int, ...]:
    """The inverse of `pack`."""
    return struct.unpack(f">{len(packed) // 4}I", packed)


def number_of(tx: Transaction, nodes: tuple[int, ...]) -> int:
    """The number of an assignment, made if it is new. The process learns it when the batch is committed."""
    known = tx.placements.number_by_nodes.get(nodes)
    if known is None:
        known = tx.new_placements.get(nodes)
    return known if known is not None else _find_or_insert(tx, nodes)


def _find_or_insert(tx: Transaction, nodes: tuple[int, ...]) -> int:
    packed = pack(nodes)
    row = tx.row(_BY_NODES, (packed,))
    if row is None:
        row = tx.row(_INSERT, (packed,))
        assert row is not None
        for node in sorted(set(nodes)):
            tx.execute(_INSERT_NODE, (node, row[0]))
    number: int = row[0]
    tx.new_placements[nodes] = number
    return number


def nodes_of(reader: Reader, placements: PlacementNumbers, number: int) -> tuple[int, ...]:
    """The assignment behind a number that some row named: it exists."""
    known = placements.nodes_by_number.get(number)
    if known is None:
        row = reader.row(_BY_NUMBER, (number,))
        assert row is not None, f"placement {number} is named by a row and missing"
        known = unpack(row[0])
        if not isinstance(reader, Transaction):  # whose rows may yet be rolled back
            placements.learn(number, known)
    return known


def blobs_on_node(reader: Reader, node: int, *, after: bytes, limit: int) -> list[bytes]:
    """Ids of blobs whose first run has a shard on the node, ascending by id from `after` on (exclusive)."""
    return [row[0] for row in reader.rows(_BLOBS_ON_NODE, (node, after, limit))]
