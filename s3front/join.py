"""POST /-/join: a node that runs by itself says where it is (see cluster.announcement)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from catalog import nodes
from catalog.engine import Catalog
from catalog.errors import CatalogError
from catalog.model import NodeRow
from cluster.announcement import (
    BODY_BYTES_MAX,
    PATH,
    SEAL_HEADER,
    Announcement,
    AnnouncementRefused,
    Answer,
    opened,
)
from cluster.joining import join, settled
from cluster.membership import MembershipRefused
from cluster.topology import NodeSet

log = logging.getLogger("trivet.join")

BODY_WAIT_S = 10.0


class JoinDesk:
    """Takes announcements; refuses what the cluster's secret does not seal with 403, what the catalog does not
    accept with 409, what is no announcement with 400.
    """

    def __init__(
        self,
        catalog: Catalog,
        node_set: NodeSet,
        secret: bytes,
        utc_s: Callable[[], float] = time.time,
    ) -> None:
        self._catalog = catalog
        self._node_set = node_set
        self._secret = secret
        self._utc_s = utc_s

    @property
    def route(self) -> Route:
        return Route(PATH, self._answer, methods=["POST"])

    async def _answer(self, request: Request) -> Response:
        try:
            async with asyncio.timeout(BODY_WAIT_S):
                body = await _body(request)
        except (TimeoutError, ClientDisconnect):
            return _response(400, Answer(problem="the announcement did not come whole"))
        if body is None:
            return _response(413, Answer(problem=f"an announcement has up to {BODY_BYTES_MAX} bytes"))
        try:
            announced = opened(self._secret, body, request.headers.get(SEAL_HEADER, ""), self._utc_s())
            row = await self._joined(announced)
        except AnnouncementRefused as refusal:
            return _response(403, Answer(problem=str(refusal)))
        except MembershipRefused as refusal:
            log.warning("a node could not join: %s", refusal)
            return _response(409, Answer(problem=str(refusal)))
        except CatalogError as error:
            return _response(503, Answer(problem=f"the catalog could not do it now ({error})"))
        return _response(200, Answer(state=row.state))

    async def _joined(self, announced: Announcement) -> NodeRow:
        known = settled(await nodes.current(self._catalog), announced)
        if known is not None:
            return known
        row = await self._catalog.write(lambda tx: join(tx, announced, self._answers))
        log.info("%s joined from %s:%d", row.name, row.host, row.port)
        return row

    def _answers(self, row: NodeRow) -> bool:
        link = self._node_set.link(row.number)
        return link is not None and link.up


async def _body(request: Request) -> bytes | None:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > BODY_BYTES_MAX:
            return None
    return body


def _response(status: int, answer: Answer) -> Response:
    return Response(msgspec.json.encode(answer), status, media_type="application/json")
