"""How `trivet object where` and `of` draw what the reports say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cluster.reports.blob_uses import GARBAGE, BlobUsesReport, UseReport
from cluster.reports.blob_whereabouts import BlobReport, CopyReport, RunReport, StateRange
from cluster.reports.blocks import OK, UNANSWERED, UNCHECKED
from cluster.reports.survival import Survival
from cluster.reports.whereabouts import ObjectReport, VersionReport
from cluster.stripe_read import CORRUPT, MISSING
from compose.cli.figures import count_text, found_text, size_text
from compose.cli.tables import folding_table
from compose.printable import printable

_WIDTH_MAX = 32
_SIGNS = {
    OK: ("■", "green"),
    UNCHECKED: ("·", "dim"),
    UNANSWERED: ("?", "yellow"),
    MISSING: ("○", "red"),
    CORRUPT: ("✗", "bold red"),
}
_BY_GRAVITY = (CORRUPT, MISSING, UNANSWERED, OK, UNCHECKED)
_PARTS_DRAWN = 3
_USES_SHOWN = 50


def object_drawing(report: ObjectReport) -> RenderableType:
    """The object, its versions, and its blobs shard by shard."""
    lines: list[RenderableType] = [
        Text(printable(f"{report.bucket}/{report.key}"), style="bold"),
        _facts(report.version),
    ]
    if len(report.versions) > 1:
        lines.append(_versions(report))
    if report.version.delete_marker:
        lines.append(Text("  a delete marker: nothing is stored for it"))
    elif report.blob is not None:
        lines += _blob_lines(report.blob)
    elif report.parts_total:
        lines += _part_lines(report)
    lines.append(_conclusion(report.survives, _blobs(report)))
    return Group(*lines)


def blob_drawing(report: BlobUsesReport) -> RenderableType:
    """What uses the blob, and where it lies."""
    lines: list[RenderableType] = [Text(f"blob {report.blob}", style="bold")]
    if report.state == GARBAGE:
        lines.append(Text("  nothing uses it any more: it waits to be deleted from the nodes"))
    if report.parts:
        lines.append(Text(f"  a multipart object of {report.parts:,} parts, which are blobs of their own"))
    lines += [Text(f"  used by {_use(use)}") for use in report.uses[:_USES_SHOWN]]
    if report.more_uses or len(report.uses) > _USES_SHOWN:
        lines.append(Text("  and by others"))
    if not report.complete:
        lines.append(Text("  (the search was ended early)"))
    if report.lies is not None:
        lines += _blob_lines(report.lies)
        lines.append(_conclusion(report.lies.survives, [report.lies]))
    return Group(*lines)


def _use(use: UseReport) -> str:
    text = printable(f"{use.bucket or '(a deleted bucket)'}/{use.key}")
    if use.upload_id is not None:
        return f"the open upload {use.upload_id} of {text}, part {use.part}"
    if use.version_id is not None or not use.current:
        text += f" in version {use.version_id or 'null'}"
    return text + (f", part {use.part}" if use.part else "")


def _facts(version: VersionReport) -> Table:
    facts = {
        "size": f"{size_text(version.size_bytes)} ({version.size_bytes:,} bytes)",
        "modified": version.modified_at,
        "etag": version.etag,
        "checksum": ""
        if version.checksum is None
        else f"{version.checksum.algorithm} {version.checksum.value} ({version.checksum.type.lower()})",
        "type": version.content_type,
        "class": version.storage_class,
        "version": version.version_id or "",
    }
    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        if value:
            table.add_row(f"  {name}", Text(printable(value)))
    return table


def _versions(report: ObjectReport) -> Table:
    table = folding_table("version", "modified", "size", "etag")
    for version in report.versions:
        size = "delete marker" if version.delete_marker else size_text(version.size_bytes)
        name = (version.version_id or "null") + (" (current)" if version.current else "")
        table.add_row(name, version.modified_at, size, version.etag)
    if report.more_versions:
        table.add_row("… and older ones", "", "", "")
    return table


# -- blobs ---------------------------------------------------------------------------------------------------


def _blobs(report: ObjectReport) -> list[BlobReport]:
    parts = [part.blob for part in report.parts if part.blob is not None]
    return parts if report.blob is None else [report.blob]


def _blob_lines(blob: BlobReport) -> Iterator[RenderableType]:
    yield Text(
        f"\n  blob {blob.blob}: {blob.k} data + {blob.m} parity shards, {count_text(blob.stripes, 'stripe')}"
    )
    for run in blob.runs:
        if len(blob.runs) > 1 or not run.standard:
            odd = "" if run.standard else ", laid out while nodes were missing"
            yield Text(f"  stripes {run.first_stripe:,} to {run.stop_stripe - 1:,}{odd}:")
        yield _run_table(run)


def _run_table(run: RunReport) -> Table:
    table = folding_table("shard", "node", "region", "zone", "state", "blocks now")
    for copy in run.copies:
        table.add_row(
            f"{copy.kind} {copy.shard}",
            copy.node or f"(number {copy.number})",
            copy.region,
            copy.zone,
            copy.state if copy.connected else f"{copy.state}, silent",
            Text.assemble(_strip(copy.ranges), " ", _verified(copy)),
        )
    return table


def _strip(ranges: Sequence[StateRange]) -> Text:
    """A sign a block; of many blocks several share one, and it tells the worst of them."""
    first = ranges[0].first_stripe
    count = ranges[-1].stop_stripe - first
    width = min(count, _WIDTH_MAX)
    worst = [UNCHECKED] * width
    for one in ranges:
        # -1: the sign that the range's last block belongs to, and not the one behind it.
        left, right = (
            (one.first_stripe - first) * width // count,
            (one.stop_stripe - 1 - first) * width // count,
        )
        for at in range(left, right + 1):
            worst[at] = min(worst[at], one.state, key=_BY_GRAVITY.index)
    text = Text()
    for state in worst:
        text.append(*_SIGNS[state])
    return text


def _verified(copy: CopyReport) -> str:
    checked = copy.ok + copy.corrupt + copy.missing + copy.unanswered
    if not checked:
        return f"{copy.blocks:,} not checked"
    some = "" if checked == copy.blocks else f"of {copy.blocks:,}: "
    return some + found_text(
        (copy.ok, "ok"), (copy.corrupt, "corrupt"), (copy.missing, "missing"), (copy.unanswered, "silent")
    )


def _part_lines(report: ObjectReport) -> Iterator[RenderableType]:
    shown = "" if len(report.parts) == report.parts_total else f", {len(report.parts)} of them looked at"
    yield Text(f"\n  multipart: {count_text(report.parts_total, 'part')}{shown}")
    table = folding_table("part", "size", "blob", "stripes", "nodes", "verified now")
    for part in report.parts:
        if part.blob is None:
            table.add_row(f"{part.number}", size_text(part.size_bytes), "(deleted meanwhile)", "", "", "")
            continue
        table.add_row(
            f"{part.number}",
            size_text(part.size_bytes),
            part.blob.blob,
            f"{part.blob.stripes:,}",
            " ".join(_names(part.blob)),
            _blob_verified(part.blob),
        )
    yield table
    # In full: those that lack something.
    bad = [part.blob for part in report.parts if part.blob is not None and _lacks(part.blob)]
    for blob in bad[:_PARTS_DRAWN]:
        yield from _blob_lines(blob)


def _names(blob: BlobReport) -> Iterable[str]:
    return dict.fromkeys(copy.node or f"({copy.number})" for run in blob.runs for copy in run.copies)


def _totals(blob: BlobReport) -> tuple[int, int, int, int]:
    every = [copy for run in blob.runs for copy in run.copies]
    return (
        sum(copy.ok for copy in every),
        sum(copy.corrupt for copy in every),
        sum(copy.missing for copy in every),
        sum(copy.unanswered for copy in every),
    )


def _lacks(blob: BlobReport) -> bool:
    return any(_totals(blob)[1:])


def _blob_verified(blob: BlobReport) -> Text:
    ok, corrupt, missing, unanswered = _totals(blob)
    lacks = found_text((corrupt, "corrupt"), (missing, "missing"), (unanswered, "silent"))
    if lacks:
        return Text(f"{ok:,} ok, {lacks}", style="red")
    return Text(f"{ok:,} ok" if ok else "not checked")


# -- conclusion ----------------------------------------------------------------------------------------------


def _conclusion(survives: Survival | None, blobs: Sequence[BlobReport]) -> Text:
    if survives is None:
        return Text("\n  it is empty: no node holds anything of it" if blobs else "")
    text = Text("\n")
    if survives.basis == "layout":
        text.append("  not verified; by the catalog, and by which nodes answer:\n  ")
    else:
        checked = sum(blob.checked_stripes for blob in blobs)
        total = sum(blob.stripes for blob in blobs)
        amount = size_text(sum(blob.checked_bytes for blob in blobs))
        some = "" if checked == total == 1 else "all " if checked == total else f"{checked:,} of "
        text.append(f"  read from the disks: {some}{count_text(total, 'stripe')}, {amount}\n  ")
    text.append(*_survival_words(survives))
    return text


def _survival_words(survives: Survival) -> tuple[str, str]:
    if not survives.readable:
        return "it can't be read now: a stripe has too few good shards", "bold red"
    if not survives.nodes_lost_max:
        return "it can be read; the loss of one node more may make it unreadable", "yellow"
    region = ", or all nodes of any one region," if survives.any_region else ""
    return (
        f"any {count_text(survives.nodes_lost_max, 'node')}{region} may be lost and it can be read",
        "green",
    )
