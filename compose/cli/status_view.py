"""How `trivet status` draws a Look: fits 100 columns by 40 lines, and 80 columns too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from compose.cli.events_command import line as event_line
from compose.cli.metrics_text import ms_text, rate_text
from compose.cli.moments import moment_text
from compose.cli.repair_text import lines as redundancy_lines
from compose.cli.repair_text import size_text
from compose.cli.status_look import Look, NodeLook
from compose.cli.tables import Column, fitting_table
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
    word = seen.health.status if seen.running else "not running"
    colour = _COLOURS[word] if seen.running else "bold red"
    first = Text.assemble(("trivet ", "bold"), (word, colour), f"  {seen.directory}", no_wrap=True)
    first.truncate(max(20, width - 26), overflow="ellipsis")
    line = Table.grid(expand=True)
    line.add_column()
    line.add_column(justify="right", no_wrap=True)
    line.add_row(first, Text(seen.looked_at, style="dim"))
    stats = seen.stats
    parts = [
        f"{_many(stats.objects, 'object')} in {_many(stats.buckets, 'bucket')}",
        f"{size_text(stats.logical_bytes)}",
    ]
    if stats.versions != stats.objects:
        parts.insert(1, f"{stats.versions:,} versions")
    if stats.overhead is not None:
        parts.append(f"{size_text(stats.used_bytes)} on disk")
    if stats.codes:
        parts.append("code " + ", ".join(f"{code.k}+{code.m}" for code in stats.codes))
    return Group(line, Text(", ".join(parts)))


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _health(seen: Look, most: int) -> Iterator[RenderableType]:
    if not seen.running:
        yield Text("The store does not run: this is how it stopped. Start it: trivet up", style="bold red")
        return
    for reason in seen.health.reasons[:most]:
        yield Text.assemble(
            ("! ", "bold yellow"), reason.what, (f" -> {reason.do}" if reason.do else "", "cyan")
        )
    more = len(seen.health.reasons) - most
    if more > 0:
        yield Text(f"! and {more} more: trivet doctor", style="bold yellow")


def _nodes(nodes: Sequence[NodeLook], room: int | None, width: int) -> Iterator[RenderableType]:
    by_name = sorted(nodes, key=lambda node: (len(node.name), node.name))  # node-2 before node-10
    troubled_first = sorted(by_name, key=lambda node: node.state == "up" and node.answers)
    shown = by_name if room is None or len(nodes) <= room else troubled_first[:room]
    columns = (
        Column("node", [node.name for node in shown]),
        Column("state", [_state(node) for node in shown]),
        Column("zone", [_place(node) for node in shown], extra=2),
        Column("disk", [_disk(node) for node in shown]),
        Column("free", [_size(node.free_bytes) for node in shown], figures=True),
        Column("blocks", ["" if node.blocks is None else f"{node.blocks:,}" for node in shown], figures=True),
        Column("queue", [_size(node.queued_bytes) for node in shown], figures=True, extra=1),
        Column("sync p99", [_sync(node) for node in shown], figures=True),
        Column("up for", [_uptime(node) for node in shown], figures=True, extra=3),
    )
    yield fitting_table(columns, width)
    if len(shown) < len(nodes):
        yield Text(f"and {len(nodes) - len(shown)} more", style="dim")


def _size(nbytes: int | None) -> str:
    return "" if nbytes is None else size_text(nbytes)


def _sync(node: NodeLook) -> str:
    return "" if node.sync_p99_ms is None else f"{ms_text(node.sync_p99_ms)} ms"


def _uptime(node: NodeLook) -> str:
    return "" if node.uptime_s is None else length_text(node.uptime_s)


def _state(node: NodeLook) -> Text:
    """The catalog's word, and what the node itself adds."""
    word, colour = node.state, _STATE_COLOURS.get(node.state, "yellow")
    if not node.answers:
        return Text(word if word in {"down", "joining"} else f"{word}, silent", style="bold red")
    if node.failing:
        return Text(f"{word}, failing", style="bold red")
    if node.read_only:
        return Text(f"{word}, full", style="yellow")
    return Text(word, style=colour)


def _place(node: NodeLook) -> str:
    return node.zone if node.zone.startswith(node.region) else f"{node.region}/{node.zone}"


def _disk(node: NodeLook) -> Text:
    """How full its file system is."""
    if not node.capacity_bytes or node.free_bytes is None:
        return Text()
    used = 1 - node.free_bytes / node.capacity_bytes
    full = round(used * _BAR_CELLS)
    return Text.assemble(
        ("█" * full, "red" if used > _TIGHT else "green"), ("░" * (_BAR_CELLS - full), "dim"), f" {used:4.0%}"
    )


def _redundancy(seen: Look, width: int) -> Iterator[RenderableType]:
    report = seen.stats.redundancy
    first, *rest = (line for line in redundancy_lines(report) if not line.startswith("  nodes:"))
    yield Text(first, style="green" if report.whole else "yellow")
    for line in rest:
        yield Text(line)
        if line.startswith("  repair:"):
            yield _bar(report.repair.done_bytes, max(1, report.repair.total_bytes), min(60, width - 4))
    yield Text(_scrub_text(seen))


def _bar(done: int, total: int, width: int) -> RenderableType:
    line = Table.grid(padding=(0, 0, 0, 2))  # a bar alone does not end its line
    line.add_row(Text(), ProgressBar(total=total, completed=min(done, total), width=width))
    return line


def _scrub_text(seen: Look) -> str:
    scrub = seen.scrub
    found = f"{scrub.blobs:,} blobs, {scrub.missing:,} blocks missing, {scrub.corrupt:,} bad"
    if scrub.active:
        return f"scrub: under way, {found} so far"
    return (
        f"scrub of {moment_text(scrub.finished_ms)[:19]}Z: {found}" if scrub.finished_ms else "no scrub yet"
    )


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
    for event in seen.events:
        yield Text(
            event_line(event, of_today=event["happened_at"][:10] == seen.looked_at[:10]),
            style="dim",
            no_wrap=True,
            overflow="ellipsis",
        )


def length_text(seconds: float) -> str:
    """The two largest units."""
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86_400)
    if days:
        return f"{days}d {hours % 24}h"
    if hours:
        return f"{hours}h {minutes % 60}m"
    return f"{minutes}m {int(seconds) % 60}s" if minutes else f"{int(seconds)}s"
