"""How a front's recorder comes to its file, its gauges and its history."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

from catalog import history
from catalog.engine import Catalog, wall_clock_ms
from catalog.errors import CatalogError
from catalog.history import Figures
from catalog.transaction import Transaction
from cluster.budget import ByteBudget
from cluster.topology import NodeSet
from compose.data_dir import DataDir
from s3front.metrics.layout import BESIDE_S3, Layout
from s3front.metrics.requests import RequestMetrics
from s3front.metrics.slots import Slots
from s3front.operations import OPERATIONS

log = logging.getLogger("trivet.compose")

HISTORY_MS = 7 * 24 * 3600 * 1000
_TRIM_MINUTES = 20
"""Dropped at most with each flush: the table is bounded, and no flush is long."""


@asynccontextmanager
async def recorder(
    place: DataDir,
    name: str,
    catalog: Catalog,
    nodes: NodeSet,
    *,
    write_budget: ByteBudget,
    read_budget: ByteBudget,
) -> AsyncIterator[RequestMetrics]:
    """The recorder of the front `name`; what it counted is in the catalog when this ends without a crash."""

    async def save(minute_ms: int, figures: Mapping[str, Figures]) -> None:
        await catalog.write(partial(_added, minute_ms=minute_ms, figures=figures), unshipped=True)

    def sample() -> dict[str, int]:
        links = [link for node in nodes.nodes if (link := nodes.link(node.number)) is not None]
        return {
            "write_budget_used_bytes": write_budget.total_bytes - write_budget.free_bytes,
            "write_budget_bytes": write_budget.total_bytes,
            "read_budget_used_bytes": read_budget.total_bytes - read_budget.free_bytes,
            "read_budget_bytes": read_budget.total_bytes,
            "catalog_writes_waiting": catalog.waiting_writes,
            "node_outstanding_bytes": sum(link.outstanding_bytes for link in links),
            "nodes_connected": nodes.up_count(),
        }

    layout = Layout((*(operation.name for operation in OPERATIONS), *BESIDE_S3))
    slots = Slots(layout, place.metrics if place.run.exists() else None, name)
    requests = RequestMetrics(slots, name, save=save, now_ms=wall_clock_ms, sample=sample)
    catalog.tell_commits(requests.count_commit)
    async with asyncio.TaskGroup() as tasks:
        saving = tasks.create_task(requests.run(), name="history of requests")
        yield requests
        saving.cancel()
        try:
            await requests.flush_now()
        except CatalogError as error:
            log.warning("the figures of the last seconds are lost: %s", error)
        except Exception:
            log.exception("the figures of the last seconds are lost")


def _added(tx: Transaction, minute_ms: int, figures: Mapping[str, Figures]) -> None:
    history.add(tx, minute_ms, figures)
    history.trim(tx, minute_ms - HISTORY_MS, _TRIM_MINUTES)
