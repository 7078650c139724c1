"""The id of the request that the running task works for, for log lines written far from the pipeline."""

from __future__ import annotations

from contextvars import ContextVar

current_request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Set by the pipeline, in the task of each request; empty elsewhere."""
