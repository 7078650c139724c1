"""A run's figures as text: what stands at the end of every benchmark."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.bench.five_phases import REFERENCE_GET_MEAN_MS, REFERENCE_PUT_MEAN_MS
from conformance.bench.results import Figures, Phase, Run

_HEADINGS = f"{'phase':28}{'operation':18}{'count':>8}{'failed':>7}{'per s':>10}{'MB/s':>8}"
_LATENCY_HEADINGS = "".join(f"{name:>9}" for name in ("mean ms", "p50", "p90", "p95", "p99", "p99.9", "max"))
HEADINGS = _HEADINGS + _LATENCY_HEADINGS


def phase_lines(phase: Phase) -> list[str]:
    """One line for each kind of operation, or one for a phase without any."""
    if not phase.figures:
        return [f"{phase.name:28}{'':18}{'':>8}{'':>7}{f'{phase.seconds:.2f} s':>10}"]
    names = [phase.name] + [""] * (len(phase.figures) - 1)
    lines = [
        f"{name:28}{_cells(figures, phase.seconds)}"
        for name, figures in zip(names, phase.figures, strict=True)
    ]
    lines += [
        f"    {failure.count} failed: {failure.kind} {failure.path}: {failure.reason}"
        for failure in phase.failures
    ]
    return lines


def _cells(figures: Figures, seconds: float) -> str:
    moved = figures.sent_bytes + figures.received_bytes
    megabytes_per_s = moved / seconds / 1e6 if seconds else 0.0
    latencies = (
        *(figures.mean_ms, figures.p50_ms, figures.p90_ms, figures.p95_ms, figures.p99_ms),
        *(figures.p999_ms, figures.max_ms),
    )
    text = f"{figures.operation:18}{figures.count:>8,}{figures.failed:>7,}{figures.per_second:>10,.1f}"
    return text + f"{megabytes_per_s:>8,.1f}" + "".join(f"{value:>9,.2f}" for value in latencies)


def run_lines(run: Run) -> Iterator[str]:
    """The whole run: machine, phases, recovery, what is to be compared with it."""
    yield f"profile {run.profile} against {run.endpoint}, {run.begun_at}"
    yield run.machine.words
    yield ""
    yield HEADINGS
    for phase in run.phases:
        yield from phase_lines(phase)
    yield ""
    yield from facts(run)


def facts(run: Run) -> Iterator[str]:
    """What a reader should know beside the table."""
    if run.count:
        yield f"{run.count:,} operations, {run.failed:,} failed: {run.success_rate:.4%} succeeded"
    if run.recovery is not None:
        yield (
            f"time to repair: {run.recovery.since_killed_s:.2f} s from the kill of {run.recovery.node}, "
            f"{run.recovery.since_asked_s:.2f} s from the start of its recovery ({run.recovery.blobs:,} blobs)"
        )
    if run.profile == "failure" and run.options.get("clients") == 1:
        yield (
            f"reference, one operation at a time, durability on: mean PUT {REFERENCE_PUT_MEAN_MS} ms, mean GET "
            f"{REFERENCE_GET_MEAN_MS} ms, every operation through the failure a success"
        )
    shares = [phase.generator_share for phase in run.phases if phase.figures]
    if shares:
        yield f"the load generator took {max(shares):.0%} of one core at most"
    for unsupported in run.not_supported:
        yield f"not supported by this endpoint: {unsupported}"
    for note in run.notes:
        yield f"note: {note}"
