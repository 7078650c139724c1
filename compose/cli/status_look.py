"""One look at a store: what `trivet status` shows, and says in JSON."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from catalog.engine import Catalog, wall_clock_ms
from catalog.statement import Reader
from cluster.reports.cluster import ClusterHealth, ClusterStats, cluster_health, cluster_stats
from cluster.reports.events import EventReport, events
from cluster.reports.moments import iso_at
from cluster.reports.scrub import ScrubReport, scrub_report
from cluster.topology import NodeSet
from compose.cli import presence
from compose.data_dir import DataDir
from compose.settings import Settings
from s3front.admin.cluster import stats_answer
from s3front.admin.nodes import NodeAnswer, node_answers
from s3front.metrics.summary import OperationSummary, last_minute

_EVENTS = 5


class Look(msgspec.Struct, frozen=True):
    """All of one moment, as far as several processes have one. `running`: None when that is not known from here.
    `last_minute`: what the fronts did in the minute before
    this one and in this one, as far as they have handed it in. `events`: the last few, newest first.
    """

    looked_at_ms: int
    directory: str
    running: bool | None
    health: ClusterHealth
    stats: ClusterStats
    nodes: list[NodeAnswer]
    scrub: ScrubReport
    last_minute: list[OperationSummary]
    events: list[EventReport]

    @property
    def well(self) -> bool:
        """It is seen to run, and no object is in danger."""
        return bool(self.running) and self.health.status != "critical"


async def look(settings: Settings, catalog: Catalog, node_set: NodeSet) -> Look:
    """Nodes that do not answer cost half a second, all of them together. Raises CatalogErrors."""
    place, now_ms = DataDir(settings.data.absolute()), wall_clock_ms()

    def written(reader: Reader) -> tuple[ScrubReport, list[OperationSummary], list[EventReport]]:
        return scrub_report(reader), last_minute(reader, now_ms), events(reader, limit=_EVENTS)

    answers, stats, health, (scrub, requests, happened) = await asyncio.gather(
        node_answers(catalog, node_set, place),
        cluster_stats(catalog, node_set),
        cluster_health(catalog, node_set),
        catalog.read(written),
    )
    homes = {node.node_id: node.directory or "" for node in answers}
    return Look(
        looked_at_ms=now_ms,
        directory=str(place.root),
        running=presence.runs(settings, homes, answering=any(node.answers for node in answers)),
        health=health,
        stats=stats,
        nodes=answers,
        scrub=scrub,
        last_minute=requests,
        events=happened,
    )


def as_json(seen: Look) -> dict[str, Any]:
    """Each part as the admin API tells it."""
    plain: dict[str, Any] = msgspec.to_builtins(
        {
            "looked_at": iso_at(seen.looked_at_ms),
            "directory": seen.directory,
            "running": seen.running,
            "health": seen.health,
            "stats": stats_answer(seen.stats, seen.last_minute, seen.looked_at_ms),
            "nodes": seen.nodes,
            "scrub": seen.scrub,
            "events": seen.events[::-1],
        },
        str_keys=True,
    )
    return plain
