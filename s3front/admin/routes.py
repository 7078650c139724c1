"""What is served below ``/-/``, where no bucket is named: health and the admin API. All else there is a problem."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from s3front.admin.api import AdminApi
from s3front.admin.health import routes as health_routes
from s3front.admin.problem import PROBLEM_CONTENT_TYPE, Problem
from s3front.admin.services import AdminServices

Handlers = dict[Any, Callable[[Request, Exception], Response]]


def routes(services: AdminServices) -> list[BaseRoute]:
    """Whatever the method: each answers for itself."""
    return [*health_routes(services), Route("/-/admin/{rest:path}", AdminApi(services))]


def exception_handlers() -> Handlers:
    """For paths and methods that no route has."""
    return {404: _nothing_here, 405: _not_so}


def _nothing_here(_request: Request, _error: Exception) -> Response:
    return _response(Problem(404, "no-such-endpoint", "There is nothing here"))


def _not_so(_request: Request, error: Exception) -> Response:
    headers = getattr(error, "headers", None)
    return _response(
        Problem(405, "method-not-allowed", "The path does not have this method", headers=headers)
    )


def _response(problem: Problem) -> Response:
    return Response(problem.document(""), problem.status, problem.headers, PROBLEM_CONTENT_TYPE)
