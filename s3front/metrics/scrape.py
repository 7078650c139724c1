"""One scrape: gather what there is to tell, wait for nobody for long, render it in the format that was asked for.

One scrape is at work at a time, and all that come meanwhile share the next one: watching costs the store the same
however many watch.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import NamedTuple

from catalog.errors import CatalogError
from cluster.reports.cluster import NodeState, node_statuses
from s3front.metrics.slots import Reading
from s3front.metrics.store_figures import StoreFigures, StoreWatch
from s3front.services import FrontServices

log = logging.getLogger("trivet.s3front.metrics")

_Text = tuple[bytes, str]
"""With its content type."""

_NODES_WAIT_S = 1.0
"""Nodes have half a second each, all at once; this bounds the catalog's read before it."""


class Gathered(NamedTuple):
    """`nodes` and `store` are None when they could not be had; `problems` names the parts that are not as they
    should be.
    """

    readings: Sequence[Reading]
    nodes: Sequence[NodeState] | None
    store: StoreFigures | None
    store_age_s: float
    problems: frozenset[str]


class Scraper:
    """Of one front."""

    def __init__(self, services: FrontServices, release: str) -> None:
        self._services = services
        self._release = release
        self._store = StoreWatch(services.catalog)
        self._one_at_a_time = asyncio.Lock()
        self._next: asyncio.Task[dict[str, _Text]] | None = None
        self._wanted: set[str] = set()

    async def scrape(self, accept: str) -> _Text:
        """The text and its content type, as the Accept header wants it: Prometheus' own format, or OpenMetrics."""
        if self._next is None:
            self._wanted = set()
            self._next = asyncio.create_task(self._scrape(self._wanted), name="scrape")
        self._wanted.add(accept)
        return (await asyncio.shield(self._next))[accept]

    async def _scrape(self, accepts: set[str]) -> dict[str, _Text]:
        """For all who came while the one before was at work, however many: by what they accept."""
        async with self._one_at_a_time:
            self._next = None  # who comes from now on wants newer figures
            gathered = await self._gather()
            # In a thread: the loop serves on. It is here that a front first loads prometheus_client.
            return await asyncio.to_thread(self._rendered, gathered, accepts)

    async def _gather(self) -> Gathered:
        nodes, (store, age_s, store_is_well) = await asyncio.gather(self._nodes(), self._store.latest())
        parts = {"nodes": nodes is None, "catalog": not store_is_well}
        problems = frozenset(part for part, bad in parts.items() if bad)
        return Gathered(self._services.requests.read_all(), nodes, store, age_s, problems)

    async def _nodes(self) -> list[NodeState] | None:
        try:
            async with asyncio.timeout(_NODES_WAIT_S):
                return await node_statuses(self._services.catalog, self._services.nodes)
        except (CatalogError, TimeoutError) as error:
            log.warning("a scrape goes without the nodes: %s", error or "no answer in time")
            return None

    def _rendered(self, gathered: Gathered, accepts: set[str]) -> dict[str, _Text]:
        """Clients may say what they accept in endless ways, which come down to a few formats."""
        from s3front.metrics.exposition import content_type_of

        first_of = {content_type_of(accept): accept for accept in sorted(accepts, reverse=True)}
        texts = {kind: self._render(gathered, accept) for kind, accept in first_of.items()}
        return {accept: texts[content_type_of(accept)] for accept in accepts}

    def _render(self, gathered: Gathered, accept: str) -> _Text:
        from s3front.metrics.exposition import render

        layout = self._services.requests.layout
        return render(gathered, layout, self._services.processes(), self._release, accept)
