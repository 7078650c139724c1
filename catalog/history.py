"""What the fronts did, minute by minute: how many requests of each operation, how they ended, how long they took.

A row is one operation in one minute, summed over all fronts: each adds what it did since it last came by. The
caller bounds the table with `trim`; a row has some hundred bytes, its histogram only the buckets that are not empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec
import sqlalchemy as sa

from catalog import schema
from catalog.statement import Reader, Statement, page, parameter
from catalog.transaction import Transaction
from codec import histogram

MINUTE_MS = 60_000
_PAGE_ROWS = 500

_minutes = schema.metrics_minutes


class Figures(msgspec.Struct, frozen=True, array_like=True):
    """Requests of one operation. `errors`: those that ended in a 5xx, cut answers among them; `by_status` has all of
    them. `sum_us` and `latency_us` (a histogram as codec.histogram has it) are in microseconds. `bytes_in` and
    `bytes_out` are payload. New fields go to the end, with defaults: rows outlive releases.
    """

    count: int = 0
    errors: int = 0
    by_status: dict[int, int] = {}
    sum_us: int = 0
    latency_us: dict[int, int] = {}
    bytes_in: int = 0
    bytes_out: int = 0


_decode = msgspec.msgpack.Decoder(Figures).decode
_encode = msgspec.msgpack.Encoder().encode

_OF_ROW = (_minutes.c.minute_ms == parameter("p_minute"), _minutes.c.operation == parameter("p_operation"))
_READ = Statement(sa.select(_minutes.c.figures).where(*_OF_ROW), "p_minute", "p_operation")
_UPDATE = Statement(
    sa.update(_minutes).values(figures=parameter("n_figures")).where(*_OF_ROW),
    "n_figures",
    "p_minute",
    "p_operation",
)
_INSERT = Statement(sa.insert(_minutes), "minute_ms", "operation", "figures")
_PAGE = Statement(
    page(
        sa.select(_minutes.c.minute_ms, _minutes.c.operation, _minutes.c.figures)
        .where(
            sa.tuple_(_minutes.c.minute_ms, _minutes.c.operation)
            > sa.tuple_(parameter("p_minute"), parameter("p_operation")),
            _minutes.c.minute_ms < parameter("p_to"),
        )
        .order_by(_minutes.c.minute_ms, _minutes.c.operation)
    ),
    "p_minute",
    "p_operation",
    "p_to",
    "limit",
)
_OLD = Statement(
    page(
        sa.select(_minutes.c.minute_ms)
        .where(_minutes.c.minute_ms < parameter("p_before"))
        .group_by(_minutes.c.minute_ms)
        .order_by(_minutes.c.minute_ms)
    ),
    "p_before",
    "limit",
)
_DROP = Statement(sa.delete(_minutes).where(_minutes.c.minute_ms == parameter("p_minute")), "p_minute")
_CLEAR = Statement(sa.delete(_minutes))


def merged(several: Iterable[Figures]) -> Figures:
    """The sum."""
    each = list(several)
    return Figures(
        count=sum(figures.count for figures in each),
        errors=sum(figures.errors for figures in each),
        by_status=histogram.merged(figures.by_status for figures in each),
        sum_us=sum(figures.sum_us for figures in each),
        latency_us=histogram.merged(figures.latency_us for figures in each),
        bytes_in=sum(figures.bytes_in for figures in each),
        bytes_out=sum(figures.bytes_out for figures in each),
    )


def add(tx: Transaction, minute_ms: int, figures_by_operation: Mapping[str, Figures]) -> None:
    """Add to the rows of the minute that begins at `minute_ms`, whoever else added to them."""
    for operation, figures in figures_by_operation.items():
        row = tx.row(_READ, (minute_ms, operation))
        if row is None:
            tx.execute(_INSERT, (minute_ms, operation, _encode(figures)))
        else:
            total = merged((_decode(row[0]), figures))
            tx.execute(_UPDATE, (_encode(total), minute_ms, operation))


def read(reader: Reader, from_ms: int, to_ms: int) -> Iterator[tuple[int, str, Figures]]:
    """(minute, operation, figures) of all minutes that begin at `from_ms` or later and before `to_ms`, by time.

    It reads page by page: use it up inside the read that `reader` belongs to.
    """
    # No operation is named "": the first page begins with the minute itself.
    minute_ms, operation = from_ms, ""
    while True:
        rows = reader.rows(_PAGE, (minute_ms, operation, to_ms, _PAGE_ROWS))
        for minute_ms, operation, packed in rows:
            yield minute_ms, operation, _decode(packed)
        if len(rows) < _PAGE_ROWS:
            return


def clear(tx: Transaction) -> None:
    """Forget all minutes."""
    tx.execute(_CLEAR)


def trim(tx: Transaction, before_ms: int, limit: int) -> int:
    """Forget the oldest minutes that began before `before_ms`, at most `limit` of them; how many it were."""
    old = tx.rows(_OLD, (before_ms, limit))
    for (minute_ms,) in old:
        tx.execute(_DROP, (minute_ms,))
    return len(old)
