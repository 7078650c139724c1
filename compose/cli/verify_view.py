"""How `trivet verify` shows how far it is, and says what it found."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cluster.reports.verify import Tally
from cluster.reports.verify_report import UNREADABLE, BadObject, VerifyReport
from compose.cli.figures import count_text, found_text, size_text
from compose.printable import printable

_OBJECTS_SHOWN = 50


class VerifyBar(Progress):
    """By the bytes of the objects, which are known before; the rate is that of the disks."""

    def __init__(self, total: tuple[int, int]) -> None:
        super().__init__(
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[found]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self.add_task("verify", total=max(1, total[1]), rate="", found="")

    def show(self, tally: Tally) -> None:
        """What was seen so far."""
        elapsed_s = self.tasks[0].elapsed or 0.0
        rate = f"{size_text(tally.read_bytes / elapsed_s)}/s" if elapsed_s else ""
        self.update(
            self._task,
            completed=tally.looked_bytes,
            rate=rate,
            found=f"{tally.blobs:,} blobs, {_found(tally) or 'nothing bad'}",
        )


def lines(report: VerifyReport) -> Iterator[str]:
    """The report in words."""
    rate = f" ({size_text(report.bytes / report.seconds)}/s)" if report.seconds else ""
    yield (
        f"{report.blobs:,} blobs, {report.blocks:,} blocks: {size_text(report.bytes)} read from the disks "
        f"in {report.seconds:.1f} s{rate}"
    )
    if not report.complete:
        yield "ended early: the rest was not looked at"
    if report.whole:
        yield "all of it is whole" if report.complete else "what was looked at is whole"
        return
    yield (
        f"{report.missing:,} blocks missing, {report.corrupt:,} corrupt, {report.unanswered:,} not answered for"
        + (f" (by {', '.join(report.silent_nodes)})" if report.silent_nodes else "")
    )
    yield (
        f"{count_text(report.reduced_blobs, 'blob')} with less than full redundancy, "
        f"{report.unreadable_blobs:,} of them can't be read now"
    )
    yield from (f"  {_object(one)}" for one in report.objects[:_OBJECTS_SHOWN])
    if report.more_objects or len(report.objects) > _OBJECTS_SHOWN:
        yield "  and others (--json names up to a thousand)"
    yield from _what_next(report)


def _what_next(report: VerifyReport) -> Iterator[str]:
    if report.queued_blobs:
        yield f"{count_text(report.queued_blobs, 'blob')} queued for repair; watch it: trivet repair status --watch"
    if report.unqueued_blobs:
        yield f"{count_text(report.unqueued_blobs, 'blob')} could not be queued for repair: run this again"
    if report.silent_nodes:
        yield "start the nodes that do not answer, or have them replaced: trivet node recover NAME"
    if report.unreadable_blobs:
        yield "where a lost object lies: trivet object where BUCKET/KEY; write it anew if its nodes can't come back"


def _found(seen: Tally | BadObject) -> str:
    return found_text(
        (seen.missing, "missing"), (seen.corrupt, "corrupt"), (seen.unanswered, "not answered for")
    )


def _object(one: BadObject) -> str:
    name = printable(f"{one.bucket or '(a deleted bucket)'}/{one.key}")
    if one.version_id is not None:
        name += f" version {one.version_id}"
    if one.part:
        name += f" part {one.part}" + (" of an open upload" if one.upload_id is not None else "")
    what = "UNREADABLE" if one.condition == UNREADABLE else "reduced"
    return f"{what:<10}  {name}  ({_found(one) or 'laid out while nodes were missing'}; blob {one.blob})"
