"""What the cluster knows of traces, which is little: the context that travels with a call, and who takes it down.

A trace shows where a request's time went, over all processes that worked for it. The spans themselves are made by
whoever was told to (compose.tracing); without that a context is empty and costs a byte on the wire.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

TraceContext = Callable[[], bytes]
"""The context of the span that the caller works in, as `pack_context` makes it; empty when it works in none."""

_CONTEXT_BYTES = 25


def no_trace() -> bytes:
    """The TraceContext of processes that make no traces."""
    return b""


def pack_context(trace_id: int, span_id: int, flags: int) -> bytes:
    """The three numbers of a W3C trace context (https://www.w3.org/TR/trace-context/), 16, 8 and 1 bytes of them."""
    return trace_id.to_bytes(16, "big") + span_id.to_bytes(8, "big") + flags.to_bytes(1, "big")


def unpack_context(packed: bytes) -> tuple[int, int, int] | None:
    """The inverse; None for what is no context."""
    if len(packed) != _CONTEXT_BYTES:
        return None
    return int.from_bytes(packed[:16], "big"), int.from_bytes(packed[16:24], "big"), packed[24]


class NodeTracer(Protocol):
    """Takes down what a node did for a call that came with a context."""

    def now_ns(self) -> int:
        """The time to be given as the start of a span."""

    def done(self, context: bytes, name: str, start_ns: int, status: str, nbytes: int) -> None:
        """A span from `start_ns` until now. `nbytes`: of the block that was read or written, 0 if there was none."""
