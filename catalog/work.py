"""What waits to be done: garbage, repairs; and events, what happened. Run by the steward."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from catalog import blobs, placements, schema
from catalog.model import Event, FaultReport, GarbageItem, NewBlob, RepairItem
from catalog.statement import Reader, Row, Statement, constant, page, parameter
from catalog.transaction import PlacementNumbers, Transaction

_FAULTS_PER_BLOB_MAX = 64
_PARTS_PER_SLICE = 64

_garbage = schema.garbage
_blobs = schema.blobs
_repairs = schema.repairs
_events = schema.events

_GARBAGE_COLUMNS = (
    _garbage.c.blob_id,
    _garbage.c.due_ms,
    _garbage.c.condemned,
    _garbage.c.stripes,
    _garbage.c.parts,
    _garbage.c.placement_id,
)
_DUE = Statement(
    page(
        sa.select(*_GARBAGE_COLUMNS)
        .where(_garbage.c.due_ms <= parameter("p_now"))
        .order_by(_garbage.c.due_ms)
    ),
    "p_now",
    "limit",
)
_GARBAGE = Statement(
    sa.select(*_GARBAGE_COLUMNS, _garbage.c.released).where(_garbage.c.blob_id == parameter("p_id")), "p_id"
)
_UNQUEUE = Statement(sa.delete(_garbage).where(_garbage.c.blob_id == parameter("p_id")), "p_id")
_CONDEMN_GARBAGE = Statement(
    sa.update(_garbage).values(condemned=constant("1")).where(_garbage.c.blob_id == parameter("p_id")), "p_id"
)
_RELEASED = Statement(
    sa.update(_garbage)
    .values(released=parameter("n_released"))
    .where(_garbage.c.blob_id == parameter("p_id")),
    "n_released",
    "p_id",
)
_REFS = Statement(sa.select(_blobs.c.refs).where(_blobs.c.id == parameter("p_id")), "p_id")
_CONDEMN_BLOB = Statement(
    sa.update(_blobs).values(condemned=constant("1")).where(_blobs.c.id == parameter("p_id")), "p_id"
)
_DELETE_BLOB = Statement(sa.delete(_blobs).where(_blobs.c.id == parameter("p_id")), "p_id")
_DELETE_RUNS = Statement(
    sa.delete(schema.blob_runs).where(schema.blob_runs.c.blob_id == parameter("p_id")), "p_id"
)
_DELETE_MANIFEST = Statement(
    sa.delete(schema.manifests).where(schema.manifests.c.blob_id == parameter("p_id")), "p_id"
)
_FORGET_COMPLETIONS = Statement(
    page(
        sa.select(schema.completions.c.bucket_id, schema.completions.c.key, schema.completions.c.upload_id)
        .where(schema.completions.c.completed_ms < parameter("p_before"))
        .order_by(schema.completions.c.completed_ms)
    ),
    "p_before",
    "limit",
)
_FORGET_COMPLETION = Statement(
    sa.delete(schema.completions).where(
        schema.completions.c.bucket_id == parameter("p_bucket"),
        schema.completions.c.key == parameter("p_key"),
        schema.completions.c.upload_id == parameter("p_id"),
    ),
    "p_bucket",
    "p_key",
    "p_id",
)
_REPAIR_COLUMNS = (
    _repairs.c.blob_id,
    _repairs.c.reported_ms,
    _repairs.c.due_ms,
    _repairs.c.attempts,
    _repairs.c.faults,
)
_REPAIR = Statement(sa.select(*_REPAIR_COLUMNS).where(_repairs.c.blob_id == parameter("p_id")), "p_id")
_REPAIRS_DUE = Statement(
    page(
        sa.select(*_REPAIR_COLUMNS).where(_repairs.c.due_ms <= parameter("p_now")).order_by(_repairs.c.due_ms)
    ),
    "p_now",
    "limit",
)
_INSERT_REPAIR = Statement(sa.insert(_repairs), "blob_id", "reported_ms", "due_ms", "attempts", "faults")
_UPDATE_FAULTS = Statement(
    sa.update(_repairs).values(faults=parameter("n_faults")).where(_repairs.c.blob_id == parameter("p_id")),
    "n_faults",
    "p_id",
)
_POSTPONE_REPAIR = Statement(
    sa.update(_repairs)
    .values(due_ms=parameter("n_due"), attempts=_repairs.c.attempts + constant("1"))
    .where(_repairs.c.blob_id == parameter("p_id")),
    "n_due",
    "p_id",
)
_DELETE_REPAIR = Statement(sa.delete(_repairs).where(_repairs.c.blob_id == parameter("p_id")), "p_id")
_INSERT_EVENT = Statement(sa.insert(_events), "at_ms", "kind", "node", "detail")
_LIST_EVENTS = Statement(
    page(
        sa.select(_events.c.number, _events.c.at_ms, _events.c.kind, _events.c.node, _events.c.detail)
        .where(_events.c.number > parameter("p_after"))
        .order_by(_events.c.number)
    ),
    "p_after",
    "limit",
)
_faults_decoder = msgspec.msgpack.Decoder(list[FaultReport])


def abandon(tx: Transaction, blob: NewBlob) -> None:
    """Queue a blob that was never committed, due after the grace period. Does nothing when it is queued or
    when a row names it after all. Fronts call `Catalog.abandon`."""
    if tx.row(_GARBAGE, (blob.id,)) is not None or tx.row(_REFS, (blob.id,)) is not None:
        return
    placement = placements.number_of(tx, blob.nodes)
    due_ms = tx.now_ms + tx.grace_ms
    tx.execute(blobs.INSERT_GARBAGE, (blob.id, due_ms, 0, placement, blob.stripes, 0, 0))
    blobs.add_runs(tx, blob)


def due_garbage(reader: Reader, numbers: PlacementNumbers, *, now_ms: int, limit: int) -> list[GarbageItem]:
    """What is due for deletion, oldest first, with what was condemned before and not collected yet. Give
    `Catalog.placements` as `numbers`."""
    return [_garbage_item(reader, numbers, row) for row in reader.rows(_DUE, (now_ms, limit))]


def condemn(tx: Transaction, blob_id: bytes) -> GarbageItem | None:
    """First step of a deletion (S14): if nothing refers to the blob, make that final and say what to delete;
    else take it off the queue. None: leave it alone."""
    row = tx.row(_GARBAGE, (blob_id,))
    if row is None:
        return None
    refs = tx.row(_REFS, (blob_id,))
    if refs is not None and refs[0] > 0:
        tx.execute(_UNQUEUE, (blob_id,))
        return None
    tx.execute(_CONDEMN_BLOB, (blob_id,))
    tx.execute(_CONDEMN_GARBAGE, (blob_id,))
    return _garbage_item(tx, tx.placements, (*row[:2], 1, *row[3:]))


def collected(tx: Transaction, blob_id: bytes) -> bool:
    """Last step: the nodes hold nothing of the condemned blob any more; forget it. False: call again, a long
    manifest is released in slices."""
    row = tx.row(_GARBAGE, (blob_id,))
    if row is None:
        return True
    assert row[2] == 1, "only a condemned blob can have been collected"
    if row[4] and not _release_parts(tx, blob_id, row[6]):
        return False
    for statement in (_DELETE_BLOB, _DELETE_RUNS, _UNQUEUE):
        tx.execute(statement, (blob_id,))
    return True


def _release_parts(tx: Transaction, blob_id: bytes, released: int) -> bool:
    packed = tx.row(blobs.MANIFEST, (blob_id,))
    assert packed is not None, f"composite blob {blob_id.hex()} has no manifest"
    manifest = blobs.unpack_manifest(packed[0])
    stop = min(released + _PARTS_PER_SLICE, len(manifest))
    for part in manifest[released:stop]:
        blobs.release(tx, part.blob_id)
    if stop < len(manifest):
        tx.execute(_RELEASED, (stop, blob_id))
        return False
    tx.execute(_DELETE_MANIFEST, (blob_id,))
    return True


def _garbage_item(reader: Reader, numbers: PlacementNumbers, row: Row) -> GarbageItem:
    blob_id, due_ms, condemned, stripes, parts, placement_id = row[:6]
    return GarbageItem(
        blob_id,
        due_ms,
        bool(condemned),
        stripes,
        parts,
        placements.nodes_of(reader, numbers, placement_id),
        blobs.runs_of(reader, numbers, blob_id) if stripes else (),
    )


def forget_completions(tx: Transaction, *, before_ms: int, limit: int) -> int:
    """Drop markers of uploads that were completed before; how many."""
    rows = tx.rows(_FORGET_COMPLETIONS, (before_ms, limit))
    for row in rows:
        tx.execute(_FORGET_COMPLETION, row)
    return len(rows)


def report_faults(tx: Transaction, blob_id: bytes, faults: Sequence[FaultReport]) -> None:
    """Queue a blob for repair, or add to what is known of one that is queued: one row a blob, each fault
    once, a bounded number of them (a repair looks at the whole blob anyway)."""
    row = tx.row(_REPAIR, (blob_id,))
    known = _faults_decoder.decode(row[4]) if row else []
    merged = list(dict.fromkeys([*known, *faults]))[:_FAULTS_PER_BLOB_MAX]
    packed = msgspec.msgpack.encode(merged)
    if row is None:
        tx.execute(_INSERT_REPAIR, (blob_id, tx.now_ms, tx.now_ms, 0, packed))
    elif merged != known:
        tx.execute(_UPDATE_FAULTS, (packed, blob_id))


def due_repairs(reader: Reader, *, now_ms: int, limit: int) -> list[RepairItem]:
    """Blobs to repair, longest due first."""
    rows = reader.rows(_REPAIRS_DUE, (now_ms, limit))
    return [RepairItem(row[0], row[1], row[2], row[3], tuple(_faults_decoder.decode(row[4]))) for row in rows]


def postpone_repair(tx: Transaction, blob_id: bytes, due_ms: int) -> None:
    """Count an attempt that failed and try again later."""
    tx.execute(_POSTPONE_REPAIR, (due_ms, blob_id))


def repaired(tx: Transaction, blob_id: bytes) -> None:
    """The blob is whole, or gone."""
    tx.execute(_DELETE_REPAIR, (blob_id,))


def record_event(tx: Transaction, kind: str, *, node: int | None = None, detail: str = "") -> None:
    """Note that something happened."""
    tx.execute(_INSERT_EVENT, (tx.now_ms, kind, node, detail))


def list_events(reader: Reader, *, after: int = 0, limit: int = 1000) -> list[Event]:
    """Events in order, from number `after` on (exclusive)."""
    return [Event(*row) for row in reader.rows(_LIST_EVENTS, (after, limit))]
