"""One scrape: gather what there is to tell, wait for nobody for long, render it in the format that was asked for.

Scrapes that come together share one result: watching costs the store the same however many watch.
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
        self._gathering: asyncio.Task[Gathered] | None = None
        self._rendering = asyncio.Lock()
        self._rendered: tuple[Gathered, dict[str, tuple[bytes, str]]] | None = None

    async def scrape(self, accept: str) -> tuple[bytes, str]:
        """The text and its content type, as the Accept header wants it: Prometheus' own format, or OpenMetrics."""
        if self._gathering is None:
            self._gathering = asyncio.create_task(self._gather(), name="scrape")
        gathered = await asyncio.shield(self._gathering)
        async with self._rendering:
            if self._rendered is None or self._rendered[0] is not gathered:
                self._rendered = gathered, {}
            texts = self._rendered[1]
            if accept not in texts:
                # In a thread: the loop serves on. It is here that a front first loads prometheus_client.
                texts[accept] = await asyncio.to_thread(self._render, gathered, accept)
            return texts[accept]

    async def _gather(self) -> Gathered:
        try:
            nodes, (store, age_s, store_is_well) = await asyncio.gather(self._nodes(), self._store.latest())
        finally:
            self._gathering = None  # who comes from now on wants newer figures
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

    def _render(self, gathered: Gathered, accept: str) -> tuple[bytes, str]:
        from s3front.metrics.exposition import render

        layout = self._services.requests.layout
        return render(gathered, layout, self._services.processes(), self._release, accept)
