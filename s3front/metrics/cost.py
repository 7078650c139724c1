"""``python -m s3front.metrics.cost``: what it costs to count one request, as JSON.

``{"ns_per_request": …}`` is what `RequestMetrics.begin` and `end` take together, in nanoseconds of CPU, as the least
of several rounds: the others were disturbed. Slots in memory and in a file cost the same.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping

import msgspec

from catalog.history import Figures
from s3front.metrics.layout import BESIDE_S3, Layout
from s3front.metrics.requests import RequestMetrics
from s3front.metrics.slots import Slots

_REQUESTS = 20_000
_ROUNDS = 7


def ns_per_request(requests: int = _REQUESTS, rounds: int = _ROUNDS) -> float:
    """Begin and end of a GET of 4 KiB."""

    async def measured() -> float:
        recorder = RequestMetrics(
            Slots(Layout(("GetObject", *BESIDE_S3)), None, "cost"), "cost", save=_saved, now_ms=lambda: 0
        )
        return min([_round_ns(recorder, requests) for _ in range(rounds)])

    return asyncio.run(measured())


async def _saved(_minute_ms: int, _figures: Mapping[str, Figures]) -> None:
    raise AssertionError("nobody flushes")


def _round_ns(recorder: RequestMetrics, requests: int) -> float:
    began_ns = time.thread_time_ns()
    for _ in range(requests):
        tally = recorder.begin()
        try:
            tally.operation = "GetObject"
            tally.bytes_out += 4096
            tally.status = 200
        finally:
            recorder.end(tally)
    return (time.thread_time_ns() - began_ns) / requests


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.encode({"ns_per_request": round(ns_per_request(), 1)}).decode() + "\n")
