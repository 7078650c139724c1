"""The figures of a run: phases, what each kind of operation took in them, and the same as CSV and JSON.

Latencies are kept in HDR histograms (three significant digits, so percentiles are within 0.1 %); count, mean and
maximum are exact.
"""

from __future__ import annotations

import csv
import io
from typing import Any

import msgspec
from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

from conformance.bench.machine import Machine
from conformance.bench.plan import Failure, Outcome

PERCENTILES = {"p50_ms": 50.0, "p90_ms": 90.0, "p95_ms": 95.0, "p99_ms": 99.0, "p999_ms": 99.9}
_LONGEST_US = 3_600_000_000
_DIGITS = 3
TIMELINE_SLOTS = 60
"""A phase is cut into at most so many pieces for its throughput over time."""
_SLOT_S_MIN = 0.1


class Figures(msgspec.Struct, frozen=True):
    """What one kind of operation did in one phase. Latencies are of what succeeded; 0 when nothing did."""

    operation: str
    count: int
    """Tried, failures included."""
    failed: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    per_second: float
    """Of what succeeded."""
    sent_bytes: int
    received_bytes: int
    hdr: str
    """The latencies in microseconds: an HdrHistogram V2, compressed, in base64."""

    @property
    def success_rate(self) -> float:
        return (self.count - self.failed) / self.count if self.count else 1.0


class Phase(msgspec.Struct, frozen=True):
    """One stretch of a run. `begins_s` counts from the run's begin."""

    name: str
    begins_s: float
    seconds: float
    clients: int
    figures: list[Figures]
    failures: list[Failure]
    generator_share: float
    """CPU of the load generator, as a share of one core."""
    slot_s: float
    timeline: list[int]
    """Operations that finished in each slot of `slot_s` since the phase's begin."""

    @property
    def count(self) -> int:
        return sum(figures.count for figures in self.figures)

    @property
    def failed(self) -> int:
        return sum(figures.failed for figures in self.figures)


class Recovery(msgspec.Struct, frozen=True):
    """How a lost node's data became whole again."""

    node: str
    since_killed_s: float
    """MTTR: from the kill until the store said that every object is whole."""
    since_asked_s: float
    """From the start of the recovery."""
    blobs: int


class Run(msgspec.Struct, frozen=True):
    """Everything that one benchmark saw."""

    profile: str
    endpoint: str
    """URL, or "a store of its own"."""
    begun_at: str
    machine: Machine
    options: dict[str, Any]
    phases: list[Phase]
    recovery: Recovery | None = None
    not_supported: list[str] = []
    """What the endpoint refused to do at all, with its answer."""
    notes: list[str] = []

    @property
    def count(self) -> int:
        return sum(phase.count for phase in self.phases)

    @property
    def failed(self) -> int:
        return sum(phase.failed for phase in self.phases)

    @property
    def success_rate(self) -> float:
        return (self.count - self.failed) / self.count if self.count else 1.0


def phase_of(name: str, begins_s: float, clients: int, outcome: Outcome) -> Phase:
    """What a generator saw, as a phase."""
    failed = dict.fromkeys(outcome.kinds, 0)
    for failure in outcome.failures:
        failed[failure.kind] += failure.count
    timeline = [0] * max(1, min(TIMELINE_SLOTS, int(outcome.seconds / _SLOT_S_MIN)))
    slot_s = outcome.seconds / len(timeline)
    for sample in outcome.samples:
        timeline[min(len(timeline) - 1, int(sample.finished_us / 1e6 / slot_s))] += 1
    figures = [_figures(outcome, number, kind, failed[kind]) for number, kind in enumerate(outcome.kinds)]
    return Phase(
        name=name,
        begins_s=begins_s,
        seconds=outcome.seconds,
        clients=clients,
        figures=[each for each in figures if each.count],
        failures=outcome.failures,
        generator_share=outcome.generator_cpu_s / outcome.seconds if outcome.seconds else 0.0,
        slot_s=slot_s,
        timeline=timeline,
    )


def _figures(outcome: Outcome, number: int, kind: str, failed: int) -> Figures:
    samples = [sample for sample in outcome.samples if sample.kind == number]
    histogram = HdrHistogram(1, _LONGEST_US, _DIGITS)
    for sample in samples:
        histogram.record_value(max(1, min(sample.latency_us, _LONGEST_US)))
    latencies_us = [sample.latency_us for sample in samples]
    max_ms = max(latencies_us, default=0) / 1000
    return Figures(
        operation=kind,
        count=len(samples) + failed,
        failed=failed,
        mean_ms=sum(latencies_us) / len(samples) / 1000 if samples else 0.0,
        max_ms=max_ms,
        per_second=len(samples) / outcome.seconds if outcome.seconds else 0.0,
        sent_bytes=sum(sample.sent_bytes for sample in samples),
        received_bytes=sum(sample.received_bytes for sample in samples),
        hdr=histogram.encode().decode("ascii"),
        **{
            name: min(max_ms, histogram.get_value_at_percentile(share) / 1000)
            for name, share in PERCENTILES.items()
        },
    )


def latency_at(figures: Figures, percentiles: list[float]) -> list[float]:
    """Milliseconds at each of the percentiles, read from the histogram."""
    histogram = HdrHistogram.decode(figures.hdr)
    return [histogram.get_value_at_percentile(percentile) / 1000 for percentile in percentiles]


def to_json(run: Run) -> str:
    """With the sums that readers want, for people to read."""
    plain = msgspec.to_builtins(run)
    plain |= {"count": run.count, "failed": run.failed, "success_rate": run.success_rate}
    for phase, told in zip(run.phases, plain["phases"], strict=True):
        for figures, entry in zip(phase.figures, told["figures"], strict=True):
            entry["success_rate"] = figures.success_rate
    return msgspec.json.format(msgspec.json.encode(plain), indent=1).decode() + "\n"


_FROM_FIGURES = (
    *("operation", "count", "failed", "success_rate", "mean_ms", *PERCENTILES, "max_ms", "per_second"),
    *("sent_bytes", "received_bytes"),
)
CSV_COLUMNS = ("profile", "phase", "clients", "seconds", "generator_share", *_FROM_FIGURES)


def to_csv(run: Run) -> str:
    """One row for each kind of operation in each phase. A phase without operations (recovery) has a row with its
    seconds."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(CSV_COLUMNS)
    for phase in run.phases:
        head = (run.profile, phase.name, phase.clients, phase.seconds, phase.generator_share)
        for figures in phase.figures:
            table.writerow((*head, *(getattr(figures, name) for name in _FROM_FIGURES)))
        if not phase.figures:
            table.writerow((*head, *("" for _ in _FROM_FIGURES)))
    return text.getvalue()
