"""Limits on what a connection may cost before the application sees a request (P8), over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from s3front import http_protocol
from s3front.http_protocol import S3HttpProtocol

told_of_leaving = asyncio.Event()


async def read_all_app(scope: Any, receive: Any, send: Any) -> None:
    more = scope["path"] != "/refused"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message["more_body"]
    if not more and scope["path"] == "/refused":
        headers = [(b"content-length", b"2"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 400, "headers": headers})
        await send({"type": "http.response.body", "body": b"no"})
        return
    if scope["path"] == "/split":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b\r\nInjected: yes")]})
        return
    if scope["path"] == "/endless":
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9" * 15)]}
        )
        try:
            while True:
                await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
        except ConnectionResetError:
            told_of_leaving.set()
            return
    body = bytes(8 << 20) if scope["path"] == "/large" else b"done"
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-length", str(len(body)).encode())],
        }
    )
    if scope["path"] == "/pieces":
        view = memoryview(body)
        await send({"type": "http.response.body", "body": view[:1], "more_body": True})
        await send({"type": "http.response.body", "body": view[1:], "more_body": True})
        body = b""
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(http_protocol, "HEADER_WAIT_S", 0.3)
    monkeypatch.setattr(http_protocol, "BODY_WAIT_S", 0.3)
    monkeypatch.setattr(http_protocol, "SEND_WAIT_S", 0.3)
    monkeypatch.setattr(http_protocol, "LINGER_S", 0.5)
    config = uvicorn.Config(
        read_all_app, port=0, http=S3HttpProtocol, lifespan="off", log_config=None, ws="none"
    )
    config.load()
    state = http_protocol.ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: S3HttpProtocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    async with server, asyncio.timeout(60):
        yield server.sockets[0].getsockname()[1]
        while state.connections:  # none outlives its client, lingering ones included
            await asyncio.sleep(0.01)


async def exchange(port: int, *pieces: bytes) -> bytes:
    """Send the pieces, then read until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return answer


async def test_a_silent_connection_is_closed_without_an_answer(port: int) -> None:
    assert await exchange(port) == b""


async def test_half_a_header_is_answered_with_a_timeout(port: int) -> None:
    answer = await exchange(port, b"GET / HTTP/1.1\r\nHost: h\r\n")
    assert b" 400 " in answer.split(b"\r\n")[0]
    assert b"<Code>RequestTimeout</Code>" in answer


