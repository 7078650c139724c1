"""How far long walks have come, so that they go on after a restart and others can watch them. Each state is
in its owner's own format."""

from __future__ import annotations

import sqlalchemy as sa

from catalog import schema
from catalog.statement import Reader, Statement, parameter
from catalog.transaction import Transaction

_progress = schema.progress
_READ = Statement(sa.select(_progress.c.state).where(_progress.c.name == parameter("p_name")), "p_name")
_UPDATE = Statement(
    sa.update(_progress)
    .values(state=parameter("n_state"), updated_ms=parameter("n_updated"))
    .where(_progress.c.name == parameter("p_name")),
    "n_state",
    "n_updated",
    "p_name",
)
_INSERT = Statement(sa.insert(_progress), "name", "state", "updated_ms")


def read(reader: Reader, name: str) -> bytes | None:
    """The state as last written, None if it never was."""
    row = reader.row(_READ, (name,))
    return None if row is None else row[0]


def write(tx: Transaction, name: str, state: bytes) -> None:
    """Replace the state."""
    if tx.execute(_UPDATE, (state, tx.now_ms, name)) != 1:
        tx.execute(_INSERT, (name, state, tx.now_ms))
