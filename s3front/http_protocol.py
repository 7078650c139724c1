"""uvicorn's HTTP protocol with the limits it lacks and with errors that S3 clients can read.

uvicorn neither bounds the size of a request's headers nor waits with a deadline for a client that stops half-way; both
would let one client hold memory or a connection for ever (P8). The checks live here because the application is not
called before the headers are complete. Errors found by the HTTP parser itself are rendered as S3 XML (P10).
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from s3front.errors import BadRequest, RequestHeaderSectionTooLarge, RequestTimeout, S3Error, render
from s3front.limits import BODY_WAIT_S, HEADER_BYTES_MAX, HEADER_WAIT_S, SEND_WAIT_S


class _JoinedHead:
    """A transport that sends the head of an answer together with what follows it: one system call instead of two.

    uvicorn writes head and body apart. Whoever ends an answer without a body must call `flush`.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes | memoryview) -> None:
        if self._head:
            pieces, self._head = (self._head, data), b""
            self._transport.writelines(pieces)
        elif isinstance(data, bytes) and data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 1"):
            self._head = data  # a body that looks like a head only waits for what follows it, or for flush
        else:
            self._transport.write(data)

    def flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def close(self) -> None:
        self.flush()
        self._transport.close()


class S3HttpProtocol(HttpToolsProtocol):
    """One client connection; what it refuses never reaches the application."""

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

    # -- the client owes bytes -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._joined = _JoinedHead(transport)  # type: ignore[arg-type]
        super().connection_made(self._joined)  # type: ignore[arg-type]
        self._watch_receiving(HEADER_WAIT_S)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._headers_pending or self._body_pending:
            self._received_s = self.loop.time()
            if self._receive_timer is None:
                self._watch_receiving(HEADER_WAIT_S if self._headers_pending else BODY_WAIT_S)

    def _watch_receiving(self, wait_s: float) -> None:
        self._receive_timer = self.loop.call_later(wait_s, self._check_receiving)

    def _check_receiving(self) -> None:
        """Close a connection that has owed bytes for too long; armed only while bytes are owed."""
        self._receive_timer = None
        now_s = self.loop.time()
        if self.transport.is_closing():
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

    def on_url(self, url: bytes) -> None:
        self._count_header_bytes(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_header_bytes(len(name) + len(value) + 4)
        super().on_header(name, value)

    def _count_header_bytes(self, count: int) -> None:
        self._header_bytes += count
        if self._header_bytes > HEADER_BYTES_MAX:
            self._header_error = RequestHeaderSectionTooLarge(MaxSizeAllowed=HEADER_BYTES_MAX)
            raise ValueError("request headers too large")

    def on_headers_complete(self) -> None:
        self._headers_pending = False
        self._body_pending = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._body_pending = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._joined.flush()  # HEAD: there was no body to go with
        super().on_response_complete()

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
        self.transport.close()
