"""The outbox: records of group commits that may not be on the storage nodes yet, rows of the same transactions (S17).

Row 0 is no record: it says that the log on the nodes has a gap, so that a catalog that is lost now would lose what was
answered since. The nodes need a snapshot first; until then nothing is answered that must not be lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from catalog import progress, schema
from catalog.batch_records import UNLOGGED, Changes, Header, header_of, pack
from catalog.log_records import LogRecord
from catalog.recording import RecordingTransaction
from catalog.statement import Reader, Statement, Value, constant, parameter
from catalog.transaction import Transaction

ROWS_MAX = 10_000
BYTES_MAX = 64 << 20
STEP_OVER = 2
"""To the number of a batch whose maker can't know whether the nodes hold something under the next one, which was not
committed."""
SNAPSHOT_DUE = "catalog-snapshot-due"
"""Progress row: msgpack of the batch that the next snapshot on the nodes must contain."""

_meta, _outbox = schema.meta, schema.outbox
_POSITION = Statement(
    sa.select(_meta.c.batch, _meta.c.term, _meta.c.catalog_id, _meta.c.cluster_id, _meta.c.created_ms)
)
_NEXT = Statement(
    sa.update(_meta).values(batch=_meta.c.batch + parameter("p_step")).returning(_meta.c.batch, _meta.c.term),
    "p_step",
)
_INSERT = Statement(sa.insert(_outbox), "batch", "record")
_AFTER = Statement(
    sa.select(_outbox.c.record).where(_outbox.c.batch > parameter("p_batch")).order_by(_outbox.c.batch),
    "p_batch",
)
_DROP = Statement(
    sa.delete(_outbox).where(_outbox.c.batch <= parameter("p_batch"), _outbox.c.batch > constant("0")),
    "p_batch",
)
_NEWEST = Statement(
    sa.select(_outbox.c.batch).order_by(_outbox.c.batch.desc()).limit(constant("1")).offset(constant("0"))
)
_SIZE = Statement(
    sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(sa.func.length(_outbox.c.record)), constant("0")))
    .select_from(_outbox)
    .where(_outbox.c.batch > constant("0"))
)
_GAP = Statement(sa.select(_outbox.c.record).where(_outbox.c.batch == constant("0")))
_CLOSE_GAP = Statement(sa.delete(_outbox).where(_outbox.c.batch == constant("0")))

# What some transaction has written into, if any was made.
_USED = tuple(
    Statement(sa.select(constant("1")).select_from(table).limit(constant("1")).offset(constant("0")))
    for table in (
        schema.buckets,
        schema.nodes,
        schema.leases,
        schema.events,
        schema.progress,
        schema.access_keys,
        schema.encryption_keys,
    )
)


class Position(NamedTuple):
    """Where the catalog stands before a batch."""

    batch: int
    term: int
    catalog_id: bytes
    cluster_id: bytes
    created_ms: int


def position(reader: Reader) -> Position:
    """As of the reader's moment."""
    row = reader.row(_POSITION)
    assert row is not None, "the catalog has no meta row"
    return Position(*row)


class Outbox:
    """The rows, as one connection sees them. Belongs to whoever has its transaction open."""

    def __init__(self, cursor: Any, dialect: Dialect) -> None:
        self._cursor = cursor
        self._dialect = dialect
        self._reader = Reader(cursor, dialect)

    def _run(self, statement: Statement, parameters: Sequence[Value] = ()) -> None:
        self._cursor.execute(statement.text(self._dialect), parameters)

    def position(self) -> Position:
        """At the beginning of a batch."""
        return position(self._reader)

    def previous_term(self, before: Position) -> int:
        """What the record of the batch that begins here names as its previous term."""
        if before.batch > 0:
            return before.term
        # The log of a catalog begins with its first batch, unless something was written before there was a log.
        used = before.term > 1 or any(self._reader.rows(statement) for statement in _USED)
        return UNLOGGED if used else before.term

    def write(
        self, transaction: RecordingTransaction, before: Position, previous_term: int, step: int
    ) -> LogRecord:
        """Number the batch, by so much more than the one before, and keep its record."""
        row = self._reader.row(_NEXT, (step,))
        assert row is not None
        batch, term = row
        texts, steps = transaction.steps()
        changes = Changes(
            before.cluster_id, before.created_ms, schema.HEAD_REVISION, transaction.now_ms, texts, steps
        )
        payload = pack(Header(before.catalog_id, term, batch, previous_term, before.batch), changes)
        self._run(_INSERT, (batch, payload))
        return LogRecord(term, batch, payload)

    def skip(self) -> int:
        """Use up a number for a batch without a record; which it was."""
        return next_number(self._reader)

    def after(self, batch: int) -> list[LogRecord]:
        """The records behind that number, in order."""
        return records_after(self._reader, batch)

    def drop(self, up_to: int) -> None:
        """The nodes have these."""
        self._run(_DROP, (up_to,))

    def size(self) -> tuple[int, int]:
        """Rows and bytes that wait."""
        ((rows, nbytes),) = self._reader.rows(_SIZE)
        return rows, nbytes

    def has_gap(self) -> bool:
        """Whether the log on the nodes has a gap."""
        return has_gap(self._reader)


def next_number(reader: Reader) -> int:
    """Use up a number for a batch without a record."""
    row = reader.row(_NEXT, (STEP_OVER,))
    assert row is not None
    number: int = row[0]
    return number


def want_snapshot(tx: Transaction, batch: int) -> None:
    """Have the steward make a snapshot that contains this batch."""
    progress.write(tx, SNAPSHOT_DUE, msgspec.msgpack.encode(batch))


def leave_log(tx: Transaction) -> int:
    """What this transaction writes is in no log, whatever others have written to it: break the chain, so that no
    restore takes the log for complete. The number where it is broken."""
    number = next_number(tx)
    want_snapshot(tx, number)
    return number


def note_gap(tx: Transaction, batch: int) -> None:
    """From now on the log on the nodes has a gap, which a snapshot closes that contains `batch`."""
    want_snapshot(tx, batch)
    tx.execute(_CLOSE_GAP)
    tx.execute(_INSERT, (0, msgspec.msgpack.encode(batch)))


def gap_closed(tx: Transaction, batch: int) -> None:
    """A snapshot that contains `batch` is on the nodes."""
    row = tx.row(_GAP)
    if row is not None and msgspec.msgpack.decode(row[0], type=int) <= batch:
        tx.execute(_CLOSE_GAP)


def has_gap(reader: Reader) -> bool:
    """Whether the log on the nodes has a gap."""
    return reader.row(_GAP) is not None


def newest(reader: Reader) -> int:
    """The highest number that waits, 0 if none does."""
    row = reader.row(_NEWEST)
    number: int = 0 if row is None else row[0]
    return number


def records_after(reader: Reader, batch: int) -> list[LogRecord]:
    """The records behind that number, in order."""
    found = []
    for (payload,) in reader.rows(_AFTER, (batch,)):
        header = header_of(payload)
        found.append(LogRecord(header.term, header.batch, payload))
    return found
