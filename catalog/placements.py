"""Blobs by where they lie, and moving them: for repair, draining and rebalancing.

The readers are for `Catalog.read`; give `Catalog.placements` as `numbers`. A blob that nothing refers to any
more is garbage and not moved; until it is collected its layout still counts as in use, for readers of the old
version (S21).
"""

from __future__ import annotations

from heapq import merge
from itertools import pairwise
from operator import itemgetter

import sqlalchemy as sa

from catalog import blobs, layouts, schema
from catalog.model import BlobRow, PlacementUse, Run
from catalog.statement import Reader, Statement, constant, page, parameter
from catalog.transaction import PlacementNumbers, Transaction

_placements = schema.placements
_on_node = schema.placement_nodes
_blobs = schema.blobs
_runs = schema.blob_runs
_earlier = _runs.alias("earlier")
_CODE = _blobs.c.k * constant("256") + _blobs.c.m


def _code_of_one(query: sa.Select[tuple[int]]) -> sa.ScalarSelect[int]:
    return query.limit(constant("1")).offset(constant("0")).scalar_subquery()


_IN_USE = Statement(
    sa.select(
        _placements.c.id,
        _placements.c.nodes,
        sa.func.coalesce(
            _code_of_one(sa.select(_CODE).where(_blobs.c.placement_id == _placements.c.id)),
            _code_of_one(
                sa.select(_CODE)
                .join_from(_runs, _blobs, _blobs.c.id == _runs.c.blob_id)
                .where(_runs.c.placement_id == _placements.c.id)
            ),
        ),
    ).order_by(_placements.c.id)
)
_NODE_IN_USE = Statement(
    sa.select(constant("1"))
    .select_from(_on_node)
    .where(
        _on_node.c.node == parameter("p_node"),
        sa.exists().where(_blobs.c.placement_id == _on_node.c.placement_id)
        | sa.exists().where(_runs.c.placement_id == _on_node.c.placement_id, _runs.c.blob_id == _blobs.c.id),
    )
    .limit(constant("1"))
    .offset(constant("0")),
    "p_node",
)
_BY_FIRST_RUN = Statement(
    page(
        sa.select(*blobs.ROW_COLUMNS)
        .where(
            _blobs.c.placement_id == parameter("p_number"),
            _blobs.c.id > parameter("p_after"),
            _blobs.c.refs > constant("0"),
        )
        .order_by(_blobs.c.id)
    ),
    "p_number",
    "p_after",
    "limit",
)
_BY_LATER_RUN = Statement(
    page(
        sa.select(*blobs.ROW_COLUMNS)
        .join_from(_runs, _blobs, _blobs.c.id == _runs.c.blob_id)
        .where(
            _runs.c.placement_id == parameter("p_number"),
            _runs.c.blob_id > parameter("p_after"),
            _blobs.c.placement_id != _runs.c.placement_id,
            _blobs.c.refs > constant("0"),
            # Once, though several of its runs may name it.
            ~sa.exists().where(
                _earlier.c.blob_id == _runs.c.blob_id,
                _earlier.c.placement_id == _runs.c.placement_id,
                _earlier.c.first_stripe < _runs.c.first_stripe,
            ),
        )
        .order_by(_runs.c.blob_id)
    ),
    "p_number",
    "p_after",
    "limit",
)
_COUNT_BY_FIRST_RUN = Statement(
    sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(_blobs.c.size), constant("0"))).where(
        _blobs.c.placement_id == parameter("p_number"), _blobs.c.refs > constant("0")
    ),
    "p_number",
)
_COUNT_BY_LATER_RUN = Statement(
    sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(_blobs.c.size), constant("0"))).where(
        _blobs.c.id.in_(sa.select(_runs.c.blob_id).where(_runs.c.placement_id == parameter("p_number"))),
        _blobs.c.placement_id != parameter("p_first"),
        _blobs.c.refs > constant("0"),
    ),
    "p_number",
    "p_first",
)
_LAYOUT = Statement(
    sa.select(_blobs.c.placement_id, _blobs.c.runs).where(
        _blobs.c.id == parameter("p_id"),
        _blobs.c.refs > constant("0"),
        _blobs.c.condemned == constant("0"),
    ),
    "p_id",
)
_MOVE = Statement(
    sa.update(_blobs)
    .values(placement_id=parameter("n_placement"), runs=parameter("n_runs"))
    .where(_blobs.c.id == parameter("p_id")),
    "n_placement",
    "n_runs",
    "p_id",
)


def in_use(reader: Reader) -> list[PlacementUse]:
    """The assignments that at least one blob names, in its first or a later run. Costs a few µs for each
    assignment ever made, whatever the number of blobs."""
    rows = reader.rows(_IN_USE)
    return [
        PlacementUse(number, layouts.unpack(nodes), *divmod(code, 256))
        for number, nodes, code in rows
        if code is not None
    ]


def node_in_use(reader: Reader, node: int) -> bool:
    """Whether the layout of any blob names the node; then its data is still needed."""
    return reader.row(_NODE_IN_USE, (node,)) is not None


def count(reader: Reader, number: int) -> tuple[int, int]:
    """Referenced blobs that an assignment serves in any of their runs, and the bytes of all of each. Costs
    time in proportion to their number: ask rarely."""
    first, later = (
        reader.row(_COUNT_BY_FIRST_RUN, (number,)),
        reader.row(_COUNT_BY_LATER_RUN, (number, number)),
    )
    assert first is not None
    assert later is not None
    return first[0] + later[0], first[1] + later[1]


def blobs_in(
    reader: Reader, numbers: PlacementNumbers, number: int, *, after: bytes, limit: int
) -> list[BlobRow]:
    """Referenced blobs that an assignment serves in any of their runs, with all their runs, each once,
    ascending by id from `after` on (exclusive). Fewer than `limit`: there are no more."""
    pages = (reader.rows(which, (number, after, limit)) for which in (_BY_FIRST_RUN, _BY_LATER_RUN))
    rows = list(merge(*pages, key=itemgetter(0)))[:limit]
    return [blobs.laid_out(reader, numbers, row) for row in rows]


def move(
    tx: Transaction, blob_id: bytes, *, old: BlobRow, nodes: tuple[int, ...], runs: tuple[Run, ...]
) -> bool:
    """Give a blob another layout, provided that its whole layout is still that of `old`, the row from which
    the copies were made, and that something refers to it (S20). False: it changed meanwhile, nothing is done.
    Raises HolderRemoved.

    Call it only when every shard of the new layout is durable and was verified (P7), and queue the copies that
    the new layout no longer names with `work.queue_extra` in the same transaction.
    """
    assert all(first.first_stripe < second.first_stripe for first, second in pairwise(runs)), "runs rise"
    row = tx.row(_LAYOUT, (blob_id,))
    if row is None or layouts.nodes_of(tx, tx.placements, row[0]) != old.nodes:
        return False
    if (layouts.runs_of(tx, tx.placements, blob_id) if row[1] else ()) != old.runs:
        return False
    layouts.refuse_removed(tx, layouts.named(nodes, runs) - layouts.named(old.nodes, old.runs))
    if old.runs:
        layouts.drop_runs(tx, blob_id)
    tx.execute(_MOVE, (layouts.number_of(tx, nodes), len(runs), blob_id))
    layouts.add_runs(tx, blob_id, runs)
    return True
