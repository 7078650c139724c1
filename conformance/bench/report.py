"""The bench's figures: one row for each measurement, a table for people, JSON for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

import msgspec

from conformance.bench.machine import Machine, this_machine
from conformance.bench.process_stats import ProcessStats

MIB = 1 << 20
WITH_LOG = "PUT with log"
WITHOUT_LOG = "PUT without log"


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement. `cpu_us` is CPU per operation of each process; `floor_share` is None where the floor
    says nothing (large objects are about bytes, not requests)."""

    name: str
    size: str
    clients: int
    per_second: float
    bytes_per_second: float
    p50_ms: float
    p99_ms: float
    floor_share: float | None
    generator_share: float | None
    cpu_us: dict[str, float]


@dataclass(slots=True)
class Report:
    rows: list[Row] = field(default_factory=list)
    memory: dict[str, ProcessStats] = field(default_factory=dict)
    machine: Machine = field(default_factory=this_machine)
    metrics_us: float | None = None
    """CPU of a front for the figures of one request; None when that was not measured."""

    def to_json(self) -> dict[str, Any]:
        return {
            "machine": msgspec.to_builtins(self.machine),
            "metrics_us": self.metrics_us,
            "rows": [asdict(row) for row in self.rows],
            "memory": {name: asdict(stats) for name, stats in self.memory.items()},
        }

    def render(self) -> str:
        head = f"{self.machine.words}; generator on the same machine"
        parts = (self._rates(), self._cpu(), self._log(), self._metrics(), self._memory())
        return "\n".join([head, *(line for part in parts for line in ("", *part))])

    def row(self, name: str, size: str, clients: int) -> Row | None:
        """That measurement, if it was made."""
        same = (row for row in self.rows if (row.name, row.size, row.clients) == (name, size, clients))
        return next(same, None)

    def log_costs(self) -> list[float]:
        """Which share of the PUTs the catalog's log on the nodes costs: of each round, from the lowest."""
        with_log, without = (
            [row.per_second for row in self.rows if row.name == name] for name in (WITH_LOG, WITHOUT_LOG)
        )
        return sorted(1 - one / other for one, other in zip(with_log, without, strict=True))

    def log_words(self) -> str:
        """The same, for people."""
        costs = self.log_costs()
        if not costs:
            return "not measured"
        return f"{median(costs):.1%} of the PUTs (rounds from {costs[0]:.1%} to {costs[-1]:.1%})"

    def _log(self) -> list[str]:
        return [f"Cost of the catalog's log: {self.log_words()}"]

    def _metrics(self) -> list[str]:
        if self.metrics_us is None:
            return ["Cost of the metrics: not measured."]
        lines = [f"Cost of the metrics: {self.metrics_us:.2f} us of a front's CPU for each request"]
        for row in self.rows:
            cpu_us = sum(each for name, each in row.cpu_us.items() if name.startswith("front"))
            if row.name in ("PUT", "GET") and row.size == "4 KiB" and cpu_us:
                share = self.metrics_us / cpu_us
                lines.append(
                    f"  {row.name} {row.size}, {row.clients} clients: {share:.1%} of {cpu_us:,.0f} us"
                )
        return lines

    def _rates(self) -> list[str]:
        lines = [
            f"{'':16}{'size':>9}{'clients':>9}{'ops/s':>11}{'MB/s':>9}{'p50 ms':>10}{'p99 ms':>10}"
            f"{'of floor':>10}{'generator':>11}"
        ]
        for row in self.rows:
            share = "" if row.floor_share is None else f"{row.floor_share:.3f}"
            generator = "" if row.generator_share is None else f"{row.generator_share:.0%} core"
            lines.append(
                f"{row.name:16}{row.size:>9}{row.clients:>9}{row.per_second:>11,.1f}"
                f"{row.bytes_per_second / 1e6:>9,.1f}{row.p50_ms:>10.2f}{row.p99_ms:>10.2f}"
                f"{share:>10}{generator:>11}"
            )
        return lines

    def _cpu(self) -> list[str]:
        names = sorted({name for row in self.rows for name in row.cpu_us if name != "floor"})
        lines = [
            "CPU per operation, microseconds:",
            f"{'':32}" + "".join(f"{name:>12}" for name in names) + f"{'all':>12}",
        ]
        for row in self.rows:
            cells = "".join(f"{row.cpu_us.get(name, 0.0):>12,.0f}" for name in names)
            lines.append(
                f"{row.name:16}{row.size:>9}{row.clients:>9}{cells}{sum(row.cpu_us.values()):>12,.0f}"
            )
        return lines

    def _memory(self) -> list[str]:
        lines = ["Memory at the end, MiB:", f"{'':14}{'resident':>10}{'peak':>10}{'share (PSS)':>13}"]
        totals = [0, 0, 0]
        for name, stats in self.memory.items():
            values = (stats.rss_bytes, stats.peak_bytes, stats.share_bytes)
            totals = [total + value for total, value in zip(totals, values, strict=True)]
            lines.append(_memory_line(name, values))
        lines.append(_memory_line("all", tuple(totals)))
        return lines


def _memory_line(name: str, values: tuple[int, ...]) -> str:
    rss, peak, share = (value / MIB for value in values)
    return f"{name:14}{rss:>10.1f}{peak:>10.1f}{share:>13.1f}"
