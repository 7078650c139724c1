"""CPU time and memory of running processes, from /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ProcessStats:
    """`cpu_s` counts all threads since the start; sizes in bytes. Memory mapped from files (the index, the
    catalog, libraries) counts in `rss_bytes`; `share_bytes` (PSS) divides shared pages among their users."""

    cpu_s: float
    rss_bytes: int
    peak_bytes: int
    share_bytes: int


def read_stats(pid: int) -> ProcessStats:
    """Raises FileNotFoundError or ProcessLookupError when the process is gone."""
    process = Path("/proc") / str(pid)
    after_name = (process / "stat").read_text().rpartition(") ")[2].split()
    status = _sizes(process / "status")
    return ProcessStats(
        cpu_s=(int(after_name[11]) + int(after_name[12])) / _TICKS_PER_S,
        rss_bytes=status.get("VmRSS", 0),
        peak_bytes=status.get("VmHWM", 0),
        share_bytes=_sizes(process / "smaps_rollup").get("Pss", 0),
    )


def read_cpu_s(pid: int) -> float:
    """Only the CPU time: cheap enough to be read while something is measured."""
    after_name = (Path("/proc") / str(pid) / "stat").read_text().rpartition(") ")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / _TICKS_PER_S


def _sizes(path: Path) -> dict[str, int]:
    sizes = {}
    for line in path.read_text().splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[1] == "kB":
            sizes[name] = int(words[0]) << 10
    return sizes
