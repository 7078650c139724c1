"""``/-/metrics`` for Prometheus: all fronts of the machine, the nodes, the store, whichever front answers."""

from __future__ import annotations

import hmac

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from s3front.metrics.scrape import Scraper
from s3front.services import FrontServices


def metrics_route(services: FrontServices, release: str) -> Route:
    """Unsigned; when a token is set, only for who brings it as ``Authorization: Bearer``."""
    scraper = Scraper(services, release)
    expected = (
        f"Bearer {services.settings.metrics_token}".encode() if services.settings.metrics_token else b""
    )

    async def metrics(request: Request) -> Response:
        given = request.headers.get("authorization", "").encode()
        if expected and not hmac.compare_digest(given, expected):
            return Response(status_code=401, headers={"www-authenticate": 'Bearer realm="trivet metrics"'})
        text, content_type = await scraper.scrape(request.headers.get("accept", ""))
        return Response(text, headers={"content-type": content_type})

    return Route("/-/metrics", metrics)
