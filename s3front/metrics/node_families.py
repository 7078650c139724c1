"""What each node says of itself, and what the catalog says of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import Metric

from cluster.reports.cluster import NodeState
from cluster.wire import NodeStatus
from s3front.metrics.families import counter, gauge, sizes, times

STATES = ("joining", "up", "suspect", "down", "draining")

_Figure = Callable[[NodeStatus], float]

_GAUGES: tuple[tuple[str, str, _Figure], ...] = (
    ("capacity_bytes", "Size of the node's file system.", lambda s: s.capacity_bytes),
    ("free_bytes", "Free space of the node's file system.", lambda s: s.free_bytes),
    ("segment_bytes", "Size of the node's segment files.", lambda s: s.segment_bytes),
    (
        "live_bytes",
        "Bytes in segments that still count; the rest is given back by compaction.",
        lambda s: s.live_bytes,
    ),
    ("blocks", "Blocks that the node holds.", lambda s: s.blocks),
    ("damaged_blocks", "Blocks that the node knows to be bad.", lambda s: s.damaged_blocks),
    (
        "log_entries",
        "Entries of the catalog's log that the node holds (none of a database).",
        lambda s: s.log_entries,
    ),
    (
        "log_bytes",
        "Their bytes; they rise until a snapshot takes the place of older ones.",
        lambda s: s.log_bytes,
    ),
    ("queued_bytes", "Bytes received and not yet answered.", lambda s: s.queued_bytes),
    ("connections", "Connections of fronts, steward and others.", lambda s: s.peers),
    ("read_only", "1 when the node takes no new blocks because its disk is full.", lambda s: s.read_only),
    ("failing", "1 when its last write or sync failed with an I/O error.", lambda s: s.failing),
    ("uptime_seconds", "Time since the node's process started.", lambda s: s.uptime_s),
)
_COUNTERS: tuple[tuple[str, str, _Figure], ...] = (
    ("stored_blocks", "Blocks stored.", lambda s: s.stored_blocks),
    ("stored_bytes", "Payload of blocks stored.", lambda s: s.stored_bytes),
    ("read_blocks", "Blocks read.", lambda s: s.read_blocks),
    ("read_bytes", "Payload of blocks read.", lambda s: s.read_bytes),
    (
        "scrubbed_bytes",
        "Bytes that the node read again from its disk to verify them.",
        lambda s: s.scrubbed_bytes,
    ),
    ("scrub_passes", "Times that the node has verified all it holds.", lambda s: s.scrub_passes),
    ("reclaimed_bytes", "Bytes that compaction gave back to the disk.", lambda s: s.reclaimed_bytes),
)


def node_families(states: Sequence[NodeState]) -> Iterator[Metric]:
    """Counters are since the start of the node's process. A node that did not answer has only `up` and its state."""
    yield gauge(
        "trivet_node_up",
        "1 when the node answered this front within half a second.",
        ("node", "region", "zone"),
        [((state.row.name, state.row.region, state.row.zone), state.status is not None) for state in states],
    )
    yield gauge(
        "trivet_node_state",
        "The node's state in the catalog: 1 for the one it has.",
        ("node", "state"),
        [((state.row.name, name), state.row.state == name) for state in states for name in STATES],
    )
    told = [(state.row.name, state.status) for state in states if state.status is not None]
    for name, text, figure in _GAUGES:
        values = [((node,), float(figure(status))) for node, status in told]
        yield gauge(f"trivet_node_{name}", text, ("node",), values)
    for name, text, figure in _COUNTERS:
        values = [((node,), float(figure(status))) for node, status in told]
        yield counter(f"trivet_node_{name}", text, ("node",), values)
    yield counter(
        "trivet_node_damage",
        "Damage that the node found in its files, by kind.",
        ("node", "kind"),
        [((node, kind), n) for node, status in told for kind, n in sorted(status.damage.items())],
    )
    yield times(
        "trivet_node_sync_seconds",
        "Time of each sync of the node's disk; the sum is right within 3 %.",
        ("node",),
        [((node,), status.sync_us, None) for node, status in told],
    )
    yield sizes(
        "trivet_node_group_writes",
        "Requests that one append of the node served; the sum is right within 3 %.",
        ("node",),
        [((node,), status.group_writes, None) for node, status in told],
    )
