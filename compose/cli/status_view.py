"""How `trivet status` draws a Look: fits 100 columns by 40 lines, and 80 columns too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cluster.reports.moments import iso_at
from compose.cli.events_command import line as event_line
from compose.cli.figures import count_text, length_text, ms_text, rate_text, size_text
from compose.cli.presence import NOT_KNOWN
from compose.cli.repair_text import drawn
from compose.cli.repair_text import lines as redundancy_lines
from compose.cli.status_look import Look
from compose.cli.tables import Column, fitting_table
from s3front.admin.nodes import NodeAnswer
from s3front.metrics.summary import OperationSummary

_LINES_OF_REST = 30
_LINES_OF_REASON = 2
_NODES_MIN = 3
_OPERATIONS_MAX = 6
_REASONS_MAX = 4
_BAR_CELLS = 8
_TIGHT = 0.9
_COLOURS = {"healthy": "green", "degraded": "yellow", "critical": "bold red"}
_STATE_COLOURS = {
    "up": "green",
    "joining": "cyan",
    "draining": "cyan",
    "suspect": "yellow",
    "down": "bold red",
}


def view(seen: Look, width: int, height: int | None) -> RenderableType:
    """For a terminal of that size; a height of None shows every node and every reason."""
    reasons = len(seen.health.reasons) if height is None else _REASONS_MAX
    taken = _LINES_OF_REST + _LINES_OF_REASON * min(len(seen.health.reasons), reasons)
    room = None if height is None else max(_NODES_MIN, height - taken)
    return Group(
        _heading(seen, width),
        *_health(seen, reasons),
        Text(),
        *_nodes(seen.nodes, room, width),
        Text(),
        *_redundancy(seen, width),
        Text(),
        _last_minute(seen.last_minute, width),
        Text(),
        *_events(seen),
    )


def _heading(seen: Look, width: int) -> RenderableType:
    word = "not running" if seen.running is False else seen.health.status
    colour = _COLOURS.get(word, "bold red")
    first = Text.assemble(("trivet ", "bold"), (word, colour), f"  {seen.directory}", no_wrap=True)
    first.truncate(max(20, width - 26), overflow="ellipsis")
    line = Table.grid(expand=True)
    line.add_column()
    line.add_column(justify="right", no_wrap=True)
    line.add_row(first, Text(iso_at(seen.looked_at_ms), style="dim"))
    stats = seen.stats
    parts = [
        f"{count_text(stats.objects, 'object')} in {count_text(stats.buckets, 'bucket')}",
        f"{size_text(stats.logical_bytes)}",
    ]
    if stats.versions != stats.objects:
        parts.insert(1, f"{stats.versions:,} versions")
    if stats.overhead is not None:
        parts.append(f"{size_text(stats.used_bytes)} on disk")
    if stats.codes:
        parts.append("code " + ", ".join(f"{code.k}+{code.m}" for code in stats.codes))
    return Group(line, Text(", ".join(parts)))


def _health(seen: Look, most: int) -> Iterator[RenderableType]:
    if seen.running is None:
        yield Text(NOT_KNOWN, style="bold red")
    elif not seen.running:
        yield Text("The store does not run: this is how it stopped. Start it: trivet up", style="bold red")
        return
    for reason in seen.health.reasons[:most]:
        yield Text.assemble(
            ("! ", "bold yellow"), reason.what, (f" -> {reason.do}" if reason.do else "", "cyan")
        )
    more = len(seen.health.reasons) - most
    if more > 0:
        yield Text(f"! and {more} more: trivet doctor", style="bold yellow")


def _nodes(nodes: Sequence[NodeAnswer], room: int | None, width: int) -> Iterator[RenderableType]:
    by_name = sorted(nodes, key=lambda node: (len(node.name), node.name))  # node-2 before node-10
    troubled_first = sorted(by_name, key=lambda node: node.state == "up" and node.answers)
    shown = by_name if room is None or len(nodes) <= room else troubled_first[:room]
    columns = (
        Column("node", [node.name for node in shown]),
        Column("state", [_state(node) for node in shown]),
        Column("zone", [_place(node) for node in shown], extra=2),
        Column("disk", [_disk(node) for node in shown]),
        Column("free", [_size(node, "free_bytes") for node in shown], figures=True),
        Column(
            "blocks", [f"{node.figures.blocks:,}" if node.figures else "" for node in shown], figures=True
        ),
        Column("queue", [_size(node, "queued_bytes") for node in shown], figures=True, extra=1),
        Column("sync p99", [_sync(node) for node in shown], figures=True),
        Column("up for", [_uptime(node) for node in shown], figures=True, extra=3),
    )
    yield fitting_table(columns, width)
    if len(shown) < len(nodes):
        yield Text(f"and {len(nodes) - len(shown)} more", style="dim")


def _size(node: NodeAnswer, figure: str) -> str:
    return size_text(getattr(node.figures, figure)) if node.figures else ""


def _sync(node: NodeAnswer) -> str:
    syncs = node.figures.sync_us if node.figures else None
    return f"{ms_text(syncs.p99 / 1000)} ms" if syncs and syncs.count else ""


def _uptime(node: NodeAnswer) -> str:
    return length_text(node.figures.uptime_s) if node.figures else ""


def _state(node: NodeAnswer) -> Text:
    """The catalog's word, and what the node itself adds."""
    word, colour = node.state, _STATE_COLOURS.get(node.state, "yellow")
    if node.figures is None:
        return Text(word if word in {"down", "joining"} else f"{word}, silent", style="bold red")
    if node.figures.failing:
        return Text(f"{word}, failing", style="bold red")
    if node.figures.read_only:
        return Text(f"{word}, full", style="yellow")
    return Text(word, style=colour)


