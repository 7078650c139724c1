"""``/metrics``: the history of requests and failures, summed up, handed out, forgotten."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from typing import IO

import msgspec

from catalog import history
from catalog.engine import wall_clock_ms
from catalog.statement import Reader
from cluster.reports.incidents import IncidentSummary, incidents, summarise_incidents
from cluster.reports.moments import FAR_MS, At, iso_at
from s3front.admin.endpoint import Call, Download, Endpoint
from s3front.admin.inputs import JSON_CONTENT_TYPE
from s3front.admin.problem import invalid
from s3front.admin.recorded import flushed
from s3front.admin.services import AdminServices
from s3front.admin.times import When, when_ms
from s3front.metrics.export import Format, MinuteRow, exported
from s3front.metrics.summary import OperationSummary, summarise

CSV_CONTENT_TYPE = "text/csv; charset=utf-8"
_IN_MEMORY_BYTES = 1 << 20
_PIECE_BYTES = 64 << 10
_exporting = asyncio.Semaphore(1)


class RangeQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From the first moment up to and without the second; all there is where they are not given."""

    from_: When | None = msgspec.field(name="from", default=None)
    to: When | None = None


class ExportQuery(RangeQuery, frozen=True, forbid_unknown_fields=True):
    """In which format."""

    format: Format = "json"


class SummaryAnswer(msgspec.Struct, frozen=True):
    """Requests of all fronts by operation, and failures, in minutes that begin at `from_at` or later and before `to_at`
    (null: no limit was asked for). `history_complete`: what this front did up to now is in it; other fronts hand in
    what they did every few seconds, and minutes older than a week are forgotten."""

    from_at: At | None
    to_at: At | None
    history_complete: bool
    operations: list[OperationSummary]
    incidents: IncidentSummary


class ClearAnswer(msgspec.Struct, frozen=True):
    """What was counted before is forgotten; other fronts may still hand in their last few seconds of it."""

    cleared_at: At


def _range(asked: RangeQuery) -> tuple[int, int]:
    from_ms = 0 if asked.from_ is None else when_ms(asked.from_, "query.from")
    to_ms = FAR_MS if asked.to is None else when_ms(asked.to, "query.to")
    if from_ms >= to_ms:
        raise invalid("query.to", "must be later than query.from")
    return from_ms, to_ms


def summed_up(
    reader: Reader, from_ms: int, to_ms: int, now_ms: int
) -> tuple[list[OperationSummary], IncidentSummary]:
    """Requests and failures from the first moment up to and without the second."""
    rows = history.read(reader, from_ms, to_ms)
    return summarise(rows, now_ms=now_ms), summarise_incidents(incidents(reader, from_ms, to_ms))


async def _summary(services: AdminServices, call: Call) -> SummaryAnswer:
    asked: RangeQuery = call.query
    from_ms, to_ms = _range(asked)
    complete = await flushed(services.front.requests)
    now_ms = wall_clock_ms()

    operations, failures = await services.front.catalog.read(
        lambda reader: summed_up(reader, from_ms, to_ms, now_ms)
    )
    return SummaryAnswer(
        from_at=None if asked.from_ is None else iso_at(from_ms),
        to_at=None if asked.to is None else iso_at(to_ms),
        history_complete=complete,
        operations=operations,
        incidents=failures,
    )


async def _export(services: AdminServices, call: Call) -> Download:
    """One at a time, and through a file: a week has tens of megabytes, and its length is told before it is sent."""
    asked: ExportQuery = call.query
    from_ms, to_ms = _range(asked)
    await flushed(services.front.requests)
    spool = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 - closed by the Download
    try:
        async with _exporting:
            until_ms = min(to_ms, wall_clock_ms() + 1)
            async for piece in exported(services.front.catalog, asked.format, from_ms, until_ms):
                spool.write(piece.text.encode())
        size = spool.tell()
        spool.seek(0)
    except BaseException:
        spool.close()
        raise

    async def close() -> None:
        spool.close()

    name = f"trivet-metrics.{asked.format}"
    return Download(
        CSV_CONTENT_TYPE if asked.format == "csv" else JSON_CONTENT_TYPE,
        size,
        _pieces(spool),
        close,
        {"content-disposition": f'attachment; filename="{name}"'},
    )


async def _pieces(spool: IO[bytes]) -> AsyncIterator[bytes]:
    while piece := spool.read(_PIECE_BYTES):
        yield piece


async def _clear(services: AdminServices, _call: Call) -> ClearAnswer:
    await services.front.requests.flush_now()
    await services.front.catalog.write(history.clear, frees=True)
    return ClearAnswer(iso_at(wall_clock_ms()))


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "GET",
        "/metrics/summary",
        "getMetricsSummary",
        "Requests by operation (counts, latencies, throughput, success) and failures with their MTTR.",
        _summary,
        SummaryAnswer,
        query=RangeQuery,
    ),
    Endpoint(
        "GET",
        "/metrics/export",
        "exportMetrics",
        "The history minute by minute, as JSON or CSV.",
        _export,
        list[MinuteRow],
        query=ExportQuery,
        downloads=("text/csv",),
    ),
    Endpoint(
        "POST",
        "/metrics/clear",
        "clearMetrics",
        "Forget the history of requests; the counters for Prometheus and the events stay.",
        _clear,
        ClearAnswer,
    ),
)
