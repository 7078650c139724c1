"""What waits to be done: garbage, extra copies, repairs; and events, what happened. Run by the steward."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import sqlalchemy as sa

from catalog import blobs, layouts, redundancy, schema
from catalog.model import Event, ExtraCopy, FaultReport, GarbageItem, NewBlob, RepairItem
from catalog.statement import Reader, Row, Statement, constant, page, parameter
from catalog.transaction import PlacementNumbers, Transaction, read_meta

_FAULTS_PER_BLOB_MAX = 64
_PARTS_PER_SLICE = 64
_EVENTS_KEPT = 10_000
_BELOW_ANY_SPARE = -1000
_REPAIR_WAIT_MS_MAX = 24 * 3600 * 1000

_garbage = schema.garbage
_blobs = schema.blobs
_repairs = schema.repairs
_events = schema.events
_extra = schema.extra_copies

_GARBAGE_COLUMNS = (
    _garbage.c.blob_id,
    _garbage.c.due_ms,
    _garbage.c.condemned,
    _garbage.c.stripes,
    _garbage.c.parts,
    _garbage.c.placement_id,
    _garbage.c.k,
    _garbage.c.m,
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
_SET_GARBAGE_DUE = Statement(
    sa.update(_garbage).values(due_ms=parameter("n_due")).where(_garbage.c.blob_id == parameter("p_id")),
    "n_due",
    "p_id",
)
_PARKED = Statement(
    page(sa.select(_garbage.c.blob_id).where(_garbage.c.due_ms == parameter("p_due"))), "p_due", "limit"
)
_PARKED_MS = 1 << 62  # plus the node's number: a time that never comes, and a place in the index by due
_COUNT_GARBAGE = Statement(sa.select(sa.func.count()).select_from(_garbage))
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
    _repairs.c.spare,
)
_REPAIR = Statement(sa.select(*_REPAIR_COLUMNS).where(_repairs.c.blob_id == parameter("p_id")), "p_id")
_LEAST_SPARE = Statement(
    sa.select(sa.func.min(_repairs.c.spare)).where(_repairs.c.spare > parameter("p_above")), "p_above"
)
_REPAIRS_DUE = Statement(
    page(
        sa.select(*_REPAIR_COLUMNS)
        .where(_repairs.c.spare == parameter("p_spare"), _repairs.c.due_ms <= parameter("p_now"))
        .order_by(_repairs.c.due_ms)
    ),
    "p_spare",
    "p_now",
    "limit",
)
_REPAIRS_AHEAD = Statement(
    page(
        sa.select(*_REPAIR_COLUMNS)
        .where(_repairs.c.spare == parameter("p_spare"), _repairs.c.due_ms > parameter("p_latest"))
        .order_by(_repairs.c.due_ms)
    ),
    "p_spare",
    "p_latest",
    "limit",
)
_COUNT_REPAIRS = Statement(sa.select(sa.func.count()).select_from(_repairs))
_REPAIRABLE = Statement(
    sa.select(*blobs.ROW_COLUMNS).where(
        _blobs.c.id == parameter("p_id"), _blobs.c.refs > constant("0"), _blobs.c.stripes > constant("0")
    ),
    "p_id",
)
_INSERT_REPAIR = Statement(
    sa.insert(_repairs), "blob_id", "reported_ms", "due_ms", "attempts", "faults", "spare"
)
_UPDATE_FAULTS = Statement(
    sa.update(_repairs)
    .values(faults=parameter("n_faults"), spare=parameter("n_spare"))
    .where(_repairs.c.blob_id == parameter("p_id")),
    "n_faults",
    "n_spare",
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
_COPY_NAMES = ("blob_id", "stripe", "shard", "node", "sequence")
_OF_COPY = tuple(_extra.c[name] == parameter(f"p_{name}") for name in _COPY_NAMES)
_P_COPY = tuple(f"p_{name}" for name in _COPY_NAMES)
_INSERT_EXTRA = Statement(
    sa.insert(_extra).from_select(
        [*_COPY_NAMES, "due_ms"],
        sa.select(
            *(sa.bindparam(name, type_=_extra.c[name].type) for name in (*_COPY_NAMES, "due_ms"))
        ).where(~sa.exists().where(*_OF_COPY)),
        include_defaults=False,
    ),
    *_COPY_NAMES,
    "due_ms",
    *_P_COPY,
)
_EXTRA_DUE = Statement(
    page(
        sa.select(*(_extra.c[name] for name in _COPY_NAMES))
        .where(
            _extra.c.due_ms <= parameter("p_now"),
            ~sa.exists().where(_repairs.c.blob_id == _extra.c.blob_id),
        )
        .order_by(_extra.c.due_ms)
    ),
    "p_now",
    "limit",
)
_POSTPONE_EXTRA = Statement(
    sa.update(_extra).values(due_ms=parameter("n_due")).where(*_OF_COPY), "n_due", *_P_COPY
)
_DELETE_EXTRA = Statement(sa.delete(_extra).where(*_OF_COPY), *_P_COPY)
_COUNT_EXTRA = Statement(sa.select(sa.func.count()).select_from(_extra))
_NEWEST_EVENT = Statement(sa.select(sa.func.max(_events.c.number)))
_INSERT_EVENT = Statement(sa.insert(_events), "number", "at_ms", "kind", "node", "detail")
_TRIM_EVENTS = Statement(sa.delete(_events).where(_events.c.number <= parameter("p_last")), "p_last")
_EVENTS_AFTER = sa.select(
    _events.c.number, _events.c.at_ms, _events.c.kind, _events.c.node, _events.c.detail
).where(_events.c.number > parameter("p_after"))
_LIST_EVENTS = Statement(page(_EVENTS_AFTER.order_by(_events.c.number)), "p_after", "limit")
_LATEST_EVENTS = Statement(page(_EVENTS_AFTER.order_by(_events.c.number.desc())), "p_after", "limit")
_faults_decoder = msgspec.msgpack.Decoder(list[FaultReport])


def abandon(tx: Transaction, blob: NewBlob) -> None:
    """Queue a blob that was never committed, due after the grace period. Does nothing when it is queued or
    when a row names it after all. Fronts call `Catalog.abandon`."""
    if tx.row(_GARBAGE, (blob.id,)) is not None or tx.row(_REFS, (blob.id,)) is not None:
        return
    placement = layouts.number_of(tx, blob.nodes)
    due_ms = tx.now_ms + tx.grace_ms
    tx.execute(blobs.INSERT_GARBAGE, (blob.id, due_ms, 0, placement, blob.stripes, 0, 0, blob.k, blob.m))
    layouts.add_runs(tx, blob.id, blob.runs)


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
    if row[4] and not _release_parts(tx, blob_id, row[8]):
        return False
    layouts.drop_runs(tx, blob_id)
    for statement in (_DELETE_BLOB, _DELETE_REPAIR, _UNQUEUE):
        tx.execute(statement, (blob_id,))
    return True


def park_garbage(tx: Transaction, blob_ids: Iterable[bytes], node: int) -> None:
    """Set condemned blobs aside until the node, which could not delete its blocks of them, is back. However many
    they become while it is away, they cost nothing there and hide nothing that is due."""
    for blob_id in blob_ids:
        tx.execute(_SET_GARBAGE_DUE, (_PARKED_MS + node, blob_id))


def unpark_garbage(tx: Transaction, node: int, *, limit: int) -> int:
    """Make blobs that were set aside for the node due again; how many."""
    rows = tx.rows(_PARKED, (_PARKED_MS + node, limit))
    for (blob_id,) in rows:
        tx.execute(_SET_GARBAGE_DUE, (tx.now_ms, blob_id))
    return len(rows)


def parked_garbage(reader: Reader, node: int) -> bool:
    """Whether blobs are set aside for the node."""
    return bool(reader.rows(_PARKED, (_PARKED_MS + node, 1)))


def garbage_count(reader: Reader) -> int:
    """How many blobs wait for their deletion, due or not."""
    return _count(reader, _COUNT_GARBAGE)


def _count(reader: Reader, statement: Statement) -> int:
    row = reader.row(statement)
    assert row is not None
    number: int = row[0]
    return number


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
    blob_id, due_ms, condemned, stripes, parts, placement_id, k, m = row[:8]
    return GarbageItem(
        blob_id,
        due_ms,
        bool(condemned),
        stripes,
        parts,
        layouts.nodes_of(reader, numbers, placement_id),
        layouts.runs_of(reader, numbers, blob_id) if stripes else (),
        k,
        m,
    )


def forget_completions(tx: Transaction, *, before_ms: int, limit: int) -> int:
    """Drop markers of uploads that were completed before; how many."""
    rows = tx.rows(_FORGET_COMPLETIONS, (before_ms, limit))
    for row in rows:
        tx.execute(_FORGET_COMPLETION, row)
    return len(rows)


def queue_extra(tx: Transaction, copies: Iterable[ExtraCopy]) -> None:
    """Queue copies that no layout names any more for deletion after the grace period, for readers that hold
    the old layout (S21). One that is queued stays due when it was."""
    due_ms = tx.now_ms + tx.grace_ms
    for copy in copies:
        values = _copy_values(copy)
        tx.execute(_INSERT_EXTRA, (*values, due_ms, *values))


def due_extra(reader: Reader, now_ms: int, limit: int) -> list[ExtraCopy]:
    """Copies to delete by their sequence (S20), longest due first. Those of a blob that waits for repair are
    left out: one of them may be what it is rebuilt from. So are all while the catalog may not delete what it
    does not know (S18): after a restore they may belong to a layout that it forgot."""
    if not read_meta(reader).orphans_allowed:
        return []
    return [ExtraCopy(*row) for row in reader.rows(_EXTRA_DUE, (now_ms, limit))]


def extra_done(tx: Transaction, copies: Iterable[ExtraCopy]) -> None:
    """The nodes hold these no more, durably."""
    for copy in copies:
        tx.execute(_DELETE_EXTRA, _copy_values(copy))


def postpone_extra(tx: Transaction, copies: Iterable[ExtraCopy], due_ms: int) -> None:
    """Try these again later: their node can't be reached."""
    for copy in copies:
        tx.execute(_POSTPONE_EXTRA, (due_ms, *_copy_values(copy)))


