"""Long work that an operator asked for, as rows: what was asked, and how it ended. What a kind of work must remember
(`memo`) is in its owner's own format. And how much work there is, counted as far as a transaction may take."""

from __future__ import annotations

import sqlalchemy as sa
from msgspec import Struct

from catalog import schema
from catalog.statement import Reader, Row, Statement, constant, page, parameter
from catalog.transaction import Transaction

KEPT = 1000
"""So many are remembered; those that are not over are never forgotten."""

RUNNING = "running"
DONE = "done"
FAILED = "failed"
CANCELLED = "cancelled"

_operations = schema.operations
_blobs = schema.blobs
_runs = schema.blob_runs
_COLUMNS = (
    _operations.c.number,
    _operations.c.kind,
    _operations.c.node,
    _operations.c.state,
    _operations.c.started_ms,
    _operations.c.finished_ms,
    _operations.c.memo,
)
_GET = Statement(sa.select(*_COLUMNS).where(_operations.c.number == parameter("p_number")), "p_number")
_LIST = Statement(page(sa.select(*_COLUMNS).order_by(_operations.c.number.desc())), "limit")
_IN_STATE = Statement(
    sa.select(*_COLUMNS).where(_operations.c.state == parameter("p_state")).order_by(_operations.c.number),
    "p_state",
)
_INSERT = Statement(
    sa.insert(_operations).returning(_operations.c.number), "kind", "node", "state", "started_ms", "memo"
)
_UPDATE = Statement(
    sa.update(_operations)
    .values(state=parameter("n_state"), finished_ms=parameter("n_finished"), memo=parameter("n_memo"))
    .where(_operations.c.number == parameter("p_number")),
    "n_state",
    "n_finished",
    "n_memo",
    "p_number",
)
_TRIM = Statement(
    sa.delete(_operations).where(
        _operations.c.number <= parameter("p_last"), _operations.c.state != constant(f"'{RUNNING}'")
    ),
    "p_last",
)
_IN_FIRST_RUN = Statement(
    sa.select(sa.func.count()).select_from(
        page(
            sa.select(constant("1")).where(
                _blobs.c.placement_id == parameter("p_number"), _blobs.c.refs > constant("0")
            )
        ).subquery()
    ),
    "p_number",
    "limit",
)
_IN_LATER_RUN = Statement(
    sa.select(sa.func.count()).select_from(
        page(
            sa.select(_runs.c.blob_id)
            .distinct()
            .join_from(_runs, _blobs, _blobs.c.id == _runs.c.blob_id)
            .where(
                _runs.c.placement_id == parameter("p_number"),
                _blobs.c.placement_id != _runs.c.placement_id,
                _blobs.c.refs > constant("0"),
            )
        ).subquery()
    ),
    "p_number",
    "limit",
)
_STORED = Statement(
    sa.select(sa.func.count()).select_from(
        page(
            sa.select(constant("1")).where(_blobs.c.refs > constant("0"), _blobs.c.stripes > constant("0"))
        ).subquery()
    ),
    "limit",
)


class OperationRow(Struct, frozen=True):
    """One row. `node`: the number of the node that it is about. Times in milliseconds; `finished_ms` is None while
    `state` is RUNNING."""

    number: int
    kind: str
    node: int | None
    state: str
    started_ms: int
    finished_ms: int | None
    memo: bytes


def begin(tx: Transaction, kind: str, node: int | None, memo: bytes) -> OperationRow:
    """A new one, running from now on. The oldest of more than KEPT is forgotten."""
    row = tx.row(_INSERT, (kind, node, RUNNING, tx.now_ms, memo))
    assert row is not None
    tx.execute(_TRIM, (row[0] - KEPT,))
    return OperationRow(row[0], kind, node, RUNNING, tx.now_ms, None, memo)


def update(tx: Transaction, row: OperationRow, *, state: str, memo: bytes) -> OperationRow:
    """How it stands now; in any other state than RUNNING it is over as of now."""
    finished_ms = None if state == RUNNING else tx.now_ms
    tx.execute(_UPDATE, (state, finished_ms, memo, row.number))
    return OperationRow(row.number, row.kind, row.node, state, row.started_ms, finished_ms, memo)


def get(reader: Reader, number: int) -> OperationRow | None:
    """None when there is none of that number, or no more."""
    row = reader.row(_GET, (number,))
    return None if row is None else _row(row)


def listed(reader: Reader, limit: int) -> list[OperationRow]:
    """The latest first."""
    return [_row(row) for row in reader.rows(_LIST, (limit,))]


def running(reader: Reader) -> list[OperationRow]:
    """All that are not over, the oldest first."""
    return [_row(row) for row in reader.rows(_IN_STATE, (RUNNING,))]


def blobs_at_most(reader: Reader, placement: int, limit: int) -> int:
    """Referenced blobs that an assignment serves in any of their runs; of more than `limit`, at least `limit`."""
    first = _count(reader, _IN_FIRST_RUN, placement, limit)
    return first if first >= limit else first + _count(reader, _IN_LATER_RUN, placement, limit - first)


def stored_at_most(reader: Reader, limit: int) -> int:
    """Referenced blobs that have stripes; of more than `limit`, `limit`."""
    return _count(reader, _STORED, limit)


def _count(reader: Reader, statement: Statement, *parameters: int) -> int:
    row = reader.row(statement, parameters)
    assert row is not None
    number: int = row[0]
    return number


def _row(row: Row) -> OperationRow:
    return OperationRow(*row)
