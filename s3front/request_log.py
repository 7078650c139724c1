"""One log line for each request, for those who want to know who asked for what (setting `log_requests`)."""

from __future__ import annotations

import logging
from time import perf_counter

from s3front.metrics.requests import Tally
from s3front.request import Scope

log = logging.getLogger("trivet.requests")


def log_request(scope: Scope, tally: Tally) -> None:
    """At the end of a request. The path is as it came, percent-encoded; the query is left out, for a presigned one
    holds a signature that may still be good."""
    path = scope["raw_path"].decode("latin-1")
    client = scope["client"][0] if scope.get("client") else ""
    ms = round((perf_counter() - tally.started_s) * 1000, 3)
    log.info(
        "%s %s %d, %d bytes in, %d out, %.1f ms",
        tally.operation,
        path,
        tally.status,
        tally.bytes_in,
        tally.bytes_out,
        ms,
        extra={
            "facts": {
                "client": client,
                "operation": tally.operation,
                "method": scope["method"],
                "path": path,
                "status": tally.status,
                "bytes_in": tally.bytes_in,
                "bytes_out": tally.bytes_out,
                "ms": ms,
            }
        },
    )