def extra_count(reader: Reader) -> int:
    """How many copies wait for their deletion, due or not."""
    return _count(reader, _COUNT_EXTRA)


def _copy_values(copy: ExtraCopy) -> tuple[bytes, int, int, int, int]:
    return copy.blob_id, copy.stripe, copy.shard, copy.node, copy.sequence


def report_faults(tx: Transaction, blob_id: bytes, faults: Sequence[FaultReport]) -> None:
    """Queue a blob for repair, or add to what is known of one that is queued: one row a blob, each fault
    once, a bounded number of them (a repair looks at the whole blob anyway). One of node 0 is about the whole
    blob, and kept in any case. Does nothing for a blob that is unknown or that nothing refers to any more."""
    blob_row = tx.row(_REPAIRABLE, (blob_id,))
    if blob_row is None:
        return
    row = tx.row(_REPAIR, (blob_id,))
    known = _faults_decoder.decode(row[4]) if row else []
    of_blob = (fault for fault in faults if not fault.node)
    merged = list(dict.fromkeys([*of_blob, *known, *faults]))[:_FAULTS_PER_BLOB_MAX]
    # Of all that is told, also what is not kept.
    spare = redundancy.spare(blobs.laid_out(tx, tx.placements, blob_row), [*known, *faults])
    if row is not None:
        spare = min(spare, row[5])
    packed = msgspec.msgpack.encode(merged)
    if row is None:
        tx.execute(_INSERT_REPAIR, (blob_id, tx.now_ms, tx.now_ms, 0, packed, spare))
    elif merged != known or spare != row[5]:
        tx.execute(_UPDATE_FAULTS, (packed, spare, blob_id))


