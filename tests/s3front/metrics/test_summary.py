"""Summaries and CSV of the history."""

import csv

from catalog.history import MINUTE_MS, Figures
from codec.histogram import bucket_of
from s3front.metrics.summary import COLUMNS, as_csv, summarise

FIRST_MS = 28_333_334 * MINUTE_MS


def _figures(count: int, errors: int = 0, us: int = 1000) -> Figures:
    by_status = {200: count - errors} | ({503: errors} if errors else {})
    return Figures(
        count=count,
        errors=errors,
        by_status=by_status,
        sum_us=count * us,
        latency_us={bucket_of(us): count},
        bytes_in=count * 10,
        bytes_out=count * 20,
    )


ROWS = [
    (FIRST_MS, "GetObject", _figures(90, us=1000)),
    (FIRST_MS, "PutObject", _figures(10, errors=1)),
    (FIRST_MS + 2 * MINUTE_MS, "GetObject", _figures(30, us=9000)),
]


def test_minutes_are_added_up_by_operation() -> None:
    """Red when the last minute wins, or the percentile is the mean of the minutes' percentiles."""
    get, put = summarise(ROWS)
    assert (get.operation, get.count, get.errors, get.bytes_in, get.bytes_out) == (
        "GetObject",
        120,
        0,
        1200,
        2400,
    )
    assert get.mean_ms == 3.0
    assert 0.96 < get.p50_ms < 1.04
    assert 8.7 < get.p95_ms < 9.3
    assert get.max_ms == get.p99_ms == get.p95_ms
    assert get.per_second == 120 / 180
    assert (put.count, put.errors, put.success_rate, put.by_status) == (10, 1, 0.9, {200: 9, 503: 1})


def test_a_minute_that_is_not_over_counts_as_far_as_it_has_come() -> None:
    """Red when a store that began 30 seconds ago shows half its rate."""
    (get,) = summarise(ROWS[:1], now_ms=FIRST_MS + 30_000)
    assert get.per_second == 3.0
    (later,) = summarise(ROWS[:1], now_ms=FIRST_MS + 10 * MINUTE_MS)
    assert later.per_second == 1.5


def test_of_no_rows_there_is_no_summary() -> None:
    assert summarise([]) == []
    assert list(as_csv([])) == [",".join(COLUMNS) + "\r\n"]


def test_csv_has_a_line_for_each_operation_in_each_minute() -> None:
    """Red when a line ends without CRLF or inside a field, or the minute is told in local time."""
    lines = list(as_csv(ROWS))
    assert all(line.endswith("\r\n") and line.count("\n") == 1 for line in lines)
    first, second, third = csv.DictReader(lines)
    assert first["minute_at"] == "2023-11-14T22:14:00.000Z"
    assert (first["operation"], first["count"], first["success_rate"]) == ("GetObject", "90", "1")
    assert (second["operation"], second["errors"], second["by_status"]) == ("PutObject", "1", "200:9 503:1")
    assert third["minute_at"] == "2023-11-14T22:16:00.000Z"
    assert (third["bytes_in"], third["bytes_out"], float(third["mean_ms"])) == ("300", "600", 9.0)
