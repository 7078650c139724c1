"""What the store's processes on this machine use, from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from prometheus_client.core import Metric

from s3front.metrics.families import counter, gauge

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def process_families(pids: Mapping[str, int]) -> Iterator[Metric]:
    """By the name of the process; one that ends meanwhile is left out."""
    found = [(name, use) for name, pid in pids.items() if (use := _use(Path("/proc", str(pid)))) is not None]
    yield counter(
        "trivet_process_cpu_seconds",
        "CPU time of the process, user and system, since it started.",
        ("process",),
        [((name,), cpu_s) for name, (cpu_s, _, _, _) in found],
    )
    for number, (metric, text) in enumerate(
        (
            ("resident_memory_bytes", "Memory of the process that is in RAM, shared pages too."),
            ("open_fds", "Descriptors that the process has open: files, connections."),
            ("threads", "Threads of the process."),
        ),
        start=1,
    ):
        values = [((name,), use[number]) for name, use in found]
        yield gauge(f"trivet_process_{metric}", text, ("process",), values)


def _use(process: Path) -> tuple[float, float, float, float] | None:
    """CPU seconds, bytes, descriptors, threads."""
    try:
        # The name of the program, in parentheses, may have spaces and parentheses.
        fields = (process / "stat").read_text().rpartition(") ")[2].split()
        open_fds = len(os.listdir(process / "fd"))
    except OSError:
        return None
    cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    return cpu_s, int(fields[21]) * _PAGE_BYTES, open_fds, int(fields[17])
