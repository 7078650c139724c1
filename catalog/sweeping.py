"""Clearing up behind closed uploads and deleted buckets, in slices, so that completing, aborting and deleting
stay O(1) (P9)."""

from __future__ import annotations

from typing import Literal

import msgspec
import sqlalchemy as sa

from catalog import blobs, schema
from catalog.statement import Reader, Statement, page, parameter
from catalog.transaction import Transaction

_SLICE = 32

_sweeps = schema.sweeps
_parts = schema.parts
_uploads = schema.uploads

_INSERT = Statement(sa.insert(_sweeps).returning(_sweeps.c.id), "kind", "subject", "unused")
_BY_ID = Statement(
    sa.select(_sweeps.c.kind, _sweeps.c.subject, _sweeps.c.unused).where(_sweeps.c.id == parameter("p_id")),
    "p_id",
)
_DELETE = Statement(sa.delete(_sweeps).where(_sweeps.c.id == parameter("p_id")), "p_id")
_LIST = Statement(page(sa.select(_sweeps.c.id).order_by(_sweeps.c.id)), "limit")
_PARTS = Statement(
    page(
        sa.select(_parts.c.number, _parts.c.blob_id)
        .where(_parts.c.upload_number == parameter("p_upload"))
        .order_by(_parts.c.number)
    ),
    "p_upload",
    "limit",
)
_DELETE_PARTS = Statement(
    sa.delete(_parts).where(
        _parts.c.upload_number == parameter("p_upload"), _parts.c.number <= parameter("p_number")
    ),
    "p_upload",
    "p_number",
)
_UPLOADS_OF_BUCKET = Statement(
    page(sa.select(_uploads.c.number).where(_uploads.c.bucket_id == parameter("p_bucket"))),
    "p_bucket",
    "limit",
)
_DELETE_UPLOAD = Statement(sa.delete(_uploads).where(_uploads.c.number == parameter("p_number")), "p_number")


def begin_sweep(
    tx: Transaction, kind: Literal["upload", "bucket"], subject: int, unused: tuple[int, ...] | None = None
) -> None:
    """Note what is to be cleared, and clear the first slice at once: an ordinary upload is then done. Of an
    upload, `unused` are the part numbers whose blobs are released (None: all); the other parts' references
    have passed to the composite blob."""
    packed = None if unused is None else msgspec.msgpack.encode(unused)
    row = tx.row(_INSERT, (kind, subject, packed))
    assert row is not None
    sweep(tx, row[0], limit=_SLICE)


def due_sweeps(reader: Reader, limit: int) -> list[int]:
    """Sweeps that wait, oldest first."""
    return [row[0] for row in reader.rows(_LIST, (limit,))]


def sweep(tx: Transaction, sweep_id: int, limit: int) -> bool:
    """Clear up to `limit` parts or uploads; whether the sweep is done."""
    row = tx.row(_BY_ID, (sweep_id,))
    if row is None:
        return True
    kind, subject, packed = row
    done = (
        _sweep_upload(tx, subject, packed, limit) if kind == "upload" else _sweep_bucket(tx, subject, limit)
    )
    if done:
        tx.execute(_DELETE, (sweep_id,))
    return done


def _sweep_upload(tx: Transaction, upload_number: int, packed: bytes | None, limit: int) -> bool:
    unused = None if packed is None else set(msgspec.msgpack.decode(packed, type=list[int]))
    rows = tx.rows(_PARTS, (upload_number, limit))
    for number, blob_id in rows:
        if unused is None or number in unused:
            blobs.release(tx, blob_id)
    if rows:
        tx.execute(_DELETE_PARTS, (upload_number, rows[-1][0]))
    return len(rows) < limit


def _sweep_bucket(tx: Transaction, bucket_id: int, limit: int) -> bool:
    rows = tx.rows(_UPLOADS_OF_BUCKET, (bucket_id, limit))
    for (number,) in rows:
        tx.execute(_DELETE_UPLOAD, (number,))
        tx.row(_INSERT, ("upload", number, None))
    return len(rows) < limit
