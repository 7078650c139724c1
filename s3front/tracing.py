"""What a front knows of traces: a span for each request, which node calls find as their context."""

from __future__ import annotations

from typing import Protocol


class RequestSpan(Protocol):
    """One request that is traced."""

    def end(self, operation: str, status: int, facts: dict[str, str | int]) -> None:
        """The request is over; `status` as it was sent."""


class RequestTracer(Protocol):
    """Begins the spans of requests, in the task that handles them."""

    def begin(self, headers: list[tuple[bytes, bytes]]) -> RequestSpan:
        """A span from now on; a client's ``traceparent`` makes it part of the client's own trace."""
