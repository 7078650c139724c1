"""The history of requests row by row: as CSV for spreadsheets, or in JSON for programs, however long it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import Final, Literal, NamedTuple

import msgspec

from catalog import history
from catalog.engine import Catalog
from catalog.statement import Reader
from cluster.reports.moments import At, iso_at
from s3front.metrics.summary import OperationSummary, Row, as_csv, summary_of

Format = Literal["json", "csv"]

_ROWS: Final = 2000


class MinuteRow(OperationSummary, frozen=True, kw_only=True):
    """One operation in the minute that begins at `minute_at`; the rest as in a summary."""

    minute_at: At


class Piece(NamedTuple):
    """Some of an export, and how many rows are in it."""

    text: str
    rows: int


class _Page(NamedTuple):
    piece: Piece
    next_ms: int | None


async def exported(catalog: Catalog, kind: Format, from_ms: int, to_ms: int) -> AsyncIterator[Piece]:
    """The minutes that begin at `from_ms` or later and before `to_ms`: one line for each operation in each of them,
    between them what makes an array of it, or below a header.

    Each piece is a read of its own, in the reader's thread: others read in between, and one who takes his time with a
    piece does not stop the catalog's checkpoints.
    """
    yield Piece("[" if kind == "json" else next(as_csv(())), 0)
    separator = "\n"
    next_ms: int | None = from_ms
    while next_ms is not None:
        page = partial(_page, kind=kind, from_ms=next_ms, to_ms=to_ms, separator=separator)
        piece, next_ms = await catalog.read(page)
        if piece.rows:
            separator = ",\n"
            yield piece
    if kind == "json":
        yield Piece("\n]\n", 0)


def _page(reader: Reader, *, kind: Format, from_ms: int, to_ms: int, separator: str) -> _Page:
    """Whole minutes. `separator`: what JSON has before the first row."""
    rows: list[Row] = []
    next_ms = None
    for row in history.read(reader, from_ms, to_ms):
        if len(rows) >= _ROWS and row[0] != rows[-1][0]:
            next_ms = row[0]
            break
        rows.append(row)
    text = separator + ",\n".join(_json(rows)) if kind == "json" else "".join(list(as_csv(rows))[1:])
    return _Page(Piece(text, len(rows)), next_ms)


def _json(rows: Iterable[Row]) -> Iterable[str]:
    for minute_ms, operation, figures in rows:
        summary = summary_of(operation, figures, history.MINUTE_MS / 1000)
        row = MinuteRow(minute_at=iso_at(minute_ms), **msgspec.structs.asdict(summary))
        yield msgspec.json.encode(row).decode()
