"""How `trivet repair status` and `trivet status` say what a RepairReport holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cluster.reports.moments import second_text
from cluster.reports.redundancy import RepairReport
from compose.cli.figures import count_text, length_text, size_text

_REPAIR = "  repair:"


def lines(report: RepairReport) -> list[str]:
    """What stands behind `trivet repair status`, a fact a line."""
    progress = report.repair
    lines = ["every object has its full redundancy" if report.whole else "not every object is whole:"]
    if report.reduced_blobs:
        lines.append(
            f"  {count_text(report.reduced_blobs, 'blob')} ({size_text(report.reduced_bytes)}) with less redundancy"
        )
    if report.queued_blobs:
        lines.append(
            f"  {count_text(report.queued_blobs, 'blob')} with bad or missing blocks in the repair queue"
        )
    if report.unreadable_blobs:
        lines.append(
            f"  {count_text(report.unreadable_blobs, 'blob')} can't be rebuilt: too many shards are bad or gone;"
        )
        lines.append("    bring back the disk of a lost node, or write these objects anew, or delete them")
    if progress.active:
        lines.append(f"{_REPAIR} {_share(report)}")
    if report.paused_until_ms is not None:
        until = second_text(report.paused_until_ms)
        lines.append(f"  repair is paused until {until}: trivet repair resume")
    absent = [f"{name} {state}" for name, state in report.nodes.items() if state != "up"]
    if absent:
        lines.append(f"  nodes: {', '.join(absent)}")
    if report.rebalancing:
        lines.append("  objects are being spread over the nodes anew")
    lines.append(
        f"waiting for deletion: {count_text(report.garbage_blobs, 'blob')}, {report.extra_copies:,} spare blocks"
    )
    return lines


def _share(report: RepairReport) -> str:
    done = report.repair
    text = (
        f"{size_text(done.done_bytes)} of {size_text(done.total_bytes)} ({done.done_blobs:,} of {done.total_blobs:,} "
        f"blobs), {size_text(done.bytes_per_s)}/s"
    )
    left_s = report.seconds_left
    return text if left_s is None else f"{text}, {length_text(left_s)} left"


def drawn(report: RepairReport, said: Iterable[str], width: int = 60) -> Iterator[RenderableType]:
    """Those of its lines for a terminal, with a bar below the one that tells how far repair is."""
    for line in said:
        yield Text(line)
        if line.startswith(_REPAIR):
            total = max(1, report.repair.total_bytes)
            bar = Table.grid(padding=(0, 0, 0, 2))  # a bar alone does not end its line
            done = min(report.repair.done_bytes, total)
            bar.add_row(Text(), ProgressBar(total=total, completed=done, width=width))
            yield bar
