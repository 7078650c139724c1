"""Runs plans in a process of their own, and the simplest plan of all: one request for many keys, again and again.

What measures one rate ends at the first wrong answer (`run_in_process`), because its figure would mean nothing; what
watches a store fail goes on and counts (`run_plan`).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from conformance.bench.plan import Broken, Endpoint, Message, Operation, Outcome, Plan, Progress

GENERATOR = (sys.executable, "-m", "conformance.bench.generator")


class LoadFailed(Exception):
    """The server answered wrongly or not at all; the figures would mean nothing."""


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What to send. Without an access key requests go unsigned (the floor)."""

    host: str
    port: int
    method: str
    bucket: str
    key_count: int
    object_bytes: int
    clients: int
    seconds: float
    operations_max: int = 0
    """Stop after so many even before `seconds` are over; 0: no such limit."""
    region: str = "us-east-1"
    access_key: str = ""
    secret_key: str = field(default="", repr=False)

    def to_plan(self) -> Plan:
        """Object n has content n, so that what one run stored another one can check."""
        operations = [
            Operation(
                self.method, self.method, f"/{self.bucket}/{object_key(n)}", size=self.object_bytes, content=n
            )
            for n in range(self.key_count)
        ]
        endpoint = Endpoint(self.host, self.port, self.region, self.access_key, self.secret_key)
        return Plan(
            endpoint,
            operations,
            clients=self.clients,
            seconds=self.seconds,
            operations_max=self.operations_max,
            stop_at_failure=True,
        )


@dataclass(frozen=True, slots=True)
class LoadResult:
    operations: int
    seconds: float
    latencies_us: list[int]
    """Ascending, one for each operation."""
    generator_cpu_s: float

    @property
    def per_second(self) -> float:
        return self.operations / self.seconds

    def percentile_ms(self, share: float) -> float:
        return self.latencies_us[min(len(self.latencies_us) - 1, int(len(self.latencies_us) * share))] / 1000


def object_key(number: int) -> str:
    return f"o{number:06d}"


def run_in_process(plan: LoadPlan) -> LoadResult:
    """Every answer must be right, contents included. Raises LoadFailed with the first that is not."""
    outcome = run_plan(plan.to_plan())
    latencies_us = sorted(sample.latency_us for sample in outcome.samples)
    return LoadResult(len(latencies_us), outcome.seconds, latencies_us, outcome.generator_cpu_s)


def run_plan(plan: Plan, watch: Callable[[Progress], None] = lambda _: None) -> Outcome:
    """Runs the plan in a process of its own and tells `watch` now and then how far it is. Raises LoadFailed when it
    can't begin, or stops at a failure as the plan asks."""
    with subprocess.Popen(GENERATOR, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            return _outcome_of(process, plan, watch)
        except BaseException:  # it must not go on loading a store that nobody measures
            process.kill()
            raise


def _outcome_of(process: subprocess.Popen[bytes], plan: Plan, watch: Callable[[Progress], None]) -> Outcome:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(msgspec.json.encode(plan))
    process.stdin.close()
    for line in process.stdout:
        message: Message = msgspec.json.decode(line, type=Message)
        if isinstance(message, Progress):
            watch(message)
        elif isinstance(message, Broken):
            raise LoadFailed(message.reason)
        else:
            return message.outcome
    raise LoadFailed(f"the load generator ended with exit code {process.wait()}")
