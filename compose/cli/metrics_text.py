"""How `trivet metrics` and `trivet status` show figures to people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from cluster.reports.incidents import IncidentSummary
from compose.cli.figures import ms_text, rate_text, size_text
from compose.cli.tables import Column, fitting_table
from s3front.metrics.summary import OperationSummary


def operations_table(operations: Sequence[OperationSummary], width: int) -> Table:
    """One line an operation, the busiest first; latencies in milliseconds."""
    rows = sorted(operations, key=lambda each: (-each.count, each.operation))
    columns = (
        Column("operation", [each.operation for each in rows]),
        Column("count", [f"{each.count:,}" for each in rows], figures=True),
        Column("/s", [rate_text(each.per_second) for each in rows], figures=True),
        Column("mean", [ms_text(each.mean_ms) for each in rows], figures=True),
        Column("p50", [ms_text(each.p50_ms) for each in rows], figures=True, extra=3),
        Column("p95", [ms_text(each.p95_ms) for each in rows], figures=True, extra=2),
        Column("p99", [ms_text(each.p99_ms) for each in rows], figures=True),
        Column("max", [ms_text(each.max_ms) for each in rows], figures=True, extra=1),
        Column("in", [size_text(each.bytes_in) for each in rows], figures=True),
        Column("out", [size_text(each.bytes_out) for each in rows], figures=True),
        Column("success", [f"{each.success_rate:.2%}" for each in rows], figures=True),
    )
    return fitting_table(columns, width, ["red" if each.errors else "" for each in rows])


def failures_text(failures: IncidentSummary) -> str:
    """Failures of nodes, and how long it took until all was whole again."""
    if not failures.by_kind:
        return "no failures of nodes in that time"
    words = f"{failures.failures} failures of nodes ({failures.ongoing} going on)"
    if failures.absent_mean_s is not None and failures.absent_max_s is not None:
        mean, longest = _seconds(failures.absent_mean_s), _seconds(failures.absent_max_s)
        words += f", back after {mean} on average, {longest} at most"
    if failures.mttr_mean_s is None or failures.mttr_max_s is None:
        return words
    return (
        f"{words}\nmean time to recovery (until every object was whole again): {_seconds(failures.mttr_mean_s)}, "
        f"at most {_seconds(failures.mttr_max_s)}, over {failures.restored} recoveries"
    )


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
