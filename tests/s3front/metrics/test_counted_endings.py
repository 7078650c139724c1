"""How a request ends is how it counts, also when it ends badly: the pipeline over a handler that does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from catalog.history import Figures
from cluster.errors import LinkDown
from s3front import pipeline
from s3front.body import ClientGone
from s3front.pipeline import Pipeline
from s3front.response import Response
from tests.s3front.metrics.recording import LAYOUT, Recorded

SCOPE = {
    "type": "http",
    "method": "GET",
    "raw_path": b"/bucket/key",
    "query_string": b"",
    "headers": [(b"host", b"localhost:9000")],
}


class Cut:
    """The rest of an object whose nodes are lost half-way."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"r" * 70
        raise LinkDown("of the test")

    async def aclose(self) -> None:
        """Nothing is held."""


async def whole() -> Response:
    return Response(200, [], (b"w" * 30, b"w" * 12))


async def cut() -> Response:
    return Response(200, [], (b"b" * 30,), rest=Cut(), content_length=1000)


async def leaves() -> Response:
    raise ClientGone


async def breaks() -> Response:
    raise ZeroDivisionError


async def hangs() -> Response:
    await asyncio.sleep(60)
    raise AssertionError


async def _takes_all(_message: Any) -> None:
    """A client that reads."""


async def _gone(message: Any) -> None:
    if message["type"] == "http.response.body":
        raise ConnectionResetError


async def _counted(
    monkeypatch: pytest.MonkeyPatch,
    ending: Callable[[], Awaitable[Response]],
    send: Callable[[Any], Awaitable[None]] = _takes_all,
) -> Figures:
    """What one GetObject counts that the handler ends so; it is cancelled when it hangs."""
    recorded = Recorded()

    async def handler(_services: Any, _request: Any) -> Response:
        return await ending()

    async def authenticate(**_: Any) -> Any:
        return SimpleNamespace(identity=SimpleNamespace(access_key="key"), role="admin")

    operation = SimpleNamespace(name="GetObject", action="s3:GetObject", handler=handler)
    monkeypatch.setattr(pipeline, "find_operation", lambda _request: operation)
    services: Any = SimpleNamespace(
        settings=SimpleNamespace(domains=("localhost",), region="us-east-1", log_requests=False),
        keys=SimpleNamespace(authenticate=authenticate),
        utc_now=lambda: datetime.now(UTC),
        requests=recorded.recorder,
        tracer=None,
    )
    receive: Any = None
    answering = asyncio.create_task(Pipeline(services)(dict(SCOPE), receive, send))
    for _ in range(20):
        await asyncio.sleep(0)
    answering.cancel()
    await asyncio.gather(answering, return_exceptions=True)
    assert LAYOUT.gauges(recorded.slots.read())["requests_in_flight"] == 0
    return LAYOUT.figures(recorded.slots.read(), "GetObject")


async def test_a_whole_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Red when only the last piece counts."""
    figures = await _counted(monkeypatch, whole)
    assert (figures.by_status, figures.errors, figures.bytes_out) == ({200: 1}, 0, 42)


async def test_an_answer_that_was_cut_off_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Red when the status line decides: a read that failed half-way would count as a success."""
    figures = await _counted(monkeypatch, cut)
    assert (figures.by_status, figures.errors, figures.bytes_out) == ({500: 1}, 1, 100)


async def test_a_client_that_leaves_is_no_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Red when leaving, before or in the midst of the answer, counts as a failure or a success."""
    figures = await _counted(monkeypatch, leaves)
    assert (figures.by_status, figures.errors) == ({499: 1}, 0)
    figures = await _counted(monkeypatch, whole, _gone)
    assert (figures.by_status, figures.errors, figures.bytes_out) == ({499: 1}, 0, 0)


async def test_what_breaks_or_is_cancelled_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Red when `end` is not called whatever happens: the request would be in flight for ever."""
    assert (await _counted(monkeypatch, breaks)).by_status == {500: 1}
    assert (await _counted(monkeypatch, hangs)).by_status == {500: 1}
