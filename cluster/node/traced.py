"""A node's connection to a peer whose calls belong to traces; used only where somebody wants those."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from cluster.node.connection import READ_ROOM, Connection
from cluster.node.group import Write
from cluster.node.service import Service
from cluster.tracing import NodeTracer
from cluster.wire import Frame, Op, Status, decode_put_block, decode_read_block


class _Begun(NamedTuple):
    """A call that came with a context and is not yet answered."""

    context: bytes
    start_ns: int


class TracedConnection(Connection):
    """Takes down each read and write from its frame to its reply; what others ask for without a context costs what it
    did."""

    def __init__(self, service: Service, tracer: NodeTracer) -> None:
        super().__init__(service)
        self._tracer = tracer
        self._begun: dict[int, _Begun] = {}

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._begun.clear()

    def answer_write(self, write: Write) -> None:
        super().answer_write(write)
        self._done(write.request_id, write.op, write.status, len(write.payload))

    def _handle(self, frame: Frame) -> None:
        context = _context_of(frame)
        if context:
            self._begun[frame.request_id] = _Begun(context, self._tracer.now_ns())
        super()._handle(frame)

    def _send_block(self, frame: Frame, buffer: bytearray, first_page: int) -> None:
        super()._send_block(frame, buffer, first_page)
        self._done(frame.request_id, frame.op, Status.OK, len(buffer) - READ_ROOM)

    def _fault(self, frame: Frame, status: Status, message: str) -> None:
        super()._fault(frame, status, message)
        self._done(frame.request_id, frame.op, status, 0)

    def _done(self, request_id: int, op: int, status: Status, nbytes: int) -> None:
        begun = self._begun.pop(request_id, None)
        if begun is not None:
            self._tracer.done(begun.context, Op(op).name, begun.start_ns, status.name, nbytes)


def _context_of(frame: Frame) -> bytes:
    """The context that came with the call; empty for calls without one, and for headers that can't be read, which
    the connection refuses itself."""
    try:
        if frame.op == Op.READ_BLOCK:
            return decode_read_block(frame.header).trace
        if frame.op == Op.PUT_BLOCK:
            return decode_put_block(frame.header).trace
    except msgspec.DecodeError:
        return b""
    return b""
