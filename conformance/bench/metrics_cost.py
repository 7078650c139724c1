"""What Trivet's own request figures cost, as its micro-benchmark tells it; run as a process, because the bench judges
from outside."""

from __future__ import annotations

import subprocess
import sys

import msgspec

_COMMAND = (sys.executable, "-m", "s3front.metrics.cost")


class _Cost(msgspec.Struct):
    ns_per_request: float


def metrics_cost_us() -> float | None:
    """CPU microseconds for each request; None where the micro-benchmark is not to be had."""
    finished = subprocess.run(_COMMAND, capture_output=True, check=False)
    if finished.returncode:
        return None
    return msgspec.json.decode(finished.stdout, type=_Cost).ns_per_request / 1000
