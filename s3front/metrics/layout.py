"""Where each figure of a front lies in its slots: whole numbers of 64 bits, counted up in place.

::

    header   magic, hash of the layout, process id
    gauges   one slot each
    commits  two histograms of the catalog's group commits, and the sums of what they count
    for each operation: sum of times, bytes in and out, one slot for each status, the histogram of times

Two processes whose layouts have the same hash understand each other's slots.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from catalog.history import Figures
from codec import histogram

MAGIC: Final = int.from_bytes(b"trivet-m", "little")
MAGIC_SLOT: Final = 0
HASH_SLOT: Final = 1
PID_SLOT: Final = 2
_GAUGES_AT: Final = 8

GAUGES: Final = (
    "requests_in_flight",
    "write_budget_used_bytes",
    "write_budget_bytes",
    "read_budget_used_bytes",
    "read_budget_bytes",
    "catalog_writes_waiting",
    "node_outstanding_bytes",
    "nodes_connected",
)
"""What is so at a moment. Only a process that runs has any."""

STATUSES: Final = (
    *(200, 202, 204, 206, 300, 304, 307),
    *(400, 401, 403, 404, 405, 409, 411, 412, 413, 415, 416, 422, 429, 431, 499),
    *(500, 501, 502, 503, 504),
)
"""What answers are told apart by; any other counts as the first of its hundred. 499: the client left."""

CLIENT_LEFT: Final = 499
CUT_OFF: Final = 500
"""An answer that ended before its announced length counts as a failure of ours, whatever its status line said."""

HEALTH: Final = "Health"
ADMIN: Final = "Admin"
REFUSED: Final = "Refused"
BESIDE_S3: Final = (HEALTH, ADMIN, REFUSED)
"""What is counted beside S3's operations: /-/health, all else below /-/, and requests that were none of S3's."""

# Offsets inside an operation's slots.
SUM_US: Final = 0
BYTES_IN: Final = 1
BYTES_OUT: Final = 2
_STATUSES_AT: Final = 3
LATENCY_AT: Final = _STATUSES_AT + len(STATUSES)
_OPERATION_SLOTS: Final = LATENCY_AT + histogram.BUCKETS


def _offset(status: int) -> int:
    known = status if status in STATUSES else status // 100 * 100
    return _STATUSES_AT + STATUSES.index(known if known in STATUSES else CUT_OFF)


STATUS_OFFSETS: Final = tuple(_offset(status) for status in range(1000))


class Layout:
    """The slots of a front that knows these operations."""

    def __init__(self, operations: Sequence[str]) -> None:
        self.operations: Final = tuple(operations)
        self.gauge_at: Final = {name: _GAUGES_AT + number for number, name in enumerate(GAUGES)}
        self.commit_sum_us_at: Final = _GAUGES_AT + len(GAUGES)
        self.commit_sum_writes_at: Final = self.commit_sum_us_at + 1
        self.commit_us_at: Final = self.commit_sum_writes_at + 1
        self.commit_writes_at: Final = self.commit_us_at + histogram.BUCKETS
        first = self.commit_writes_at + histogram.BUCKETS
        self.operation_at: Final = {
            name: first + number * _OPERATION_SLOTS for number, name in enumerate(self.operations)
        }
        self.slots: Final = first + len(self.operations) * _OPERATION_SLOTS
        told = repr((self.operations, GAUGES, STATUSES, histogram.BUCKETS)).encode()
        self.hash: Final = int.from_bytes(hashlib.sha256(told).digest()[:8], "little")

    def gauges(self, slots: Sequence[int]) -> dict[str, int]:
        """By name."""
        return {name: slots[at] for name, at in self.gauge_at.items()}

    def figures(self, slots: Sequence[int], operation: str) -> Figures:
        """What `slots` have counted of an operation."""
        at = self.operation_at[operation]
        by_status = {
            status: count
            for status, count in zip(STATUSES, slots[at + _STATUSES_AT : at + LATENCY_AT], strict=True)
            if count
        }
        return Figures(
            count=sum(by_status.values()),
            errors=sum(count for status, count in by_status.items() if status >= 500),
            by_status=by_status,
            sum_us=slots[at + SUM_US],
            latency_us=histogram.sparse(slots[at + LATENCY_AT : at + _OPERATION_SLOTS]),
            bytes_in=slots[at + BYTES_IN],
            bytes_out=slots[at + BYTES_OUT],
        )

    def commit_us(self, slots: Sequence[int]) -> dict[int, int]:
        """Histogram of how long the group commits took, microseconds."""
        return histogram.sparse(slots[self.commit_us_at : self.commit_us_at + histogram.BUCKETS])

    def commit_writes(self, slots: Sequence[int]) -> dict[int, int]:
        """Histogram of how many requests shared a group commit."""
        return histogram.sparse(slots[self.commit_writes_at : self.commit_writes_at + histogram.BUCKETS])
