"""Objects and blobs as an operator looks at them: the versions of a key, and what uses a blob.

No index leads from a blob to what names it: that would cost every write, for a question that is rare. So all
rows that may name one are read, in slices; `Search` says how far it is and ends once every reference is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from catalog import blobs, schema
from catalog.attributes import unpack_attributes
from catalog.model import Attributes, PartRef
from catalog.statement import Parameters, Reader, Row, Statement, constant, page, parameter

SLICE_ROWS = 5000
"""Rows of one slice: a few milliseconds of a read thread."""
_SLICE_MANIFESTS = 16  # a manifest may be a megabyte

_objects = schema.objects
_versions = schema.versions
_manifests = schema.manifests
_parts = schema.parts
_uploads = schema.uploads
_blobs = schema.blobs

_FACTS = "version_id sequence size modified_ms etag content_type attributes blob_id".split()
_CURRENT = Statement(
    sa.select(*(_objects.c[name] for name in _FACTS), constant("0")).where(
        _objects.c.bucket_id == parameter("p_bucket"), _objects.c.key == parameter("p_key")
    ),
    "p_bucket",
    "p_key",
)
_OLDER = Statement(
    page(
        sa.select(*(_versions.c[name] for name in _FACTS), _versions.c.delete_marker)
        .where(_versions.c.bucket_id == parameter("p_bucket"), _versions.c.key == parameter("p_key"))
        .order_by(_versions.c.sequence.desc())
    ),
    "p_bucket",
    "p_key",
    "limit",
)
_ONE_OLDER = Statement(
    sa.select(*(_versions.c[name] for name in _FACTS), _versions.c.delete_marker).where(
        _versions.c.bucket_id == parameter("p_bucket"),
        _versions.c.key == parameter("p_key"),
        sa.func.coalesce(_versions.c.version_id, constant("'null'")) == parameter("p_version"),
    ),
    "p_bucket",
    "p_key",
    "p_version",
)
_OBJECTS_AFTER = Statement(
    page(
        sa.select(_objects.c.bucket_id, _objects.c.key, _objects.c.blob_id, _objects.c.version_id)
        .where(
            sa.tuple_(_objects.c.bucket_id, _objects.c.key)
            > sa.tuple_(parameter("p_bucket"), parameter("p_key"))
        )
        .order_by(_objects.c.bucket_id, _objects.c.key)
    ),
    "p_bucket",
    "p_key",
    "limit",
)
_VERSIONS_AFTER = Statement(
    page(
        sa.select(
            _versions.c.bucket_id,
            _versions.c.key,
            _versions.c.blob_id,
            _versions.c.version_id,
            _versions.c.sequence,
        )
        .where(
            sa.tuple_(_versions.c.bucket_id, _versions.c.key, _versions.c.sequence)
            > sa.tuple_(parameter("p_bucket"), parameter("p_key"), parameter("p_sequence"))
        )
        .order_by(_versions.c.bucket_id, _versions.c.key, _versions.c.sequence)
    ),
    "p_bucket",
    "p_key",
    "p_sequence",
    "limit",
)
_MANIFESTS_AFTER = Statement(
    page(
        sa.select(_manifests.c.blob_id, _manifests.c.parts)
        .where(_manifests.c.blob_id > parameter("p_id"))
        .order_by(_manifests.c.blob_id)
    ),
    "p_id",
    "limit",
)
_PARTS_AFTER = Statement(
    page(
        sa.select(
            _parts.c.upload_number,
            _parts.c.number,
            _parts.c.blob_id,
            _uploads.c.bucket_id,
            _uploads.c.key,
            _uploads.c.upload_id,
        )
        .join_from(_parts, _uploads, _uploads.c.number == _parts.c.upload_number, isouter=True)
        .where(
            sa.tuple_(_parts.c.upload_number, _parts.c.number)
            > sa.tuple_(parameter("p_upload"), parameter("p_number"))
        )
        .order_by(_parts.c.upload_number, _parts.c.number)
    ),
    "p_upload",
    "p_number",
    "limit",
)
_REFERENCES = Statement(
    sa.select(_blobs.c.refs, _blobs.c.parts).where(_blobs.c.id == parameter("p_id")), "p_id"
)
_BUCKET_NAME = Statement(
    sa.select(schema.buckets.c.name).where(schema.buckets.c.id == parameter("p_id")), "p_id"
)
_GARBAGE = Statement(
    sa.select(constant("1")).select_from(schema.garbage).where(schema.garbage.c.blob_id == parameter("p_id")),
    "p_id",
)
_STORED = Statement(
    sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(_blobs.c.size), constant("0"))).where(
        _blobs.c.refs > constant("0"), _blobs.c.stripes > constant("0")
    )
)


def _held_in(table: sa.Table) -> Statement:
    amount = sa.func.coalesce(sa.func.sum(table.c.size), constant("0"))
    return Statement(
        sa.select(sa.func.count(), amount).where(table.c.bucket_id == parameter("p_bucket")), "p_bucket"
    )


_HELD_CURRENT = _held_in(_objects)
_HELD_OLDER = _held_in(_versions)


class VersionRow(Struct, frozen=True):
    """A version of a key, or a delete marker, which has no blob. `version_id` is None where the bucket had no
    versioning when it was written."""

    version_id: str | None
    sequence: int
    size: int
    modified_ms: int
    etag: str
    content_type: str
    attributes: Attributes
    blob_id: bytes | None
    delete_marker: bool
    current: bool


def versions_of(reader: Reader, bucket_id: int, key: bytes, *, limit: int) -> list[VersionRow]:
    """The newest versions of a key, newest first; none when there is no such key."""
    current = reader.rows(_CURRENT, (bucket_id, key))
    older = reader.rows(_OLDER, (bucket_id, key, limit - len(current)))
    # A delete marker is the newest of its key, and then no row is current.
    rows = [_version(row, current=True) for row in current] + [_version(row, current=False) for row in older]
    return sorted(rows, key=lambda row: row.sequence, reverse=True)


def version_of(reader: Reader, bucket_id: int, key: bytes, version_id: str) -> VersionRow | None:
    """One version by its id, `null` for the one without."""
    for row in reader.rows(_CURRENT, (bucket_id, key)):
        if (row[0] or "null") == version_id:
            return _version(row, current=True)
    rows = reader.rows(_ONE_OLDER, (bucket_id, key, version_id))
    return _version(rows[0], current=False) if rows else None


def _version(row: Row, *, current: bool) -> VersionRow:
    version_id, sequence, size, modified_ms, etag, content_type, packed, blob_id, marker = row
    attributes = unpack_attributes(packed)
    return VersionRow(
        *(version_id, sequence, size, modified_ms, etag, content_type, attributes),
        blob_id=blob_id,
        delete_marker=bool(marker),
        current=current,
    )


def manifest_of(reader: Reader, blob_id: bytes) -> tuple[PartRef, ...] | None:
    """The parts of a composite blob; None for any other."""
    row = reader.row(blobs.MANIFEST, (blob_id,))
    return None if row is None else blobs.unpack_manifest(row[0])


def references(reader: Reader, blob_id: bytes) -> int:
    """How many rows name the blob; 0 as well when it is not known at all."""
    row = reader.row(_REFERENCES, (blob_id,))
    return 0 if row is None else int(row[0])


def is_garbage(reader: Reader, blob_id: bytes) -> bool:
    """Whether the blob waits to be deleted from the nodes."""
    return reader.row(_GARBAGE, (blob_id,)) is not None


def stored(reader: Reader, bucket_id: int | None = None) -> tuple[int, int]:
    """How many blobs there are with bytes on the nodes, and those bytes; of a bucket how many versions, and their
    bytes. Takes time in proportion to their number."""
    if bucket_id is None:
        return _sum(reader, _STORED, ())
    current, older = (_sum(reader, which, (bucket_id,)) for which in (_HELD_CURRENT, _HELD_OLDER))
    return current[0] + older[0], current[1] + older[1]


def _sum(reader: Reader, statement: Statement, parameters: Parameters) -> tuple[int, int]:
    row = reader.row(statement, parameters)
    assert row is not None
    return row[0], row[1]


Place = tuple[bytes, int]
"""A key and a sequence within it: where a walk over a bucket goes on."""


def blobs_of_bucket(
    reader: Reader, bucket_id: int, after: Place | None, *, older: bool, limit: int
) -> tuple[list[bytes], Place | None]:
    """Ids of the blobs of the next current (or `older`) versions, and where to go on; None: that was all."""
    key, sequence = after or (b"", 0)
    if older:
        rows = reader.rows(_VERSIONS_AFTER, (bucket_id, key, sequence, limit))
    else:
        rows = reader.rows(_OBJECTS_AFTER, (bucket_id, key, limit))
    own = [row for row in rows if row[0] == bucket_id]
    more = len(own) == limit
    place = (own[-1][1], own[-1][4] if older else 0) if more else None
    return [row[2] for row in own if row[2] is not None], place


# -- from blobs to what uses them ----------------------------------------------------------------------------


class BlobUse(Struct, frozen=True):
    """One thing that names a blob: a version of an object, one part of it (`part` > 0), or a part of an open
    upload. `bucket` is empty while a deleted bucket is cleared."""

    blob_id: bytes
    bucket: str
    key: bytes
    version_id: str | None
    current: bool
    part: int
    upload_id: str | None


class _Sought:
    """The blobs that are looked for, and which composite ones lead to them."""

    def __init__(self, reader: Reader, wanted: Iterable[bytes]) -> None:
        self.left: dict[bytes, int] = {}  # references not yet found
        self.within: dict[bytes, list[tuple[bytes, int]]] = {}  # composite blob: (blob, part number)
        for blob_id in wanted:
            self.add(reader, blob_id)

    def add(self, reader: Reader, blob_id: bytes) -> None:
        if blob_id not in self.left:
            self.left[blob_id] = references(reader, blob_id)

    def found(self, blob_id: bytes) -> None:
        self.left[blob_id] -= 1

    @property
    def is_settled(self) -> bool:
        """Every reference is found."""
        return all(left <= 0 for left in self.left.values())


class Search:
    """Looks for what uses some blobs, a slice at each `step` (each of its own moment: what changes meanwhile may be
    missed). `uses`: what was found, `uses_max` at most; `rows`: how many rows were looked at.
    """

    def __init__(self, wanted: Iterable[bytes], *, uses_max: int = 1000) -> None:
        self.uses: list[BlobUse] = []
        self.more_uses = False
        self.rows = 0
        self.done = False
        self._wanted = list(wanted)
        self._uses_max = uses_max
        self._sought: _Sought | None = None
        self._buckets: dict[int, str] = {}
        # Manifests first: what they name is found by way of their own id.
        self._walks: list[Callable[[Reader, _Sought], bool]] = [
            _Walk(_MANIFESTS_AFTER, (b"",), _SLICE_MANIFESTS, self._manifest, lambda row: (row[0],)),
            _Walk(_OBJECTS_AFTER, (0, b""), SLICE_ROWS, self._object, lambda row: row[:2]),
            _Walk(_VERSIONS_AFTER, (0, b"", 0), SLICE_ROWS, self._version, lambda row: (*row[:2], row[4])),
            _Walk(_PARTS_AFTER, (0, 0), SLICE_ROWS, self._part, lambda row: row[:2]),
        ]

    def step(self, reader: Reader) -> bool:
        """Look at the next slice; False when there is nothing more to look at. For `Catalog.read`, until then."""
        if self._sought is None:
            self._sought = _Sought(reader, self._wanted)
        if not self._sought.is_settled and self._walks:
            if not self._walks[0](reader, self._sought):
                del self._walks[0]
            if self._walks and not self._sought.is_settled:
                return True
        self.done = True
        return False

    def _manifest(self, reader: Reader, sought: _Sought, row: Row) -> None:
        self.rows += 1
        for part in blobs.unpack_manifest(row[1]):
            if part.blob_id in sought.left:
                sought.found(part.blob_id)
                sought.add(reader, row[0])
                sought.within.setdefault(row[0], []).append((part.blob_id, part.number))

    def _object(self, reader: Reader, sought: _Sought, row: Row) -> None:
        self._named(reader, sought, row, current=True)

    def _version(self, reader: Reader, sought: _Sought, row: Row) -> None:
        self._named(reader, sought, row, current=False)

    def _named(self, reader: Reader, sought: _Sought, row: Row, *, current: bool) -> None:
        self.rows += 1
        bucket_id, key, blob_id, version_id = row[:4]
        if blob_id not in sought.left:
            return
        sought.found(blob_id)
        bucket = self._bucket(reader, bucket_id)
        for inner, part in sought.within.get(blob_id, [(blob_id, 0)]):
            self._use(BlobUse(inner, bucket, key, version_id, current, part, None))

    def _part(self, reader: Reader, sought: _Sought, row: Row) -> None:
        self.rows += 1
        _, number, blob_id, bucket_id, key, upload_id = row
        if blob_id in sought.left:
            sought.found(blob_id)
            bucket = "" if bucket_id is None else self._bucket(reader, bucket_id)
            self._use(BlobUse(blob_id, bucket, key or b"", None, False, number, upload_id or ""))

    def _use(self, use: BlobUse) -> None:
        if len(self.uses) < self._uses_max:
            self.uses.append(use)
        else:
            self.more_uses = True

    def _bucket(self, reader: Reader, bucket_id: int) -> str:
        if bucket_id not in self._buckets:
            row = reader.row(_BUCKET_NAME, (bucket_id,))
            self._buckets[bucket_id] = "" if row is None else row[0]
        return self._buckets[bucket_id]


class _Walk:
    """Over one table in the order of its key, a slice at each call; False after the last."""

    def __init__(
        self,
        statement: Statement,
        first: Parameters,
        limit: int,
        look: Callable[[Reader, _Sought, Row], None],
        place: Callable[[Row], tuple[Any, ...]],
    ) -> None:
        self._statement = statement
        self._after = first
        self._limit = limit
        self._look = look
        self._place = place

    def __call__(self, reader: Reader, sought: _Sought) -> bool:
        rows = reader.rows(self._statement, (*self._after, self._limit))
        for row in rows:
            self._look(reader, sought, row)
        if rows:
            self._after = self._place(rows[-1])
        return len(rows) == self._limit
