"""What Trivet may cost (two cores, the load generator among them, one front), beside what was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from conformance.bench.report import Report, Row

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Budget:
    """One row of the budget report. `goal` is the least or, for a time, the most; 0: there is none."""

    words: str
    name: str
    size: str
    clients: int
    value: Callable[[Row], float]
    show: str
    goal: float = 0.0
    is_most: bool = False

    def cells(self, report: Report) -> tuple[str, str, str, str] | None:
        """Measured, share of the floor, budget, whether it is kept; None when it was not measured."""
        row = report.row(self.name, self.size, self.clients)
        if row is None:
            return None
        value = self.value(row)
        share = "" if row.floor_share is None else f"{row.floor_share:.3f}"
        measured = self.show.format(value) + (f", p99 {row.p99_ms:.1f} ms" if row.clients == 16 else "")
        if not self.goal:
            return measured, share, "", ""
        is_kept = value <= self.goal if self.is_most else value >= self.goal
        goal = ("at most " if self.is_most else "") + self.show.format(self.goal)
        return measured, share, goal, "yes" if is_kept else "no"


def _rate(row: Row) -> float:
    return row.per_second


def _median_ms(row: Row) -> float:
    return row.p50_ms


def _megabytes(row: Row) -> float:
    return row.bytes_per_second / 1e6


_RATE, _MS, _BYTES, _KEYS = "{:,.0f}/s", "p50 {:.2f} ms", "{:,.0f} MB/s", "{:,.0f} keys/s"
BUDGETS = (
    Budget("PUT 4 KiB, 16 clients", "PUT", "4 KiB", 16, _rate, _RATE, 4000),
    Budget("PUT 4 KiB, 1 client", "PUT", "4 KiB", 1, _median_ms, _MS, 1.5, is_most=True),
    Budget("GET 4 KiB, 16 clients", "GET", "4 KiB", 16, _rate, _RATE, 11_000),
    Budget("GET 4 KiB, 1 client", "GET", "4 KiB", 1, _median_ms, _MS, 0.25, is_most=True),
    Budget("PUT 64 KiB, 16 clients", "PUT", "64 KiB", 16, _rate, _RATE, 2500),
    Budget("GET 64 KiB, 16 clients", "GET", "64 KiB", 16, _rate, _RATE, 9000),
    Budget("PUT 1 MiB, 8 clients", "PUT", "1 MiB", 8, _megabytes, _BYTES, 300),
    Budget("GET 1 MiB, 8 clients", "GET", "1 MiB", 8, _megabytes, _BYTES, 900),
    Budget("PUT 256 MiB, 1 client", "PUT", "256 MiB", 1, _megabytes, _BYTES),
    Budget("GET 256 MiB, 1 client", "GET", "256 MiB", 1, _megabytes, _BYTES),
    Budget("multipart PUT 256 MiB, 4 threads", "multipart PUT", "256 MiB", 4, _megabytes, _BYTES, 380),
    Budget("LIST, 10,000 keys in pages of 1,000", "LIST keys", "1000/page", 1, _rate, _KEYS, 85_000),
)
MEMORY_BYTES_MAX = 300_000_000
"""Of all processes under load."""


def budget_table(report: Report) -> list[str]:
    """Lines of Markdown; what was not measured is left out."""
    lines = ["| | measured | of floor | budget | kept |", "| --- | --- | --- | --- | --- |"]
    for budget in BUDGETS:
        cells = budget.cells(report)
        if cells is not None:
            lines.append(f"| {budget.words} | {' | '.join(cells)} |")
    if report.memory:
        lines.append(_memory_line(report))
    return lines


def _memory_line(report: Report) -> str:
    resident = sum(stats.rss_bytes for stats in report.memory.values())
    share = sum(stats.share_bytes for stats in report.memory.values())
    measured = f"{resident / MIB:.0f} MiB resident, {share / MIB:.0f} MiB with shared pages counted once"
    kept = (
        "yes"
        if resident <= MEMORY_BYTES_MAX
        else "by the second way to count"
        if share <= MEMORY_BYTES_MAX
        else "no"
    )
    return f"| memory after all of it | {measured} | | at most {MEMORY_BYTES_MAX / 1e6:.0f} MB | {kept} |"
