"""The bench's figures: one row for each measurement, a table for people, JSON for programs."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass, field
from typing import Any

from conformance.bench.process_stats import ProcessStats

MIB = 1 << 20


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
    sync_ms: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "machine": {
                "cores": _cores(),
                "system": platform.platform(),
                "python": platform.python_version(),
                "fdatasync_4k_ms": round(self.sync_ms, 3),
            },
            "rows": [asdict(row) for row in self.rows],
            "memory": {name: asdict(stats) for name, stats in self.memory.items()},
        }

    def render(self) -> str:
        return "\n".join([*self._head(), "", *self._rates(), "", *self._cpu(), "", *self._memory()])

    def _head(self) -> list[str]:
        return [
            f"{_cores()} cores, {platform.platform()}, Python {platform.python_version()}",
            f"one 4 KiB append and fdatasync: {self.sync_ms:.2f} ms; generator on the same machine",
        ]

    def _rates(self) -> list[str]:
        lines = [
            f"{'':14}{'size':>9}{'clients':>9}{'ops/s':>11}{'MB/s':>9}{'p50 ms':>10}{'p99 ms':>10}"
            f"{'of floor':>10}{'generator':>11}"
        ]
        for row in self.rows:
            share = "" if row.floor_share is None else f"{row.floor_share:.3f}"
            generator = "" if row.generator_share is None else f"{row.generator_share:.0%} core"
            lines.append(
                f"{row.name:14}{row.size:>9}{row.clients:>9}{row.per_second:>11,.1f}"
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
                f"{row.name:14}{row.size:>9}{row.clients:>9}{cells}{sum(row.cpu_us.values()):>12,.0f}"
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


def _cores() -> int:
    return len(os.sched_getaffinity(0))
