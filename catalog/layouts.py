"""Which nodes hold which shards: each distinct assignment is stored once and named by number; a blob's layout
is a list of runs of them (S9). Here layouts are only read and written; `placements` moves blobs."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from catalog import schema
from catalog.errors import HolderRemoved
from catalog.model import Run
from catalog.statement import Reader, Statement, parameter
from catalog.transaction import PlacementNumbers, Transaction

_placements = schema.placements
_runs = schema.blob_runs

_BY_NUMBER = Statement(
    sa.select(_placements.c.nodes).where(_placements.c.id == parameter("p_number")), "p_number"
)
_BY_NODES = Statement(
    sa.select(_placements.c.id).where(_placements.c.nodes == parameter("p_nodes")), "p_nodes"
)
_INSERT = Statement(sa.insert(_placements).returning(_placements.c.id), "nodes")
_INSERT_NODE = Statement(sa.insert(schema.placement_nodes), "node", "placement_id")
_RUNS = Statement(
    sa.select(_runs.c.first_stripe, _runs.c.placement_id)
    .where(_runs.c.blob_id == parameter("p_id"))
    .order_by(_runs.c.first_stripe),
    "p_id",
)
_INSERT_RUN = Statement(sa.insert(_runs), "blob_id", "first_stripe", "placement_id")
_DELETE_RUNS = Statement(sa.delete(_runs).where(_runs.c.blob_id == parameter("p_id")), "p_id")


def pack(nodes: tuple[int, ...]) -> bytes:
    """Node numbers as stored: u32 big-endian each; entry i is shard i mod (k+m), number 0 is nobody."""
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
        for node in sorted(set(nodes) - {0}):
            tx.execute(_INSERT_NODE, (node, row[0]))
    number: int = row[0]
    tx.new_placements[nodes] = number
    return number


def named(nodes: Iterable[int], runs: Iterable[Run]) -> set[int]:
    """The nodes that a layout names."""
    return {*nodes, *(node for run in runs for node in run.nodes)} - {0}


def refuse_removed(tx: Transaction, nodes: set[int]) -> None:
    """A layout must not name nodes that have left the store while its shards were written: it would be less
    redundant than its writer believes (P2). Raises HolderRemoved."""
    removed = nodes & tx.removed_nodes
    if removed:
        raise HolderRemoved(f"nodes {sorted(removed)} were removed from the store")


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


def runs_of(reader: Reader, placements: PlacementNumbers, blob_id: bytes) -> tuple[Run, ...]:
    """A blob's runs after the first (S9)."""
    rows = reader.rows(_RUNS, (blob_id,))
    return tuple(Run(first, nodes_of(reader, placements, number)) for first, number in rows)


def add_runs(tx: Transaction, blob_id: bytes, runs: Sequence[Run]) -> None:
    """Store the runs after the first of a blob that has none."""
    for run in runs:
        tx.execute(_INSERT_RUN, (blob_id, run.first_stripe, number_of(tx, run.nodes)))


def drop_runs(tx: Transaction, blob_id: bytes) -> None:
    """Forget the runs after the first."""
    tx.execute(_DELETE_RUNS, (blob_id,))
