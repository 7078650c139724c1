"""Health for load balancers, monitors and ``trivet up``: unsigned, so it tells counts and words, no addresses, no
directories, and can be asked for as often as anybody likes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from catalog.errors import CatalogError
from cluster.errors import ClusterError
from cluster.reports.cluster import ClusterHealth, Reason, cluster_health
from s3front.admin.services import AdminServices

log = logging.getLogger("trivet.admin")

KEPT_S_MIN = 1.0
KEPT_FACTOR = 10.0
"""A look is kept for ten times as long as it took: watching never becomes the store's main work."""

_UNKNOWN = ClusterHealth(
    "critical", (Reason("the catalog can't be read", "see the log of this front", critical=True),)
)


class HealthWords(msgspec.Struct, frozen=True):
    """What anybody may know of the cluster's health."""

    status: Literal["healthy", "degraded", "critical"]
    reasons: list[str]


class SharedLook:
    """The cluster's health, looked at once for all who ask within a while."""

    def __init__(
        self, look: Callable[[], Awaitable[ClusterHealth]], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._look = look
        self._monotonic = monotonic
        self._known: ClusterHealth | None = None
        self._good_until_s = 0.0
        self._looking: asyncio.Task[ClusterHealth] | None = None

    async def latest(self) -> ClusterHealth:
        """Not older than KEPT_S_MIN, or KEPT_FACTOR times what a look takes. Cancelling one who asks cancels nobody
        else."""
        if self._known is not None and self._monotonic() < self._good_until_s:
            return self._known
        if self._looking is None:
            self._looking = asyncio.create_task(self._renew(), name="cluster health")
        return await asyncio.shield(self._looking)

    async def _renew(self) -> ClusterHealth:
        began_s = self._monotonic()
        try:
            self._known = await self._look()
        except (CatalogError, ClusterError) as error:
            log.warning("the cluster's health can't be told: %s", error)
            self._known = _UNKNOWN
        finally:
            self._looking = None
            now_s = self._monotonic()
            self._good_until_s = now_s + max(KEPT_S_MIN, KEPT_FACTOR * (now_s - began_s))
        return self._known


def routes(services: AdminServices) -> list[Route]:
    """The routes below ``/-/health``."""
    front = services.front
    shared = SharedLook(lambda: cluster_health(front.catalog, front.nodes))

    async def live(_request: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def ready(_request: Request) -> Response:
        """200 when this front can store and read objects: enough nodes answer it."""
        alive = len(front.nodes.alive())
        status = 200 if alive >= services.width else 503
        return JSONResponse({"status": "ready" if status == 200 else "degraded", "nodes": alive}, status)

    async def cluster(_request: Request) -> Response:
        """200 while all objects can be read, 503 when some can't or soon may not."""
        health = await shared.latest()
        words = HealthWords(health.status, [reason.what for reason in health.reasons])
        status = 503 if health.status == "critical" else 200
        return Response(
            msgspec.json.encode(words),
            status,
            {"cache-control": "no-store"},
            "application/json",
        )

    return [
        Route("/-/health/live", live),
        Route("/-/health/ready", ready),
        Route("/-/health/cluster", cluster),
    ]
