"""uvicorn's HTTP protocol with the limits it lacks and with errors that S3 clients can read.

uvicorn neither bounds the size of a request's headers nor waits with a deadline for a client that stops half-way; both
would let one client hold memory or a connection for ever (P8). The checks live here because the application is not
called before the headers are complete. Errors found by the HTTP parser itself are rendered as S3 XML (P10).
"""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn.server
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from s3front.errors import BadRequest, RequestHeaderSectionTooLarge, RequestTimeout, S3Error, render
from s3front.limits import BODY_WAIT_S, DRAIN_WAIT_S, HEADER_BYTES_MAX, HEADER_WAIT_S, LINGER_S, SEND_WAIT_S


class _Answer(RequestResponseCycle):
    """uvicorn's cycle of one request, with an answer that costs one system call and one look at its headers.

    uvicorn writes head and body apart and searches each name and value for characters that have no place there; here
    the head leaves with the first piece of the body and is checked as a whole. Answers have a Content-Length or no
    body: what is not S3 (health) is made by Starlette, which sets it.
    """

    head = b""
    protocol: S3HttpProtocol

    async def send(self, message: Any) -> None:
        """The ASGI callable. Raises RuntimeError for an answer that would break the protocol.

        Raises ConnectionResetError once the client is gone: nobody should read on for it.
        """
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            raise ConnectionResetError("the client is gone")
        if not self.response_started:
            self._start(message["status"], message["headers"])
        elif not self.response_complete:
            self._continue(message.get("body", b""), more=message.get("more_body", False))
        else:
            raise RuntimeError("the answer is complete already")

    def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        parts = [STATUS_LINE[status]]
        for name, value in (*self.default_headers, *headers):
            if name == b"content-length":
                self.expected_content_length = int(value)
            elif name == b"connection":
                self.keep_alive = False  # "close" is all we ever say, and it is said below
                continue
            parts += (name, b": ", value, b"\r\n")
        if self.protocol.ends_after(self):
            self.keep_alive = False
        if not self.keep_alive:
            parts.append(b"connection: close\r\n")
        parts.append(b"\r\n")
        head = b"".join(parts)
        lines = len(parts) // 4 + 2 + (not self.keep_alive)
        if head.count(b"\n") != lines or head.count(b"\r") != lines or b"\0" in head:
            raise RuntimeError("a header would break the head of the answer")
        if self.scope["method"] == "HEAD" or status in (204, 304):
            self.expected_content_length = 0
        self.head = head
        self.response_started = True
        self.waiting_for_100_continue = False

    def _continue(self, body: bytes | memoryview, *, more: bool) -> None:
        if self.scope["method"] == "HEAD":
            body = b""
        left = self.expected_content_length = self.expected_content_length - len(body)
        if left < 0 or (left and not more):
            raise RuntimeError(f"the body does not have the announced length ({left} bytes are left)")
        if self.head:
            pieces, self.head = (self.head, body), b""
            self.transport.writelines(pieces if body else pieces[:1])
        elif body:
            self.transport.write(body)
        if not more:
            self.response_complete = True
            self.message_event.set()
            if self.keep_alive:
                self.on_response()
            else:
                self.protocol.close(more_to_come=self.more_body)


class ServerState(uvicorn.server.ServerState):
    """What uvicorn's connections share, and whether the server is leaving."""

    def __init__(self) -> None:
        super().__init__()
        self.draining = False


