"""The Starlette application of a front.

S3 requests go straight to the pipeline: a router would match decoded paths and redirect slashes. What lives below
``/-/`` is ordinary Starlette, and only where the Host names no bucket (S27): bucket names begin with a letter or digit,
but a bucket addressed by its host may well hold keys that begin with ``-/``.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from s3front.admin.routes import exception_handlers, routes
from s3front.admin.services import AdminServices
from s3front.metrics.beside import counted
from s3front.metrics.route import metrics_route
from s3front.pipeline import Pipeline
from s3front.request import ADMIN_PREFIX, host_bucket


class Front(Starlette):
    """Starlette with the S3 pipeline in front of its router."""

    def __init__(self, admin: AdminServices, more: Sequence[BaseRoute]) -> None:
        super().__init__(
            routes=[metrics_route(admin.front, admin.release), *more, *routes(admin)],
            exception_handlers=exception_handlers(),
        )
        self.router.redirect_slashes = False
        self._pipeline = Pipeline(admin.front)
        self._requests = admin.front.requests
        self._domains = admin.front.settings.domains

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_admin(scope):
            await self._pipeline(scope, receive, send)
        elif scope["type"] == "http":
            await counted(self._requests, super().__call__, scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def _is_admin(self, scope: Scope) -> bool:
        if not scope["raw_path"].startswith(ADMIN_PREFIX):
            return False
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        return host_bucket(host.decode("latin-1"), self._domains) is None


def create_app(admin: AdminServices, *more: BaseRoute) -> Front:
    """The ASGI application of one front process; the caller starts and closes the services. `more`: what else is
    served below ``/-/``.
    """
    return Front(admin, more)