def due_repairs(
    reader: Reader, now_ms: int, limit: int, *, wait_ms_max: int = _REPAIR_WAIT_MS_MAX
) -> list[RepairItem]:
    """Blobs to repair: in the greatest danger first (least `spare`), among those the longest due. One that
    would have to wait for longer than `wait_ms_max` was put off by a clock that was wrong, and is due too."""
    items: list[RepairItem] = []
    least = reader.row(_LEAST_SPARE, (_BELOW_ANY_SPARE,))
    # The few values of `spare` one by one: the postponed of one value don't slow down what follows.
    while least is not None and least[0] is not None and len(items) < limit:
        for which, than_ms in ((_REPAIRS_DUE, now_ms), (_REPAIRS_AHEAD, now_ms + wait_ms_max)):
            rows = reader.rows(which, (least[0], than_ms, limit - len(items)))
            items += [_repair_item(row) for row in rows]
        least = reader.row(_LEAST_SPARE, (least[0],))
    return items


def _repair_item(row: Row) -> RepairItem:
    return RepairItem(row[0], row[1], row[2], row[3], tuple(_faults_decoder.decode(row[4])), row[5])


def repair_count(reader: Reader) -> int:
    """How many blobs wait for repair, due or not."""
    return _count(reader, _COUNT_REPAIRS)


def postpone_repair(tx: Transaction, blob_id: bytes, due_ms: int) -> None:
    """Count an attempt that failed and try again later."""
    tx.execute(_POSTPONE_REPAIR, (due_ms, blob_id))


def repaired(tx: Transaction, blob_id: bytes, looked_at: Iterable[FaultReport] | None = None) -> None:
    """The blob is whole, or gone. `looked_at`: the faults that the repair knew of; a row with others, reported
    while it went on, stays as it is, for the repair may have passed that place before. None: all."""
    if looked_at is not None:
        row = tx.row(_REPAIR, (blob_id,))
        if row is None or not set(_faults_decoder.decode(row[4])).issubset(looked_at):
            return
    tx.execute(_DELETE_REPAIR, (blob_id,))


def record_event(tx: Transaction, kind: str, *, node: int | None = None, detail: str = "") -> None:
    """Note that something happened; the last 10,000 events are kept. Numbers rise in the order of commits: a reader
    that goes on from the last one it has seen misses none."""
    # Not by a counter of the database: of two that drew numbers the second may commit first.
    row = tx.row(_NEWEST_EVENT)
    assert row is not None
    number = (row[0] or 0) + 1
    tx.execute(_INSERT_EVENT, (number, tx.now_ms, kind, node, detail))
    tx.execute(_TRIM_EVENTS, (number - _EVENTS_KEPT,))


def list_events(
    reader: Reader, *, after: int = 0, limit: int = 1000, newest_first: bool = False
) -> list[Event]:
    """Events with numbers above `after`, in order or newest first."""
    which = _LATEST_EVENTS if newest_first else _LIST_EVENTS
    return [Event(*row) for row in reader.rows(which, (after, limit))]