def _place(node: NodeAnswer) -> str:
    return node.zone if node.zone.startswith(node.region) else f"{node.region}/{node.zone}"


def _disk(node: NodeAnswer) -> Text:
    """How full its file system is."""
    if node.figures is None or not node.figures.capacity_bytes:
        return Text()
    used = 1 - node.figures.free_bytes / node.figures.capacity_bytes
    full = round(used * _BAR_CELLS)
    return Text.assemble(
        ("█" * full, "red" if used > _TIGHT else "green"), ("░" * (_BAR_CELLS - full), "dim"), f" {used:4.0%}"
    )


def _redundancy(seen: Look, width: int) -> Iterator[RenderableType]:
    report = seen.stats.redundancy
    first, *rest = (line for line in redundancy_lines(report) if not line.startswith("  nodes:"))
    yield Text(first, style="green" if report.whole else "yellow")
    yield from drawn(report, rest, min(60, width - 4))
    yield Text(_scrub_text(seen))


def _scrub_text(seen: Look) -> str:
    scrub = seen.scrub
    found = f"{scrub.blobs:,} blobs, {scrub.missing_blocks:,} blocks missing, {scrub.bad_blocks:,} bad"
    if scrub.active:
        return f"scrub: under way, {found} so far"
    return f"scrub of {scrub.finished_at[:19]}Z: {found}" if scrub.finished_at else "no scrub yet"


def _last_minute(operations: Sequence[OperationSummary], width: int) -> RenderableType:
    if not operations:
        return Text("no requests in the last minute", style="dim")
    busiest = sorted(operations, key=lambda each: (-each.count, each.operation))[:_OPERATIONS_MAX]
    errors = [Text(f"{each.errors:,}", style="bold red" if each.errors else "dim") for each in busiest]
    columns = (
        Column("last minute", [each.operation for each in busiest]),
        Column("/s", [rate_text(each.per_second) for each in busiest], figures=True),
        Column("p50 ms", [ms_text(each.p50_ms) for each in busiest], figures=True),
        Column("p99 ms", [ms_text(each.p99_ms) for each in busiest], figures=True),
        Column("in/s", [_per_second(each, each.bytes_in) for each in busiest], figures=True, extra=1),
        Column("out/s", [_per_second(each, each.bytes_out) for each in busiest], figures=True, extra=1),
        Column("errors", errors, figures=True),
    )
    return fitting_table(columns, width)


def _per_second(operation: OperationSummary, nbytes: int) -> str:
    """Over the same time as its count."""
    return size_text(int(nbytes * operation.per_second / operation.count)) if operation.count else ""


def _events(seen: Look) -> Iterator[RenderableType]:
    today = iso_at(seen.looked_at_ms)[:10]
    for event in reversed(seen.events):
        yield Text(
            event_line(event, of_today=event.happened_at[:10] == today),
            style="dim",
            no_wrap=True,
            overflow="ellipsis",
        )
