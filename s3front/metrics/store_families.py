"""What the catalog tells of the whole store."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import Metric

from s3front.metrics.families import counter, gauge
from s3front.metrics.store_figures import StoreFigures

_Figure = Callable[[StoreFigures], float]

_GAUGES: tuple[tuple[str, str, _Figure], ...] = (
    (
        "trivet_objects_below_full_redundancy",
        "Stored objects (and parts) that would survive fewer losses than they should. Alert when it stays above 0.",
        lambda f: max(f.redundancy.reduced_blobs, f.redundancy.queued_blobs),
    ),
    (
        "trivet_bytes_below_full_redundancy",
        "Their bytes, as far as whole layouts are concerned; single bad blocks are not in it.",
        lambda f: f.redundancy.reduced_bytes,
    ),
    (
        "trivet_objects_unreadable",
        "Stored objects (and parts) that can't be rebuilt from what the nodes hold now.",
        lambda f: f.redundancy.unreadable_blobs,
    ),
    ("trivet_repair_queue", "Stored objects in the repair queue.", lambda f: f.redundancy.queued_blobs),
    ("trivet_repair_active", "1 while the steward repairs.", lambda f: f.redundancy.repair.active),
    (
        "trivet_repair_done_bytes",
        "Bytes repaired in the present repair, or the last one.",
        lambda f: f.redundancy.repair.done_bytes,
    ),
    (
        "trivet_repair_total_bytes",
        "Bytes that the present repair, or the last one, has to do, as far as known.",
        lambda f: f.redundancy.repair.total_bytes,
    ),
    (
        "trivet_repair_bytes_per_second",
        "Rate of the present repair; 0 while there is none.",
        lambda f: f.redundancy.repair.bytes_per_s if f.redundancy.repair.active else 0,
    ),
    (
        "trivet_rebalancing",
        "1 while data moves to nodes that were added.",
        lambda f: f.redundancy.rebalancing,
    ),
    (
        "trivet_garbage_objects",
        "Deleted objects whose blocks wait to be deleted.",
        lambda f: f.redundancy.garbage_blobs,
    ),
    (
        "trivet_extra_copies",
        "Blocks too many, which wait to be deleted.",
        lambda f: f.redundancy.extra_copies,
    ),
    ("trivet_scrub_active", "1 while the steward compares catalog and nodes.", lambda f: f.scrub.active),
    (
        "trivet_scrub_finished_timestamp_seconds",
        "When the last pass of the scrub finished; 0: never.",
        lambda f: f.scrub.finished_ms / 1000,
    ),
    ("trivet_scrub_objects", "Stored objects compared in the present or last pass.", lambda f: f.scrub.blobs),
    (
        "trivet_scrub_missing_blocks",
        "Blocks that the present or last pass missed.",
        lambda f: f.scrub.missing,
    ),
    (
        "trivet_scrub_corrupt_blocks",
        "Blocks that the present or last pass found bad.",
        lambda f: f.scrub.corrupt,
    ),
    (
        "trivet_scrub_extra_blocks",
        "Blocks that the present or last pass found too many.",
        lambda f: f.scrub.extra,
    ),
    ("trivet_catalog_bytes", "Size of the catalog's file.", lambda f: f.catalog_bytes),
    (
        "trivet_catalog_wal_bytes",
        "Size of the catalog's log, not yet folded into the file.",
        lambda f: f.wal_bytes,
    ),
    ("trivet_catalog_free_bytes", "Free space of the catalog's file system.", lambda f: f.disk_free_bytes),
    ("trivet_buckets", "Buckets.", lambda f: f.totals.buckets),
    ("trivet_objects", "Keys with a current version.", lambda f: f.totals.objects),
    ("trivet_object_versions", "Versions, delete markers among them.", lambda f: f.totals.versions),
    ("trivet_object_bytes", "Bytes of all versions as their owners count them.", lambda f: f.totals.size),
    ("trivet_multipart_uploads", "Multipart uploads that are open.", lambda f: f.open_uploads),
    ("trivet_steward_present", "1 while some steward has the lease.", lambda f: f.lease.holder is not None),
)


def store_families(figures: StoreFigures, age_s: float) -> Iterator[Metric]:
    """All of one moment, `age_s` ago."""
    for name, text, figure in _GAUGES:
        yield gauge(name, text, (), [((), float(figure(figures)))])
    yield counter(
        "trivet_scrub_passes",
        "Passes of the scrub that the steward finished.",
        (),
        [((), figures.scrub.passes)],
    )
    yield counter(
        "trivet_recoveries",
        "Times that every object had its full redundancy again after some had not, since the store was made.",
        (),
        [((), figures.recoveries.count)],
    )
    yield counter(
        "trivet_recovery_seconds",
        "How long that took together, each from the loss on; by trivet_recoveries: the mean time to recovery.",
        (),
        [((), figures.recoveries.total_ms / 1000)],
    )
    yield counter(
        "trivet_steward_lease_renewals",
        "Renewals of the steward's lease; one that stands still has no steward behind it.",
        (),
        [((), figures.lease.counter)],
    )
    yield counter(
        "trivet_events", "Events since the store was made (trivet events).", (), [((), figures.events_ever)]
    )
    yield gauge(
        "trivet_events_kept",
        "Events by kind among the last 10,000, which are kept: it falls when old ones are dropped.",
        ("kind",),
        [((kind,), n) for kind, n in figures.events_kept.items()],
    )
    yield gauge(
        "trivet_store_figures_age_seconds",
        "How old the figures of the whole store are: they are kept for ten times as long as reading them took.",
        (),
        [((), age_s)],
    )
