"""A run with known figures, for what is made of figures."""

from __future__ import annotations

from conformance.bench.machine import Machine
from conformance.bench.plan import Failure, Outcome, Sample
from conformance.bench.results import Phase, Recovery, Run, phase_of

MACHINE = Machine("A <CPU> & more", 2, 24 << 30, "Linux 6.18", "3.11.7", 0.163)


def outcome_of(latencies_us: list[int], *, failures: int = 0, kind: str = "PUT") -> Outcome:
    """These latencies one after the other, 5,000 bytes each; failures are refused."""
    samples, at_us = [], 0
    for latency_us in latencies_us:
        at_us += latency_us
        samples.append(Sample(0, at_us, latency_us, 5000, 0))
    told = [Failure(kind, "/b/<key>", "answered 503 SlowDown", failures)] if failures else []
    return Outcome(max(at_us, 1) / 1e6, at_us / 4e6, [kind], samples, told)


def a_run(*, failures: int = 0) -> Run:
    phases = [
        phase_of("upload", 0.0, 1, outcome_of([1000 + 10 * n for n in range(1000)])),
        Phase("kill a node", 1.6, 0.01, 0, [], [], 0.0, 0.01, [0]),
        phase_of(
            "read while degraded", 1.7, 1, outcome_of([300] * 400 + [9000], failures=failures, kind="GET")
        ),
    ]
    return Run(
        profile="failure",
        endpoint="a store of its own",
        begun_at="2026-11-22T22:00:00+00:00",
        machine=MACHINE,
        options={"objects": 1000, "clients": 1, "seconds": 0.0, "seed": 0},
        phases=phases,
        recovery=Recovery("node-2", 3.5, 3.0, 1000),
        notes=["a <note> & more"],
    )
