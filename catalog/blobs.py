"""Blob rows and their counted references (S14). Everything that names a blob holds one reference:
an object or version, a part row of an open upload, each entry of a composite blob's manifest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
import sqlalchemy as sa

from catalog import layouts, schema, statement
from catalog.errors import BlobAbandoned, Changed, HorizonPassed
from catalog.model import BlobRow, NewBlob, PartRef, Run
from catalog.statement import Reader, Row, Statement, constant, parameter
from catalog.transaction import PlacementNumbers, Transaction

_blobs = schema.blobs
_garbage = schema.garbage

_INSERT_NAMES = (
    "id size refs condemned placement_id stripes k m codec stripe_bytes runs parts transform"
    " stored_stripe_bytes seal"
).split()
_INSERT = Statement(
    sa.insert(_blobs).from_select(
        _INSERT_NAMES,
        sa.select(*(sa.bindparam(name, type_=_blobs.c[name].type) for name in _INSERT_NAMES)).where(
            ~sa.exists().where(_garbage.c.blob_id == parameter("p_id"))
        ),
        include_defaults=False,
    ),
    *_INSERT_NAMES,
    "p_id",
)
_INSERT_MANIFEST = Statement(sa.insert(schema.manifests), "blob_id", "parts")
_ADD_REFERENCE = Statement(
    sa.update(_blobs)
    .values(refs=_blobs.c.refs + constant("1"))
    .where(_blobs.c.id == parameter("p_id"), _blobs.c.condemned == constant("0")),
    "p_id",
)
_DROP_REFERENCE = Statement(
    sa.update(_blobs)
    .values(refs=_blobs.c.refs - constant("1"))
    .where(_blobs.c.id == parameter("p_id"))
    .returning(
        _blobs.c.refs, _blobs.c.placement_id, _blobs.c.stripes, _blobs.c.parts, _blobs.c.k, _blobs.c.m
    ),
    "p_id",
)
INSERT_GARBAGE = Statement(
    sa.insert(_garbage),
    "blob_id",
    "due_ms",
    "condemned",
    "placement_id",
    "stripes",
    "parts",
    "released",
    "k",
    "m",
)

ROW_COLUMNS = (
    _blobs.c.id,
    _blobs.c.size,
    _blobs.c.k,
    _blobs.c.m,
    _blobs.c.stripe_bytes,
    _blobs.c.codec,
    _blobs.c.transform,
    _blobs.c.placement_id,
    _blobs.c.runs,
    _blobs.c.parts,
    _blobs.c.seal,
)
"""What `row_of` takes, in this order."""

BY_ID = Statement(sa.select(*ROW_COLUMNS).where(_blobs.c.id == parameter("p_id")), "p_id")
IDS_PER_BATCH = 32
"""Ids that one statement takes."""
_ID_NAMES = tuple(f"p_id_{number}" for number in range(IDS_PER_BATCH))
BY_IDS = Statement(
    sa.select(*ROW_COLUMNS).where(_blobs.c.id.in_([parameter(name) for name in _ID_NAMES])), *_ID_NAMES
)
_PAGE = Statement(
    statement.page(
        sa.select(*ROW_COLUMNS)
        .where(
            _blobs.c.id > parameter("p_after"),
            _blobs.c.stripes > constant("0"),
            _blobs.c.refs > constant("0"),
        )
        .order_by(_blobs.c.id)
    ),
    "p_after",
    "limit",
)
MANIFEST = Statement(
    sa.select(schema.manifests.c.parts).where(schema.manifests.c.blob_id == parameter("p_id")), "p_id"
)

_manifest_encoder = msgspec.msgpack.Encoder()
_manifest_decoder = msgspec.msgpack.Decoder(tuple[PartRef, ...])


def pack_manifest(parts: tuple[PartRef, ...]) -> bytes:
    """A manifest as stored."""
    return _manifest_encoder.encode(parts)


def unpack_manifest(packed: bytes) -> tuple[PartRef, ...]:
    """The inverse of `pack_manifest`."""
    return _manifest_decoder.decode(packed)


def add(tx: Transaction, blob: NewBlob) -> None:
    """Insert a blob with one reference. Raises HorizonPassed (S19), HolderRemoved, BlobAbandoned."""
    if blob.epoch <= tx.meta.collect_horizon:
        raise HorizonPassed(f"blob epoch {blob.epoch} is not after the horizon")
    if tx.removed_nodes:
        layouts.refuse_removed(tx, layouts.named(blob.nodes, blob.runs))
    inserted = tx.execute(
        _INSERT,
        (
            blob.id,
            blob.size,
            1,
            0,
            layouts.number_of(tx, blob.nodes),
            blob.stripes,
            blob.k,
            blob.m,
            blob.codec,
            blob.stripe_bytes,
            len(blob.runs),
            0,
            blob.transform,
            blob.stored_stripe_bytes,
            blob.seal,
            blob.id,
        ),
    )
    if inserted != 1:
        raise BlobAbandoned(f"blob {blob.id.hex()} is queued for deletion")
    if blob.runs:
        layouts.add_runs(tx, blob.id, blob.runs)


def add_composite(tx: Transaction, size: int, parts: int, manifest: bytes) -> bytes:
    """Insert a composite blob with one reference; it takes over the part rows' references. Its id."""
    # The counter's last value is never reached by a front, so that these ids cannot meet theirs.
    blob_id = tx.meta.upload_epoch.to_bytes(4, "big") + b"\xff\xff\xff\xff" + tx.random(8)
    tx.execute(_INSERT, (blob_id, size, 1, 0, 0, 0, 0, 0, 0, 0, 0, parts, 0, 0, None, blob_id))
    tx.execute(_INSERT_MANIFEST, (blob_id, manifest))
    return blob_id


