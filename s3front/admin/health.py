"""Whether this front can serve: for load balancers, and for ``trivet up`` to know when it is ready."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from s3front.services import FrontServices


def routes(services: FrontServices) -> list[Route]:
    """The routes below ``/-/health``."""

    async def live(_request: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def ready(_request: Request) -> Response:
        """200 when this front can store and read objects: enough nodes answer it."""
        alive = len(services.nodes.alive())
        needed = services.writer.geometry.width
        status = 200 if alive >= needed else 503
        return JSONResponse({"status": "ready" if status == 200 else "degraded", "nodes": alive}, status)

    return [Route("/-/health/live", live), Route("/-/health/ready", ready)]