async def test_half_a_body_is_answered_with_a_timeout(port: int) -> None:
    answer = await exchange(port, b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n12345")
    assert b"<Code>RequestTimeout</Code>" in answer


async def test_a_slow_but_steady_body_is_read_to_its_end(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\nConnection: close\r\n\r\n")
    for _ in range(6):
        await asyncio.sleep(0.1)
        writer.write(b"x")
    assert (await reader.read()).endswith(b"done")
    writer.close()
    await writer.wait_closed()


async def test_a_client_that_takes_nothing_is_cut_off(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.write(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n")
    await asyncio.sleep(1.0)
    received = 0
    with contextlib.suppress(ConnectionResetError):
        while piece := await reader.read(65536):
            received += len(piece)
    assert received < 8 << 20
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_headers_without_end_are_refused(port: int) -> None:
    endless = b"GET / HTTP/1.1\r\n" + b"".join(b"x-%05d: value\r\n" % number for number in range(5000))
    assert b"<Code>RequestHeaderSectionTooLarge</Code>" in await exchange(port, endless)


async def test_an_endless_url_is_refused(port: int) -> None:
    assert b"<Code>RequestHeaderSectionTooLarge</Code>" in await exchange(port, b"GET /" + b"a" * 100_000)


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01garbage\r\n\r\n", b"PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"]
)
async def test_garbage_is_answered_in_xml(port: int, garbage: bytes) -> None:
    assert b"<Code>BadRequest</Code>" in await exchange(port, garbage)


async def test_pieces_may_be_memoryviews(port: int) -> None:
    """A body in several memoryviews was cut off after the first when head and body were joined."""
    answer = await exchange(port, b"GET /pieces HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert answer.endswith(b"\r\n\r\ndone")


async def test_an_answer_without_a_body_is_sent(port: int) -> None:
    answer = await exchange(port, b"HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n")


async def test_a_refused_client_that_goes_on_sending_still_reads_why(port: int) -> None:
    """Went red with the connection closed at once: the reset overtook the answer."""
    for _ in range(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"PUT /refused HTTP/1.1\r\nHost: h\r\nContent-Length: 9000000\r\n\r\n")
        for _ in range(30):
            writer.write(bytes(100_000))
            await writer.drain()
        assert (await reader.read()).endswith(b"\r\n\r\nno")
        writer.close()
        await writer.wait_closed()


async def test_a_refused_client_that_never_stops_is_cut_off(port: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"PUT /refused HTTP/1.1\r\nHost: h\r\nContent-Length: 9000000000\r\n\r\n")
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(send_for_ever(writer), 10)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def send_for_ever(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(bytes(10_000))
        await writer.drain()
        await asyncio.sleep(0)


async def test_a_header_cannot_bring_another_one_with_it(port: int) -> None:
    answer = await exchange(port, b"GET /split HTTP/1.1\r\nHost: h\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"Injected" not in answer


async def test_close_is_said_once(port: int) -> None:
    answer = await exchange(port, b"GET /refused HTTP/1.1\r\nHost: h\r\n\r\n")
    assert answer.lower().count(b"connection: close") == 1


async def test_an_application_learns_that_its_client_is_gone(port: int) -> None:
    """Went red (never ended) with sends to a client that left ignored: a large GET was read to its end for nobody."""
    told_of_leaving.clear()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /endless HTTP/1.1\r\nHost: h\r\n\r\n")
    await reader.readexactly(1 << 20)
    writer.transport.abort()
    await asyncio.wait_for(told_of_leaving.wait(), 10)


# -- the server leaves -------------------------------------------------------------------------------------------------


SOON_S = 3.0
"""Less than after what an idle connection is closed anyway."""


class Leaving:
    """A server of its own, to tell its connections that it leaves."""

    def __init__(self) -> None:
        self.state = http_protocol.ServerState()
        self.hold = asyncio.Event()
        self.port = 0

    def leave(self) -> None:
        self.state.draining = True
        for connection in list(self.state.connections):
            assert isinstance(connection, S3HttpProtocol)
            connection.drain()

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/held":
            await self.hold.wait()
        await read_all_app(scope, receive, send)


@pytest.fixture
async def leaving(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Leaving]:
    monkeypatch.setattr(http_protocol, "DRAIN_WAIT_S", 0.2)
    made = Leaving()
    config = uvicorn.Config(
        made.app, interface="asgi3", port=0, http=S3HttpProtocol, lifespan="off", log_config=None, ws="none"
    )
    config.load()
    server = await asyncio.get_running_loop().create_server(
        lambda: S3HttpProtocol(config=config, server_state=made.state, app_state={}), "127.0.0.1", 0
    )
    made.port = server.sockets[0].getsockname()[1]
    async with server, asyncio.timeout(30):
        yield made


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode()


async def test_a_leaving_server_answers_what_is_under_way_and_says_that_it_was_the_last(
    leaving: Leaving,
) -> None:
    """Red when the answer's head did not say it: the client would send its next request into a closing connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", leaving.port)
    writer.write(_get("/held"))
    await until_one_request(leaving)
    leaving.leave()
    leaving.hold.set()
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer
    assert answer.endswith(b"done")
    writer.close()


async def test_a_leaving_server_still_answers_on_an_idle_connection(leaving: Leaving) -> None:
    """The request may have been on its way. Red when idle connections were closed at once, as uvicorn does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", leaving.port)
    writer.write(_get("/first"))
    assert b"connection: close" not in await reader.readuntil(b"done")
    leaving.leave()
    writer.write(_get("/second"))
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer
    writer.close()


async def test_a_leaving_server_closes_connections_that_stay_idle(leaving: Leaving) -> None:
    """Used before, or never: else the process would wait for them. Red when the timer was not set."""
    used, used_writer = await asyncio.open_connection("127.0.0.1", leaving.port)
    used_writer.write(_get("/first"))
    await used.readuntil(b"done")
    fresh, fresh_writer = await asyncio.open_connection("127.0.0.1", leaving.port)
    while len(leaving.state.connections) < 2:
        await asyncio.sleep(0)
    leaving.leave()
    async with asyncio.timeout(SOON_S):
        assert await used.read() == b""
        assert await fresh.read() == b""
    used_writer.close()
    fresh_writer.close()


async def test_a_leaving_server_answers_all_that_was_asked_at_once(leaving: Leaving) -> None:
    """Only the answer to the last one closes. Red when the first one did."""
    reader, writer = await asyncio.open_connection("127.0.0.1", leaving.port)
    writer.write(_get("/held") + _get("/second") + _get("/third"))
    await until_one_request(leaving)
    leaving.leave()
    leaving.hold.set()
    answers = await reader.read()
    assert answers.count(b"HTTP/1.1 200") == 3
    assert answers.count(b"connection: close") == 1
    writer.close()


async def test_a_connection_accepted_at_the_last_moment_is_served_once(leaving: Leaving) -> None:
    """Red when only the connections that were there were told."""
    leaving.state.draining = True
    reader, writer = await asyncio.open_connection("127.0.0.1", leaving.port)
    writer.write(_get("/only"))
    assert b"connection: close" in await reader.read()
    idle, idle_writer = await asyncio.open_connection("127.0.0.1", leaving.port)
    async with asyncio.timeout(SOON_S):
        assert await idle.read() == b""
    writer.close()
    idle_writer.close()


async def until_one_request(leaving: Leaving) -> None:
    while not leaving.state.tasks:
        await asyncio.sleep(0)
