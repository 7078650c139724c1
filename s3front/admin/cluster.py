"""``/cluster``: how the store is, what it holds, what happened."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from catalog.engine import wall_clock_ms
from cluster.reports.cluster import ClusterFigures, ClusterHealth, ClusterStats, cluster_health, cluster_stats
from cluster.reports.events import EventReport, events
from cluster.reports.moments import At, iso_at, iso_at_or_none
from cluster.reports.redundancy import RepairReport
from s3front.admin.endpoint import Call, Endpoint
from s3front.admin.recorded import flushed
from s3front.admin.services import AdminServices
from s3front.metrics.summary import OperationSummary, last_minute

_NUMBER_MAX = (1 << 63) - 1
"""Larger ones the catalog can't compare with."""


class RepairAnswer(msgspec.Struct, frozen=True):
    """What is being repaired; while not `active` the figures are those of the last time. `seconds_left` at the present
    rate, null when that is not known."""

    active: bool
    started_at: At | None
    done_blobs: int
    total_blobs: int
    done_bytes: int
    total_bytes: int
    bytes_per_s: int
    seconds_left: float | None


class RedundancyAnswer(msgspec.Struct, frozen=True):
    """A blob is the bytes of an object, or of a part of one. `whole`: every object has its full redundancy.
    `reduced_…`: blobs that lie on a node that is down or gone, or were written while one was. `queued_blobs` wait for
    the repair of single blocks; `unreadable_blobs` of them can't be rebuilt from what the nodes hold. `garbage_blobs`
    and `extra_copies` wait to be deleted."""

    whole: bool
    reduced_blobs: int
    reduced_bytes: int
    queued_blobs: int
    unreadable_blobs: int
    garbage_blobs: int
    extra_copies: int
    rebalancing: bool
    repair: RepairAnswer


class StatsAnswer(ClusterFigures, frozen=True, kw_only=True):
    """Counts, and sizes in bytes. `nodes`: how many by state; `regions`: how many by region; `silent`: names of nodes
    that did not answer, whose figures are missing here. `capacity_bytes` and `free_bytes` are sums over the nodes:
    where several lie on one file system, each counts it. `used_bytes`: of the nodes' files, `live_bytes` of them of
    blocks that count. `logical_bytes`: of all versions as their owners count them; `overhead`: `used_bytes` for each of
    those. `codes`: of what is stored. `last_minute`: what the fronts did in the minute before this one and in this
    one; other fronts hand in what they did every few seconds."""

    looked_at: At
    redundancy: RedundancyAnswer
    last_minute: list[OperationSummary]


class EventsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which events."""

    kind: Annotated[str | None, msgspec.Meta(description="only of this kind, like node-down")] = None
    node: Annotated[
        str | None, msgspec.Meta(description="only of the node of this name, and of those it replaced")
    ] = None
    after: Annotated[
        int, msgspec.Meta(ge=0, le=_NUMBER_MAX, description="only events with a higher number")
    ] = 0
    before: (
        Annotated[int, msgspec.Meta(ge=1, le=_NUMBER_MAX, description="only events with a lower number")]
        | None
    ) = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100


class EventsAnswer(msgspec.Struct, frozen=True):
    """Newest first. `next_before` is the next page's `before`; null at the end."""

    events: list[EventReport]
    next_before: int | None


async def _stats(services: AdminServices, _call: Call) -> StatsAnswer:
    front = services.front
    await flushed(front.requests)
    now_ms = wall_clock_ms()
    stats = await cluster_stats(front.catalog, front.nodes)
    return stats_answer(stats, await front.catalog.read(lambda reader: last_minute(reader, now_ms)), now_ms)


def stats_answer(stats: ClusterStats, requests: list[OperationSummary], now_ms: int) -> StatsAnswer:
    """As it is told."""
    figures: dict[str, Any] = {name: getattr(stats, name) for name in ClusterFigures.__struct_fields__}
    return StatsAnswer(
        **figures,
        looked_at=iso_at(now_ms),
        redundancy=redundancy_answer(stats.redundancy),
        last_minute=requests,
    )


def redundancy_answer(report: RepairReport) -> RedundancyAnswer:
    """As it is told."""
    repair = report.repair
    return RedundancyAnswer(
        whole=report.whole,
        reduced_blobs=report.reduced_blobs,
        reduced_bytes=report.reduced_bytes,
        queued_blobs=report.queued_blobs,
        unreadable_blobs=report.unreadable_blobs,
        garbage_blobs=report.garbage_blobs,
        extra_copies=report.extra_copies,
        rebalancing=report.rebalancing,
        repair=RepairAnswer(
            active=repair.active,
            started_at=iso_at_or_none(repair.started_ms),
            done_blobs=repair.done_blobs,
            total_blobs=repair.total_blobs,
            done_bytes=repair.done_bytes,
            total_bytes=repair.total_bytes,
            bytes_per_s=repair.bytes_per_s,
            seconds_left=report.seconds_left,
        ),
    )


async def _health(services: AdminServices, _call: Call) -> ClusterHealth:
    return await cluster_health(services.front.catalog, services.front.nodes)


async def _events(services: AdminServices, call: Call) -> EventsAnswer:
    asked: EventsQuery = call.query
    found = await services.front.catalog.read(
        lambda reader: events(
            reader,
            limit=asked.limit + 1,
            kinds=() if asked.kind is None else (asked.kind,),
            node=asked.node,
            after=asked.after,
            before=asked.before,
        )
    )
    shown = found[: asked.limit]
    return EventsAnswer(shown, shown[-1].number if len(found) > len(shown) else None)


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "GET",
        "/cluster/stats",
        "getClusterStats",
        "What the store holds, on how many nodes, how whole it is, and what it did in the last minute.",
        _stats,
        StatsAnswer,
    ),
    Endpoint(
        "GET",
        "/cluster/health",
        "getClusterHealth",
        "Whether all is well, and what to do where it is not.",
        _health,
        ClusterHealth,
    ),
    Endpoint(
        "GET",
        "/cluster/events",
        "listEvents",
        "What happened to nodes and data, newest first.",
        _events,
        EventsAnswer,
        query=EventsQuery,
    ),
)
