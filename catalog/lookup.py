"""Reading versions: one statement on the loop's own connection in the usual case (P9)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from catalog import blobs, buckets, schema
from catalog.attributes import unpack_attributes
from catalog.model import BlobRow, Bucket, MarkerRow, ObjectRow
from catalog.statement import Row, Statement, constant, parameter
from catalog.versions import NULL_VERSION

if TYPE_CHECKING:
    from catalog.engine import Catalog

_objects = schema.objects
_versions = schema.versions

_LOOKUP = Statement(
    sa.select(
        *blobs.ROW_COLUMNS,
        _objects.c.sequence,
        _objects.c.size,
        _objects.c.modified_ms,
        _objects.c.etag,
        _objects.c.version_id,
        _objects.c.content_type,
        _objects.c.attributes,
        sa.select(schema.meta.c.config_generation).scalar_subquery(),
    )
    .join_from(_objects, schema.blobs, schema.blobs.c.id == _objects.c.blob_id)
    .where(_objects.c.bucket_id == parameter("p_bucket"), _objects.c.key == parameter("p_key")),
    "p_bucket",
    "p_key",
)


def _facts(table: sa.Table) -> tuple[sa.Column[Any], ...]:
    c = table.c
    return (c.sequence, c.size, c.modified_ms, c.etag, c.version_id, c.content_type, c.attributes)


def _version(*, by_id: bool) -> Statement:
    """One version wherever it lies, in one statement: between two it could move from one table to the other."""

    def this(table: sa.Table, name: str) -> tuple[sa.ColumnElement[bool], ...]:
        c = table.c
        which = c.version_id == parameter(f"{name}_id") if by_id else c.version_id.is_(None)
        return c.bucket_id == parameter(f"{name}_bucket"), c.key == parameter(f"{name}_key"), which

    newest = (
        sa.select(*blobs.ROW_COLUMNS, *_facts(_objects), constant("0"))
        .join_from(_objects, schema.blobs, schema.blobs.c.id == _objects.c.blob_id)
        .where(*this(_objects, "o"))
    )
    older = (
        sa.select(*blobs.ROW_COLUMNS, *_facts(_versions), _versions.c.delete_marker)
        .join_from(_versions, schema.blobs, schema.blobs.c.id == _versions.c.blob_id, isouter=True)
        .where(*this(_versions, "v"))
    )
    names = ("bucket", "key", "id") if by_id else ("bucket", "key")
    return Statement(
        sa.union_all(newest, older), *(f"o_{name}" for name in names), *(f"v_{name}" for name in names)
    )


_VERSION_BY_ID = _version(by_id=True)
_NULL = _version(by_id=False)
_NEWEST_OLDER = Statement(
    sa.select(
        _versions.c.version_id, _versions.c.sequence, _versions.c.modified_ms, _versions.c.delete_marker
    )
    .where(_versions.c.bucket_id == parameter("p_bucket"), _versions.c.key == parameter("p_key"))
    .order_by(_versions.c.sequence.desc())
    .limit(constant("1"))
    .offset(constant("0")),
    "p_bucket",
    "p_key",
)


async def find(catalog: Catalog, name: str, key: bytes) -> tuple[Bucket | None, ObjectRow | None]:
    """Bucket and current version at once, each None when it is missing; both as of the same moment (P4).

    A cached bucket is proved by the config generation that the statement reads beside the object (S16), which saves
    the proof of its own that `buckets.get` costs.
    """
    known = catalog.known_configuration
    bucket = known.buckets.get(name)
    if bucket is not None:
        rows = await catalog.point(_LOOKUP, (bucket.id, key))
        if rows and rows[0][18] == known.meta.config_generation:
            blob = await _blob(catalog, rows[0])
            if blob is not None:
                return bucket, _object(key, rows[0], blob)
    bucket = await buckets.get(catalog, name)
    return bucket, None if bucket is None else await lookup(catalog, bucket.id, key)


async def lookup(catalog: Catalog, bucket_id: int, key: bytes) -> ObjectRow | None:
    """The current version, or None. One statement on the loop's own connection; a multipart object and a
    blob of several runs take one more."""
    while True:
        found = await catalog.point(_LOOKUP, (bucket_id, key))
        if not found:
            return None
        blob = await _blob(catalog, found[0])
        if blob is not None:
            return _object(key, found[0], blob)
        # The object was replaced and collected between two statements: look again.


async def lookup_version(
    catalog: Catalog, bucket_id: int, key: bytes, version_id: str
) -> ObjectRow | MarkerRow | None:
    """The version of that id, current or older; "null" names the one without an id. None when there is none."""
    one = (bucket_id, key) if version_id == NULL_VERSION else (bucket_id, key, version_id)
    statement = _NULL if version_id == NULL_VERSION else _VERSION_BY_ID
    while True:
        found = await catalog.point(statement, (*one, *one))
        if not found:
            return None
        row = found[0]
        if row[18]:
            return MarkerRow(key, row[15], row[11], row[13])
        blob = await _blob(catalog, row)
        if blob is not None:
            return _object(key, row, blob)
        # The version was deleted and collected between two statements: look again.


async def latest_marker(catalog: Catalog, bucket_id: int, key: bytes) -> MarkerRow | None:
    """The delete marker that hides a key without a current version, if it is one that does."""
    found = await catalog.point(_NEWEST_OLDER, (bucket_id, key))
    if not found or not found[0][3]:
        return None
    version_id, sequence, modified_ms, _ = found[0]
    return MarkerRow(key, version_id, sequence, modified_ms)


def _object(key: bytes, row: Row, blob: BlobRow) -> ObjectRow:
    return ObjectRow(
        key, row[15], row[11], row[12], row[14], row[13], row[16], unpack_attributes(row[17]), blob
    )


async def blob(catalog: Catalog, blob_id: bytes) -> BlobRow | None:
    """A blob as it lies now, e.g. for a reader that missed a block (S21); None when it is gone."""
    found = await catalog.point(blobs.BY_ID, (blob_id,))
    return await _blob(catalog, found[0]) if found else None


async def blobs_by_id(catalog: Catalog, blob_ids: Iterable[bytes]) -> dict[bytes, BlobRow]:
    """Those of the blobs that exist, without manifests. Up to some tens, e.g. parts of a manifest, are one
    statement on the loop; more are read in a thread."""
    wanted = list(blob_ids)
    if len(wanted) > blobs.IDS_PER_BATCH:
        return await catalog.read(lambda reader: blobs.by_ids(reader, catalog.placements, wanted))
    found: dict[bytes, BlobRow] = {}
    for batch in blobs.batches(wanted):
        for row in await catalog.point(blobs.BY_IDS, batch):
            blob = await _laid_out(catalog, row)
            if blob is not None:
                found[blob.id] = blob
    return found


async def _blob(catalog: Catalog, row: Row) -> BlobRow | None:
    if row[9] == 0:
        return await _laid_out(catalog, row)
    manifest = await catalog.manifest(row[0])
    return None if manifest is None else blobs.row_of(row, (), manifest)


async def _laid_out(catalog: Catalog, row: Row) -> BlobRow | None:
    """The row's blob with its layout. With several runs all of it is read again as of one moment, lest a move
    between two statements give the first run of one layout and the rest of another; None if it is gone."""
    if row[8]:
        blob_id, numbers = row[0], catalog.placements
        again = await catalog.read(lambda reader: blobs.by_ids(reader, numbers, [blob_id]))
        return again.get(blob_id)
    nodes = catalog.placements.nodes_by_number.get(row[7])
    if nodes is None:
        nodes = await catalog.placement(row[7])
    return blobs.row_of(row, nodes)
