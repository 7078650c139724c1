"""One look at a store: what `trivet status` shows, and says in JSON."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from catalog import history
from catalog.engine import Catalog, wall_clock_ms
from catalog.statement import Reader
from cluster import wire
from cluster.reports.cluster import (
    ClusterHealth,
    ClusterStats,
    NodeState,
    cluster_health,
    cluster_stats,
    node_statuses,
)
from cluster.steward import progress
from cluster.steward.progress import ScrubProgress
from cluster.topology import NodeSet
from codec import histogram
from compose import running
from compose.cli.events_command import latest
from compose.cli.moments import moment_text
from compose.data_dir import DataDir
from s3front.metrics.summary import OperationSummary, summarise

_EVENTS = 5


class NodeLook(msgspec.Struct, frozen=True):
    """`answers`: it does, now; the figures behind it are None where it does not. `sync_p99_ms` is over its life."""

    name: str
    state: str
    region: str
    zone: str
    answers: bool
    read_only: bool | None = None
    failing: bool | None = None
    capacity_bytes: int | None = None
    free_bytes: int | None = None
    blocks: int | None = None
    damaged_blocks: int | None = None
    queued_bytes: int | None = None
    sync_p99_ms: float | None = None
    uptime_s: float | None = None
    release: str | None = None


class Look(msgspec.Struct, frozen=True):
    """All of one moment, as far as several processes have one. `last_minute`: what the fronts did in the minute before
    this one and in this one, as far as they have handed it in.
    """

    looked_at: str
    directory: str
    running: bool
    health: ClusterHealth
    stats: ClusterStats
    nodes: list[NodeLook]
    scrub: ScrubProgress
    last_minute: list[OperationSummary]
    events: list[dict[str, Any]]

    @property
    def well(self) -> bool:
        """It runs, and no object is in danger."""
        return self.running and self.health.status != "critical"


async def look(place: DataDir, catalog: Catalog, node_set: NodeSet) -> Look:
    """Nodes that do not answer cost half a second, all of them together. Raises CatalogErrors."""
    now_ms = wall_clock_ms()
    states, stats, health, (scrub, last_minute, events) = await asyncio.gather(
        node_statuses(catalog, node_set),
        cluster_stats(catalog, node_set),
        cluster_health(catalog, node_set),
        catalog.read(lambda reader: _written(reader, now_ms)),
    )
    return Look(
        looked_at=moment_text(now_ms),
        directory=str(place.root),
        running=running.supervisor_pid(place) is not None,
        health=health,
        stats=stats,
        nodes=[_node(state) for state in states],
        scrub=scrub,
        last_minute=last_minute,
        events=events,
    )


def _written(
    reader: Reader, now_ms: int
) -> tuple[ScrubProgress, list[OperationSummary], list[dict[str, Any]]]:
    from_ms = now_ms - now_ms % history.MINUTE_MS - history.MINUTE_MS
    rows = history.read(reader, from_ms, now_ms + 1)
    return (
        progress.read(reader, ScrubProgress) or ScrubProgress(),
        summarise(rows, now_ms=now_ms),
        latest(reader, _EVENTS),
    )


def _node(state: NodeState) -> NodeLook:
    row, status = state.row, state.status
    if status is None:
        return NodeLook(row.name, row.state, row.region, row.zone, answers=False)
    return NodeLook(
        row.name,
        row.state,
        row.region,
        row.zone,
        answers=True,
        read_only=status.read_only,
        failing=status.failing,
        capacity_bytes=status.capacity_bytes,
        free_bytes=status.free_bytes,
        blocks=status.blocks,
        damaged_blocks=status.damaged_blocks,
        queued_bytes=status.queued_bytes,
        sync_p99_ms=_sync_p99_ms(status),
        uptime_s=status.uptime_s,
        release=status.release,
    )


def _sync_p99_ms(status: wire.NodeStatus) -> float | None:
    return histogram.percentile(status.sync_us, 0.99) / 1000 if status.sync_us else None


def as_json(seen: Look) -> dict[str, Any]:
    """Also what follows from the fields."""
    plain: dict[str, Any] = msgspec.to_builtins(seen, str_keys=True)
    redundancy = seen.stats.redundancy
    for reason in plain["health"]["reasons"]:
        since_ms = reason.pop("since_ms")
        reason["since_at"] = moment_text(since_ms) if since_ms else None
    plain["stats"]["redundancy"] |= {"whole": redundancy.whole, "seconds_left": redundancy.seconds_left}
    plain["scrub"] = {
        "active": seen.scrub.active,
        "started_at": moment_text(seen.scrub.started_ms) if seen.scrub.started_ms else None,
        "finished_at": moment_text(seen.scrub.finished_ms) if seen.scrub.finished_ms else None,
        "blobs": seen.scrub.blobs,
        "missing_blocks": seen.scrub.missing,
        "bad_blocks": seen.scrub.corrupt,
        "extra_blocks": seen.scrub.extra,
    }
    return plain
