"""What the fronts of this machine have counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client.core import Metric

from catalog.history import Figures, merged
from codec import histogram
from s3front.metrics.families import counter, gauge, sizes, times
from s3front.metrics.layout import Layout
from s3front.metrics.slots import Reading


def front_families(layout: Layout, readings: Sequence[Reading]) -> Iterator[Metric]:
    """Counters of all fronts together, those that ended too; gauges by front, of those that run."""
    yield from _requests(_totals(layout, readings))
    yield from _commits(layout, readings)
    yield from _gauges(layout, [reading for reading in readings if reading.alive])


def _totals(layout: Layout, readings: Sequence[Reading]) -> list[tuple[str, Figures]]:
    totals = (
        (name, merged([layout.figures(reading.slots, name) for reading in readings]))
        for name in layout.operations
    )
    return [(name, figures) for name, figures in totals if figures.count]


def _requests(figures: Sequence[tuple[str, Figures]]) -> Iterable[Metric]:
    yield counter(
        "trivet_requests",
        "Requests by S3 operation (and Admin, Health, Refused) and HTTP status as sent; 499: the client left, "
        "500 also: the answer broke off.",
        ("operation", "status"),
        [((name, str(status)), n) for name, each in figures for status, n in sorted(each.by_status.items())],
    )
    yield times(
        "trivet_request_seconds",
        "Time from a request's head to the end of its answer, by operation, whatever the status.",
        ("operation",),
        [((name,), each.latency_us, each.sum_us) for name, each in figures],
    )
    yield counter(
        "trivet_request_bytes",
        "Payload bytes of request bodies that arrived whole, without the framing of signed chunks.",
        ("operation",),
        [((name,), each.bytes_in) for name, each in figures],
    )
    yield counter(
        "trivet_response_bytes",
        "Bytes of answer bodies given to the network, of broken answers too.",
        ("operation",),
        [((name,), each.bytes_out) for name, each in figures],
    )


def _commits(layout: Layout, readings: Sequence[Reading]) -> Iterable[Metric]:
    yield times(
        "trivet_catalog_commit_seconds",
        "Time that a group commit of the catalog took to be durable, over all fronts of this machine.",
        (),
        [
            (
                (),
                histogram.merged(layout.commit_us(reading.slots) for reading in readings),
                sum(reading.slots[layout.commit_sum_us_at] for reading in readings),
            )
        ],
    )
    yield sizes(
        "trivet_catalog_commit_writes",
        "Requests that shared one group commit of the catalog.",
        (),
        [
            (
                (),
                histogram.merged(layout.commit_writes(reading.slots) for reading in readings),
                sum(reading.slots[layout.commit_sum_writes_at] for reading in readings),
            )
        ],
    )


_FRONT_GAUGES = {
    "requests_in_flight": ("trivet_requests_in_flight", "Requests that a front is working on."),
    "catalog_writes_waiting": (
        "trivet_catalog_writes_waiting",
        "Requests of a front that wait for a group commit to take them up.",
    ),
    "node_outstanding_bytes": (
        "trivet_front_node_outstanding_bytes",
        "Payload that a front has sent to nodes and that is not yet acknowledged.",
    ),
    "nodes_connected": ("trivet_front_nodes_connected", "Nodes that a front has a connection to."),
}


def _gauges(layout: Layout, readings: Sequence[Reading]) -> Iterable[Metric]:
    told = [(reading.front, layout.gauges(reading.slots)) for reading in readings]
    for name, (metric, text) in _FRONT_GAUGES.items():
        yield gauge(metric, text, ("front",), [((front,), gauges[name]) for front, gauges in told])
    for of, text in (
        ("used_bytes", "Memory for bodies in flight that is taken."),
        ("bytes", "Memory for bodies in flight that there is; requests wait when it is used up."),
    ):
        yield gauge(
            f"trivet_front_budget_{of}",
            text,
            ("front", "budget"),
            [
                ((front, budget), gauges[f"{budget}_budget_{of}"])
                for front, gauges in told
                for budget in ("write", "read")
            ],
        )
