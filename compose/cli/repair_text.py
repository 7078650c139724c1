"""How `trivet repair status` says what a RepairReport holds."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.text import Text

from cluster.reports.redundancy import RepairReport


def lines(report: RepairReport) -> list[str]:
    """What stands behind `trivet repair status`, a fact a line."""
    progress = report.repair
    lines = ["every object has its full redundancy" if report.whole else "not every object is whole:"]
    if report.reduced_blobs:
        lines.append(
            f"  {_blobs(report.reduced_blobs)} ({size_text(report.reduced_bytes)}) with less redundancy"
        )
    if report.queued_blobs:
        lines.append(f"  {_blobs(report.queued_blobs)} with bad or missing blocks in the repair queue")
    if report.unreadable_blobs:
        lines.append(
            f"  {_blobs(report.unreadable_blobs)} can't be rebuilt: too many shards are bad or gone;"
        )
        lines.append("    bring back the disk of a lost node, or write these objects anew, or delete them")
    if progress.active:
        lines.append(f"  repair: {_share(report)}")
    if report.paused_until_ms is not None:
        until = datetime.fromtimestamp(report.paused_until_ms / 1000, UTC)
        lines.append(f"  repair is paused until {until:%H:%M:%S} UTC: trivet repair resume")
    absent = [f"{name} {state}" for name, state in report.nodes.items() if state != "up"]
    if absent:
        lines.append(f"  nodes: {', '.join(absent)}")
    if report.rebalancing:
        lines.append("  objects are being spread over the nodes anew")
    lines.append(
        f"waiting for deletion: {_blobs(report.garbage_blobs)}, {report.extra_copies:,} spare blocks"
    )
    return lines


def _share(report: RepairReport) -> str:
    done = report.repair
    text = (
        f"{size_text(done.done_bytes)} of {size_text(done.total_bytes)} ({done.done_blobs:,} of {done.total_blobs:,} "
        f"blobs), {size_text(done.bytes_per_s)}/s"
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


def _blobs(count: int) -> str:
    return f"{count:,} blob" + ("" if count == 1 else "s")


def size_text(nbytes: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if nbytes < 1024:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1024
    return f"{nbytes:.1f} TiB"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
