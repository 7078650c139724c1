"""ListObjectVersions pages: all versions of all keys, by key, then newest first, at a cost of O(page) (P9)."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from catalog import schema
from catalog.attributes import CHECKSUM_KINDS
from catalog.errors import NoSuchVersion
from catalog.listing import Position, Walk
from catalog.model import VersionEntry, VersionPage
from catalog.statement import Reader, Row, Statement, constant, parameter
from catalog.versions import NULL_VERSION, sequence_of

_objects = schema.objects
_versions = schema.versions

_KEY, _SEQUENCE, _VERSION_ID = 0, 1, 3
_ID_CHARS = 32


def _columns(table: sa.Table, *, is_current: bool) -> tuple[sa.ColumnElement[Any], ...]:
    c = table.c
    return (
        c.key,
        c.sequence,
        constant("0") if is_current else c.delete_marker,
        c.version_id,
        c.size,
        c.etag,
        c.modified_ms,
        c.storage_class,
        c.checksum_code,
        constant("1")
        if is_current
        else sa.case((c.noncurrent_ms.is_(None), constant("1")), else_=constant("0")),
    )


def _page(*, within_key: bool) -> Statement:
    """Rows of both tables by key, then newest first. Each of them lies in that order in an index, so that the database
    merges two walks and reads no more rows than it returns."""

    def selected(table: sa.Table, name: str, *, is_current: bool) -> sa.Select[Any]:
        c = table.c
        some = sa.select(*_columns(table, is_current=is_current)).where(
            c.bucket_id == parameter(f"{name}_bucket")
        )
        if within_key:
            return some.where(c.key == parameter(f"{name}_key"), c.sequence < parameter(f"{name}_below"))
        return some.where(c.key >= parameter(f"{name}_from"), c.key < parameter(f"{name}_to"))

    both = sa.union_all(selected(_objects, "o", is_current=True), selected(_versions, "v", is_current=False))
    ordered = both.order_by(sa.literal_column("1"), sa.literal_column("2 DESC"))
    limit = sa.bindparam("limit", type_=sa.Integer) + constant("0")
    names = ("bucket", "key", "below") if within_key else ("bucket", "from", "to")
    return Statement(
        ordered.limit(limit).offset(constant("0")),
        *(f"o_{name}" for name in names),
        *(f"v_{name}" for name in names),
        "limit",
    )


_BY_KEY = _page(within_key=False)
_OF_KEY = _page(within_key=True)
_SEQUENCE_OF_NULL = Statement(
    sa.union_all(
        *(
            sa.select(table.c.sequence).where(
                table.c.bucket_id == parameter(f"{name}_bucket"),
                table.c.key == parameter(f"{name}_key"),
                table.c.version_id.is_(None),
            )
            for name, table in (("o", _objects), ("v", _versions))
        )
    ),
    "o_bucket",
    "o_key",
    "v_bucket",
    "v_key",
)


def list_versions(
    reader: Reader,
    *,
    bucket_id: int,
    prefix: bytes = b"",
    delimiter: bytes = b"",
    key_marker: bytes = b"",
    version_marker: str = "",
    limit: int = 1000,
) -> VersionPage:
    """One page of versions and delete markers behind the markers; `version_marker` counts only with a key marker, and
    may name a version that is gone since. `limit` counts versions and common prefixes together. Raises NoSuchVersion
    for a version marker that never was one."""

    def fetch(position: Position, beyond: bytes, count: int) -> list[Row]:
        key, tie = position
        rows: list[Row] = []
        if tie:
            if key < beyond:
                one = (bucket_id, key, int(tie))
                rows = reader.rows(_OF_KEY, (*one, *one, count))
            key += b"\0"
        if len(rows) < count:
            some = (bucket_id, key, beyond)
            rows += reader.rows(_BY_KEY, (*some, *some, count - len(rows)))
        return rows

    tie = ""
    if key_marker and version_marker:
        tie = _tie(reader, bucket_id, key_marker, version_marker)
    walk = Walk(prefix=prefix, delimiter=delimiter, after=key_marker, limit=limit)
    rows = walk.run(fetch, step=lambda row: (row[_KEY], str(row[_SEQUENCE])), tie=tie)
    last = rows[-1] if rows else None
    ends_with_version = last is not None and (not walk.prefixes or last[_KEY] > walk.prefixes[-1])
    return VersionPage(
        [_entry(row) for row in rows],
        walk.prefixes,
        walk.truncated,
        walk.last,
        _marker(last) if last is not None and ends_with_version else "",
    )


def _entry(row: Row) -> VersionEntry:
    key, _, marker, version_id, size, etag, modified_ms, storage_class, code, newest = row
    algorithm, kind = (None, None) if code is None else CHECKSUM_KINDS[code]
    return VersionEntry(
        key,
        version_id or NULL_VERSION,
        bool(newest),
        bool(marker),
        size,
        etag,
        modified_ms,
        storage_class or "STANDARD",
        algorithm,
        kind,
    )


def _marker(row: Row) -> str:
    """How the next page names the last version of this one: it must find its place also when that version is deleted
    meanwhile, as a client does that empties a bucket page by page. So a null version is named by its sequence too."""
    version_id: str | None = row[_VERSION_ID]
    return version_id or f"{row[_SEQUENCE]:012x}{NULL_VERSION}"


def _tie(reader: Reader, bucket_id: int, key: bytes, version_marker: str) -> str:
    """The sequence that a version marker stands for, as the walk takes it; empty behind all versions of the key."""
    if version_marker == NULL_VERSION:
        row = reader.row(_SEQUENCE_OF_NULL, (bucket_id, key, bucket_id, key))
        return "" if row is None else str(row[0])
    sequence = sequence_of(version_marker)
    if sequence is None or not (len(version_marker) == _ID_CHARS or version_marker[12:] == NULL_VERSION):
        raise NoSuchVersion(version_marker)
    return str(sequence)
