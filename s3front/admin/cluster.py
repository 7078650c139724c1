"""``/cluster``: how the store is, what it holds, what happened."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from catalog import history, nodes, work
from catalog.engine import wall_clock_ms
from catalog.statement import Reader
from cluster.reports.cluster import ClusterHealth, ClusterStats, Code, cluster_health, cluster_stats
from cluster.reports.redundancy import RepairReport
from s3front.admin.endpoint import Call, Endpoint
from s3front.admin.recorded import flushed
from s3front.admin.services import AdminServices
from s3front.admin.times import At, iso_at, iso_at_or_none
from s3front.metrics.summary import OperationSummary, summarise

_EVENTS_KEPT = 10_000
"""So many the catalog keeps at most: a filter looks at all of them."""


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


class StatsAnswer(msgspec.Struct, frozen=True):
    """Counts, and sizes in bytes. `nodes`: how many by state; `regions`: how many by region; `silent`: names of nodes
    that did not answer, whose figures are missing here. `capacity_bytes` and `free_bytes` are sums over the nodes:
    where several lie on one file system, each counts it. `used_bytes`: of the nodes' files, `live_bytes` of them of
    blocks that count. `logical_bytes`: of all versions as their owners count them; `overhead`: `used_bytes` for each of
    those. `codes`: of what is stored. `last_minute`: what the fronts did in the minute before this one and in this
    one; other fronts hand in what they did every few seconds."""

    looked_at: At
    nodes: dict[str, int]
    regions: dict[str, int]
    silent: tuple[str, ...]
    capacity_bytes: int
    free_bytes: int
    used_bytes: int
    live_bytes: int
    stored_blocks: int
    damaged_blocks: int
    buckets: int
    objects: int
    versions: int
    logical_bytes: int
    overhead: float | None
    codes: tuple[Code, ...]
    redundancy: RedundancyAnswer
    last_minute: list[OperationSummary]


class ReasonAnswer(msgspec.Struct, frozen=True):
    """`what` is not well, of which `node`, since when if that is known, and what to `do` next."""

    what: str
    do: str
    node: str | None
    since_at: At | None
    critical: bool


class HealthAnswer(msgspec.Struct, frozen=True):
    """`critical`: objects can't be read, or are in danger of it; `degraded`: all can be read, and something is to be
    done or waited for. `reasons`: the worst first, none when healthy."""

    status: Literal["healthy", "degraded", "critical"]
    reasons: list[ReasonAnswer]


class EventsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which events."""

    kind: Annotated[str | None, msgspec.Meta(description="only of this kind, like node-down")] = None
    node: Annotated[
        str | None, msgspec.Meta(description="only of the node of this name, and of those it replaced")
    ] = None
    after: Annotated[int, msgspec.Meta(ge=0, description="only events with a higher number")] = 0
    before: (
        Annotated[int, msgspec.Meta(ge=1), msgspec.Meta(description="only events with a lower number")] | None
    ) = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100


class EventAnswer(msgspec.Struct, frozen=True):
    """`number` rises with time. `node` is the name that the node has now (`node-1#1` once it was removed); none where
    the event is not about a node."""

    number: int
    happened_at: At
    kind: str
    node: str | None
    detail: str


class EventsAnswer(msgspec.Struct, frozen=True):
    """Newest first. `next_before` is the next page's `before`; null at the end."""

    events: list[EventAnswer]
    next_before: int | None


async def _stats(services: AdminServices, _call: Call) -> StatsAnswer:
    front = services.front
    await flushed(front.requests)
    now_ms = wall_clock_ms()
    stats = await cluster_stats(front.catalog, front.nodes)
    return stats_answer(stats, await front.catalog.read(lambda reader: _last_minute(reader, now_ms)), now_ms)


def _last_minute(reader: Reader, now_ms: int) -> list[OperationSummary]:
    from_ms = now_ms - now_ms % history.MINUTE_MS - history.MINUTE_MS
    return summarise(history.read(reader, from_ms, now_ms + 1), now_ms=now_ms)


def stats_answer(stats: ClusterStats, last_minute: list[OperationSummary], now_ms: int) -> StatsAnswer:
    """As it is told."""
    return StatsAnswer(
        looked_at=iso_at(now_ms),
        nodes=stats.nodes,
        regions=stats.regions,
        silent=stats.silent,
        capacity_bytes=stats.capacity_bytes,
        free_bytes=stats.free_bytes,
        used_bytes=stats.used_bytes,
        live_bytes=stats.live_bytes,
        stored_blocks=stats.stored_blocks,
        damaged_blocks=stats.damaged_blocks,
        buckets=stats.buckets,
        objects=stats.objects,
        versions=stats.versions,
        logical_bytes=stats.logical_bytes,
        overhead=stats.overhead,
        codes=stats.codes,
        redundancy=redundancy_answer(stats.redundancy),
        last_minute=last_minute,
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


async def _health(services: AdminServices, _call: Call) -> HealthAnswer:
    return health_answer(await cluster_health(services.front.catalog, services.front.nodes))


def health_answer(health: ClusterHealth) -> HealthAnswer:
    """As it is told."""
    reasons = [
        ReasonAnswer(reason.what, reason.do, reason.node, iso_at_or_none(reason.since_ms), reason.critical)
        for reason in health.reasons
    ]
    return HealthAnswer(health.status, reasons)


async def _events(services: AdminServices, call: Call) -> EventsAnswer:
    asked: EventsQuery = call.query
    found = await services.front.catalog.read(lambda reader: _matching(reader, asked))
    shown = found[: asked.limit]
    return EventsAnswer(shown, shown[-1].number if len(found) > len(shown) else None)


def _matching(reader: Reader, asked: EventsQuery) -> list[EventAnswer]:
    """One more than asked for, if there are. A removed node's name has a number behind a # (cluster.membership)."""
    names = {row.number: row.name for row in nodes.list_nodes(reader)}
    found: list[EventAnswer] = []
    for event in work.list_events(reader, after=asked.after, limit=_EVENTS_KEPT, newest_first=True):
        node = names.get(event.node or 0)
        if asked.before is not None and event.number >= asked.before:
            continue
        if asked.kind not in (None, event.kind):
            continue
        if asked.node is not None and asked.node != (node or "").partition("#")[0]:
            continue
        found.append(EventAnswer(event.number, iso_at(event.at_ms), event.kind, node, event.detail))
        if len(found) > asked.limit:
            break
    return found


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
        HealthAnswer,
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
