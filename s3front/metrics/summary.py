"""The history of requests in a few figures an operation, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

import msgspec

from catalog import history
from catalog.history import MINUTE_MS, Figures, merged
from catalog.statement import Reader
from cluster.reports.moments import iso_at
from codec import histogram

Row = tuple[int, str, Figures]
"""Minute, operation, figures, as catalog.history reads them."""


class OperationSummary(msgspec.Struct, frozen=True):
    """All requests of one operation in a stretch of time.

    `errors` are answers of 5xx and answers that were cut off; `success_rate` (0 to 1) is the share of the others: a
    4xx is the client's error and the store's success. `by_status` has each kind of ending apart; 499 says that the
    client left before the end. Times are of the front, from the request's head to the end of its answer;
    percentiles and `max_ms` are off by at most histogram.RELATIVE_ERROR. `per_second` is over the time from the
    first minute with any request, of whatever operation, to the end of the last one.
    """

    operation: str
    count: int
    errors: int
    success_rate: float
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    per_second: float
    bytes_in: int
    bytes_out: int
    by_status: dict[int, int] = {}


def summarise(rows: Iterable[Row], *, now_ms: int | None = None) -> list[OperationSummary]:
    """One summary for each operation in `rows`, by name. `now_ms`: a last minute that is not over counts as far as
    it has come.
    """
    first_ms = last_ms = 0
    figures_by_operation: dict[str, Figures] = {}
    for minute_ms, operation, figures in rows:
        first_ms = first_ms or minute_ms
        last_ms = minute_ms
        known = figures_by_operation.get(operation)
        figures_by_operation[operation] = figures if known is None else merged((known, figures))
    end_ms = last_ms + MINUTE_MS
    if now_ms is not None:
        end_ms = min(end_ms, max(now_ms, last_ms + 1000))
    seconds = (end_ms - first_ms) / 1000
    return [summary_of(name, figures_by_operation[name], seconds) for name in sorted(figures_by_operation)]


def last_minute(reader: Reader, now_ms: int) -> list[OperationSummary]:
    """What the fronts did in the minute before this one and in this one, as far as they have handed it in."""
    from_ms = now_ms - now_ms % MINUTE_MS - MINUTE_MS
    return summarise(history.read(reader, from_ms, now_ms + 1), now_ms=now_ms)


def summary_of(operation: str, figures: Figures, seconds: float) -> OperationSummary:
    """`seconds`: how long it took to collect the figures."""

    def percentile_ms(share: float) -> float:
        return histogram.percentile(figures.latency_us, share) / 1000

    count = figures.count
    return OperationSummary(
        operation=operation,
        count=count,
        errors=figures.errors,
        success_rate=1 - figures.errors / count if count else 1.0,
        mean_ms=figures.sum_us / count / 1000 if count else 0.0,
        p50_ms=percentile_ms(0.50),
        p95_ms=percentile_ms(0.95),
        p99_ms=percentile_ms(0.99),
        max_ms=percentile_ms(1.0),
        per_second=count / seconds,
        bytes_in=figures.bytes_in,
        bytes_out=figures.bytes_out,
        by_status=dict(sorted(figures.by_status.items())),
    )


COLUMNS = (
    "minute_at operation count errors success_rate mean_ms p50_ms p95_ms p99_ms max_ms bytes_in bytes_out by_status"
).split()


def as_csv(rows: Iterable[Row]) -> Iterator[str]:
    """Lines of CSV (RFC 4180), a header first: one line for each operation in each minute, in the order of `rows`.

    ``by_status`` reads ``200:12 404:1``.
    """
    yield _line(COLUMNS)
    for minute_ms, operation, figures in rows:
        summary = summary_of(operation, figures, MINUTE_MS / 1000)
        fields = {
            **msgspec.structs.asdict(summary),
            "minute_at": iso_at(minute_ms),
            "by_status": " ".join(f"{status}:{count}" for status, count in summary.by_status.items()),
        }
        yield _line([_text(fields[name]) for name in COLUMNS])


SUMMARY_COLUMNS = [name for name in OperationSummary.__struct_fields__ if name != "by_status"]


def summaries_csv(operations: Iterable[OperationSummary]) -> Iterator[str]:
    """Likewise, one line for each of these summaries."""
    yield _line(SUMMARY_COLUMNS)
    for operation in operations:
        yield _line([_text(getattr(operation, name)) for name in SUMMARY_COLUMNS])


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _line(fields: Iterable[str]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(fields)
    return line.getvalue()
