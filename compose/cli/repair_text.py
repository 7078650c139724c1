"""How `trivet repair status` says what a RepairReport holds."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.text import Text

from compose.repair_report import RepairReport


def lines(report: RepairReport) -> list[str]:
    """What stands behind `trivet repair status`, a fact a line."""
    progress = report.repair
    lines = ["every object has its full redundancy" if report.whole else "not every object is whole:"]
    if report.reduced_blobs:
        lines.append(f"  {report.reduced_blobs:,} blobs ({_size(report.reduced_bytes)}) with less redundancy")
    if report.queued_blobs:
        lines.append(f"  {report.queued_blobs:,} blobs wait because of bad or missing blocks")
    if progress.unreadable:
        lines.append(f"  {progress.unreadable:,} blobs can't be repaired from the nodes that answer")
    if progress.active:
        lines.append(f"  repair: {_share(report)}")
    absent = [f"{name} {state}" for name, state in report.nodes.items() if state != "up"]
    if absent:
        lines.append(f"  nodes: {', '.join(absent)}")
    if report.rebalancing:
        lines.append("  objects are being spread over the nodes anew")
    lines.append(
        f"waiting for deletion: {report.garbage_blobs:,} blobs, {report.extra_copies:,} spare blocks"
    )
    return lines


def _share(report: RepairReport) -> str:
    done = report.repair
    text = (
        f"{_size(done.done_bytes)} of {_size(done.total_bytes)} ({done.done_blobs:,} of {done.total_blobs:,} "
        f"blobs), {_size(done.bytes_per_s)}/s"
    )
    left_s = report.seconds_left
    return text if left_s is None else f"{text}, {_duration(left_s)} left"


def bar(report: RepairReport) -> RenderableType:
    """The same for a terminal, with a bar while repair is at work."""
    text = Text("\n".join(lines(report)))
    if not report.repair.active:
        return text
    total = max(1, report.repair.total_bytes)
    return Group(text, ProgressBar(total=total, completed=report.repair.done_bytes, width=60))


def _size(nbytes: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if nbytes < 1024:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1024
    return f"{nbytes:.1f} TiB"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
