"""Blob rows and their counted references (S14). Everything that names a blob holds one reference:
an object or version, a part row of an open upload, each entry of a composite blob's manifest."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from catalog import placements, schema
from catalog.errors import BlobAbandoned, Changed, HorizonPassed
from catalog.model import BlobRow, NewBlob, PartRef, Run
from catalog.statement import Reader, Row, Statement, constant, parameter
from catalog.transaction import PlacementNumbers, Transaction

_blobs = schema.blobs
_garbage = schema.garbage

_INSERT_NAMES = (
    "id size refs condemned placement_id stripes k m codec stripe_bytes runs parts transform"
    " stored_stripe_bytes"
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
_INSERT_RUN = Statement(sa.insert(schema.blob_runs), "blob_id", "first_stripe", "placement_id")
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
    .returning(_blobs.c.refs, _blobs.c.placement_id, _blobs.c.stripes, _blobs.c.parts),
    "p_id",
)
INSERT_GARBAGE = Statement(
    sa.insert(_garbage), "blob_id", "due_ms", "condemned", "placement_id", "stripes", "parts", "released"
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
)
"""What `row_of` takes, in this order."""

BY_ID = Statement(sa.select(*ROW_COLUMNS).where(_blobs.c.id == parameter("p_id")), "p_id")
MANIFEST = Statement(
    sa.select(schema.manifests.c.parts).where(schema.manifests.c.blob_id == parameter("p_id")), "p_id"
)
_RUNS = Statement(
    sa.select(schema.blob_runs.c.first_stripe, schema.blob_runs.c.placement_id)
    .where(schema.blob_runs.c.blob_id == parameter("p_id"))
    .order_by(schema.blob_runs.c.first_stripe),
    "p_id",
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
    """Insert a blob with one reference. Raises HorizonPassed (S19), BlobAbandoned."""
    if blob.epoch <= tx.meta.collect_horizon:
        raise HorizonPassed(f"blob epoch {blob.epoch} is not after the horizon")
    inserted = tx.execute(
        _INSERT,
        (
            blob.id,
            blob.size,
            1,
            0,
            placements.number_of(tx, blob.nodes),
            blob.stripes,
            blob.k,
            blob.m,
            blob.codec,
            blob.stripe_bytes,
            len(blob.runs),
            0,
            blob.transform,
            blob.stored_stripe_bytes,
            blob.id,
        ),
    )
    if inserted != 1:
        raise BlobAbandoned(f"blob {blob.id.hex()} is queued for deletion")
    if blob.runs:
        add_runs(tx, blob)


def add_runs(tx: Transaction, blob: NewBlob) -> None:
    """The runs after the first (S9)."""
    for run in blob.runs:
        tx.execute(_INSERT_RUN, (blob.id, run.first_stripe, placements.number_of(tx, run.nodes)))


def add_composite(tx: Transaction, size: int, parts: int, manifest: bytes) -> bytes:
    """Insert a composite blob with one reference; it takes over the part rows' references. Its id."""
    # The counter's last value is never reached by a front, so that these ids cannot meet theirs.
    blob_id = tx.meta.upload_epoch.to_bytes(4, "big") + b"\xff\xff\xff\xff" + tx.random(8)
    tx.execute(_INSERT, (blob_id, size, 1, 0, 0, 0, 0, 0, 0, 0, 0, parts, 0, 0, blob_id))
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
    refs, placement_id, stripes, parts = row
    assert refs >= 0, f"blob {blob_id.hex()} was released more often than referenced"
    if refs == 0:
        tx.execute(INSERT_GARBAGE, (blob_id, tx.now_ms + tx.grace_ms, 0, placement_id, stripes, parts, 0))


def runs_of(reader: Reader, numbers: PlacementNumbers, blob_id: bytes) -> tuple[Run, ...]:
    """The runs after the first (S9)."""
    rows = reader.rows(_RUNS, (blob_id,))
    return tuple(Run(first, placements.nodes_of(reader, numbers, number)) for first, number in rows)


def row_of(
    row: Row,
    nodes: tuple[int, ...],
    manifest: tuple[PartRef, ...] | None = None,
    runs: tuple[Run, ...] = (),
) -> BlobRow:
    """A row of ROW_COLUMNS as the value that leaves the package."""
    return BlobRow(row[0], row[1], row[2], row[3], row[4], row[5], row[6], nodes, manifest, runs)