class S3HttpProtocol(HttpToolsProtocol):
    """One client connection; what it refuses never reaches the application."""

    server_state: ServerState

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._header_bytes = 0
        self._header_error: S3Error | None = None
        self._headers_pending = True
        self._body_pending = False
        self._headers_began_s = self.loop.time()
        self._received_s = self._headers_began_s
        self._receive_timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        self._drain_timer: asyncio.TimerHandle | None = None

    # -- the client owes bytes -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._watch_receiving(HEADER_WAIT_S)
        if self.server_state.draining:  # accepted just before the server stopped accepting
            self.drain()

    def data_received(self, data: bytes) -> None:
        if self._linger_timer is not None:
            return
        super().data_received(data)
        if (self._headers_pending or self._body_pending) and not self.transport.is_closing():
            if self._headers_pending:
                self._header_bytes += len(data)
                if self._header_bytes > HEADER_BYTES_MAX:
                    self._refuse(RequestHeaderSectionTooLarge(MaxSizeAllowed=HEADER_BYTES_MAX))
                    return
            self._received_s = self.loop.time()
            if self._receive_timer is None:
                self._watch_receiving(HEADER_WAIT_S if self._headers_pending else BODY_WAIT_S)

    def _watch_receiving(self, wait_s: float) -> None:
        self._receive_timer = self.loop.call_later(wait_s, self._check_receiving)

    def _check_receiving(self) -> None:
        """Close a connection that has owed bytes for too long; armed only while bytes are owed."""
        self._receive_timer = None
        now_s = self.loop.time()
        if self.transport.is_closing() or self._linger_timer is not None:
            return
        if self._headers_pending:
            left_s = self._headers_began_s + HEADER_WAIT_S - now_s
        elif self._body_pending:
            ours = self.flow.read_paused or self.cycle.waiting_for_100_continue
            left_s = BODY_WAIT_S if ours else self._received_s + BODY_WAIT_S - now_s
        else:
            return
        if left_s > 0:
            self._watch_receiving(left_s)
        elif self._headers_pending and self._header_bytes == 0:
            self.transport.close()
        else:
            self._refuse(RequestTimeout())

    # -- the client takes no bytes ---------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._send_timer is None:
            self._send_timer = self.loop.call_later(SEND_WAIT_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._cancel_send_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_send_timer()
        if self._receive_timer is not None:
            self._receive_timer.cancel()
            self._receive_timer = None
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        if self._drain_timer is not None:
            self._drain_timer.cancel()
        super().connection_lost(exc)

    def _cancel_send_timer(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    # -- parser callbacks ------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._header_bytes = 0
        self._headers_began_s = self.loop.time()
        self._headers_pending = True

    def on_headers_complete(self) -> None:
        self._headers_pending = False
        size = len(self.url) + sum([len(name) + len(value) + 4 for name, value in self.headers])
        if size > HEADER_BYTES_MAX:
            self._header_error = RequestHeaderSectionTooLarge(MaxSizeAllowed=HEADER_BYTES_MAX)
            raise ValueError("request headers too large")  # the parser gives up and calls send_400_response
        self._body_pending = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._body_pending = False
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        cycle.__class__ = _Answer
        assert isinstance(cycle, _Answer)
        cycle.protocol = self
        super()._start_asgi_task(cycle, app)

    # -- the end of a connection -----------------------------------------------------------------------------------

    def close(self, *, more_to_come: bool) -> None:
        """Close after the last answer. With more of a body to come, only our side at first.

        Closing at once would reset the connection under a client that is still sending, and the reset may overtake
        the answer that says why. What it sends is thrown away for LINGER_S, then it is cut off.
        """
        if not more_to_come or self.transport.is_closing():
            self.transport.close()
            return
        self.transport.write_eof()
        self.flow.resume_reading()
        self._linger_timer = self.loop.call_later(LINGER_S, self.transport.abort)

    # -- the server leaves ------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """The server leaves: the next answer is this connection's last. One that stays idle is closed a while later,
        not at once: a client that has just sent a request, or is about to, would see its connection break.
        """
        self._drain_timer = self.loop.call_later(DRAIN_WAIT_S, self._close_idle)

    def ends_after(self, cycle: RequestResponseCycle) -> bool:
        """Whether that answer is to be the last. What the client sent behind it unasked is answered first."""
        return self.server_state.draining and cycle is self.cycle

    def _close_idle(self) -> None:
        answered = self.cycle is None or self.cycle.response_complete
        if answered and not (self._headers_pending and self._header_bytes):
            self.transport.close()
            return
        self._drain_timer = self.loop.call_later(DRAIN_WAIT_S, self._close_idle)

    # -- refusals --------------------------------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._header_error or BadRequest("An error occurred when parsing the HTTP request."))

    def _refuse(self, error: S3Error) -> None:
        """Answer with an S3 error, unless an answer has begun, and close."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = render(error, resource="", request_id="", host_id="")
            self.transport.write(
                STATUS_LINE[error.status]
                + b"content-type: application/xml\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
                % len(body)
                + body
            )
        self.close(more_to_come=True)