def add_reference(tx: Transaction, blob_id: bytes) -> None:
    """One more reference, for a caller that has just read, in this transaction, the row that named the blob
    (S14). Raises Changed if the blob is condemned or gone all the same."""
    if tx.execute(_ADD_REFERENCE, (blob_id,)) != 1:
        raise Changed(f"blob {blob_id.hex()} is being deleted")


def release(tx: Transaction, blob_id: bytes) -> None:
    """Drop one reference; with the last one the blob is queued as garbage, due after the grace period, so
    that readers of the old row finish undisturbed (S21)."""
    row = tx.row(_DROP_REFERENCE, (blob_id,))
    assert row is not None, f"blob {blob_id.hex()} is referenced and missing"
    refs, placement_id, stripes, parts, k, m = row
    assert refs >= 0, f"blob {blob_id.hex()} was released more often than referenced"
    if refs == 0:
        due_ms = tx.now_ms + tx.grace_ms
        tx.execute(INSERT_GARBAGE, (blob_id, due_ms, 0, placement_id, stripes, parts, 0, k, m))


def by_ids(reader: Reader, numbers: PlacementNumbers, blob_ids: Iterable[bytes]) -> dict[bytes, BlobRow]:
    """Those of the blobs that exist, a statement for every IDS_PER_BATCH. Composite ones come without their manifest.
    For `Catalog.read`; give `Catalog.placements` as `numbers`."""
    rows = (row for batch in batches(blob_ids) for row in reader.rows(BY_IDS, batch))
    return {row[0]: laid_out(reader, numbers, row) for row in rows}


def batches(blob_ids: Iterable[bytes]) -> Iterator[list[bytes]]:
    """The ids as parameters of BY_IDS."""
    waiting = list(blob_ids)
    for at in range(0, len(waiting), IDS_PER_BATCH):
        batch = waiting[at : at + IDS_PER_BATCH]
        yield batch + batch[-1:] * (IDS_PER_BATCH - len(batch))


def page(reader: Reader, numbers: PlacementNumbers, *, after: bytes, limit: int) -> list[BlobRow]:
    """Blobs that have stripes (so no composite ones) and are referenced, with all their runs, ascending by id
    from `after` on (exclusive). For `Catalog.read`; give `Catalog.placements` as `numbers`."""
    return [laid_out(reader, numbers, row) for row in reader.rows(_PAGE, (after, limit))]


def laid_out(reader: Reader, numbers: PlacementNumbers, row: Row) -> BlobRow:
    """A row of ROW_COLUMNS with its layout, without its manifest."""
    runs = layouts.runs_of(reader, numbers, row[0]) if row[8] else ()
    return row_of(row, layouts.nodes_of(reader, numbers, row[7]), runs=runs)


def row_of(
    row: Row,
    nodes: tuple[int, ...],
    manifest: tuple[PartRef, ...] | None = None,
    runs: tuple[Run, ...] = (),
) -> BlobRow:
    """A row of ROW_COLUMNS as the value that leaves the package."""
    return BlobRow(row[0], row[1], row[2], row[3], row[4], row[5], row[6], nodes, manifest, runs, row[10])
