"""What a transaction reads of a key before it writes: its bucket, its current version, any one version; and the order
in which versions follow each other (S12, S13)."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from catalog import schema
from catalog.errors import (
    Changed,
    IsDeleteMarker,
    NoSuchBucket,
    NoSuchKey,
    NoSuchVersion,
    PreconditionFailed,
)
from catalog.model import Condition, Source
from catalog.statement import Statement, constant, parameter
from catalog.transaction import Transaction

NULL_VERSION = "null"
"""How requests and answers name the version without an id."""

_objects = schema.objects
_versions = schema.versions
_buckets = schema.buckets


class Target(Struct, frozen=True, array_like=True, gc=False):
    """What every write to a key must know: its bucket, and its current version, whose fields are None without one."""

    versioning: int
    quota_bytes: int | None
    lock_default: bytes | None
    configuration: bytes | None
    sequence: int | None
    blob_id: bytes | None
    etag: str | None
    modified_ms: int | None
    size: int | None
    version_id: str | None


class Version(Struct, frozen=True, array_like=True, gc=False):
    """One version as its removal must know it. `blob_id` is None for a delete marker, and only for one."""

    is_current: int
    sequence: int
    blob_id: bytes | None
    etag: str
    modified_ms: int
    size: int
    version_id: str | None
    attributes: bytes | None


def _of_key(table: sa.Table, name: str = "p") -> tuple[sa.ColumnElement[bool], ...]:
    return table.c.bucket_id == parameter(f"{name}_bucket"), table.c.key == parameter(f"{name}_key")


_TARGET = Statement(
    sa.select(
        _buckets.c.versioning,
        _buckets.c.quota_bytes,
        _buckets.c.lock_default,
        _buckets.c.configuration,
        _objects.c.sequence,
        _objects.c.blob_id,
        _objects.c.etag,
        _objects.c.modified_ms,
        _objects.c.size,
        _objects.c.version_id,
    )
    .select_from(
        _buckets.outerjoin(
            _objects,
            sa.and_(_objects.c.bucket_id == _buckets.c.id, _objects.c.key == parameter("p_key")),
        )
    )
    .where(_buckets.c.id == parameter("p_bucket")),
    "p_key",
    "p_bucket",
)


def _version_columns(table: sa.Table, *, is_current: bool) -> tuple[sa.ColumnElement[Any], ...]:
    c = table.c
    return (
        constant("1" if is_current else "0"),
        c.sequence,
        c.blob_id,
        c.etag,
        c.modified_ms,
        c.size,
        c.version_id,
        c.attributes,
    )


def _one(column: str, *, given: bool = True) -> Statement:
    """The version of a key whose `column` has a value, or is NULL, wherever it lies."""

    def selected(table: sa.Table, name: str, *, is_current: bool) -> sa.Select[Any]:
        value = table.c[column] == parameter(f"{name}_value") if given else table.c[column].is_(None)
        return sa.select(*_version_columns(table, is_current=is_current)).where(*_of_key(table, name), value)

    names = ("bucket", "key", "value") if given else ("bucket", "key")
    return Statement(
        sa.union_all(selected(_objects, "o", is_current=True), selected(_versions, "v", is_current=False)),
        *(f"o_{name}" for name in names),
        *(f"v_{name}" for name in names),
    )


_BY_ID = _one("version_id")
_NULL = _one("version_id", given=False)
BY_SEQUENCE = _one("sequence")
_CURRENT = Statement(
    sa.select(*_version_columns(_objects, is_current=True)).where(*_of_key(_objects)), "p_bucket", "p_key"
)
NEWEST_OLDER = Statement(
    sa.select(*_version_columns(_versions, is_current=False))
    .where(*_of_key(_versions))
    .order_by(_versions.c.sequence.desc())
    .limit(constant("1"))
    .offset(constant("0")),
    "p_bucket",
    "p_key",
)


def check_source(tx: Transaction, source: Source) -> int:
    """The size in bytes of the version that a copy was prepared from, if it still is so; else Changed (S14)."""
    one = (source.bucket_id, source.key, source.sequence)
    row = tx.row(BY_SEQUENCE, (*one, *one))
    if row is None or row[2] != source.blob_id:
        raise Changed("the source of the copy was replaced or deleted")
    size: int = row[5]
    return size


def target(tx: Transaction, bucket_id: int, key: bytes, condition: Condition | None) -> Target:
    """What a write to this key must know; the condition is checked against the current version. Raises NoSuchBucket,
    NoSuchKey, PreconditionFailed."""
    row = tx.row(_TARGET, (key, bucket_id))
    if row is None:
        raise NoSuchBucket("the bucket was deleted")
    found = Target(*row)
    if condition is not None:
        if found.sequence is None:
            check_missing(condition)
        else:
            assert found.etag is not None
            assert found.modified_ms is not None
            assert found.size is not None
            check_condition(condition, found.etag, found.modified_ms, found.size)
    return found


def check_missing(condition: Condition) -> None:
    if condition.if_match is not None:
        raise NoSuchKey("If-Match on a key that does not exist")


def check_condition(condition: Condition, etag: str, modified_ms: int, size: int) -> None:
    if condition.if_none_match is not None and condition.if_none_match in ("*", etag):
        raise PreconditionFailed("If-None-Match")
    if condition.if_match is not None and condition.if_match not in ("*", etag):
        raise PreconditionFailed("If-Match")
    if (
        condition.if_match_modified_ms is not None
        and condition.if_match_modified_ms // 1000 != modified_ms // 1000
    ):
        raise PreconditionFailed("x-amz-if-match-last-modified-time")
    if condition.if_match_size is not None and condition.if_match_size != size:
        raise PreconditionFailed("x-amz-if-match-size")


def next_sequence(tx: Transaction, current: Target, bucket_id: int, key: bytes) -> int:
    """The highest of the key + 1 (S13). The current version, where there is one, is the newest."""
    if current.sequence is not None:
        return current.sequence + 1
    row = tx.row(NEWEST_OLDER, (bucket_id, key))
    return 1 if row is None else row[1] + 1


def new_id(tx: Transaction, sequence: int) -> str:
    """A version id. It begins with the sequence, so that a listing can go on behind a version that is gone."""
    return f"{sequence:012x}{tx.random(10).hex()}"


def sequence_of(version_id: str) -> int | None:
    """The sequence that an id made by `_new_id` names; None for anything else."""
    stem = version_id[:12]
    try:
        return int(stem, 16) if len(stem) == 12 else None
    except ValueError:
        return None


def find(tx: Transaction, bucket_id: int, key: bytes, version_id: str) -> Version | None:
    one = (bucket_id, key) if version_id == NULL_VERSION else (bucket_id, key, version_id)
    row = tx.row(_NULL if version_id == NULL_VERSION else _BY_ID, (*one, *one))
    return None if row is None else Version(*row)


def required(tx: Transaction, bucket_id: int, key: bytes, version_id: str | None) -> Version:
    if version_id is not None:
        found = find(tx, bucket_id, key, version_id)
        if found is None:
            raise NoSuchVersion(version_id)
    else:
        row = tx.row(_CURRENT, (bucket_id, key)) or tx.row(NEWEST_OLDER, (bucket_id, key))
        if row is None:
            raise NoSuchKey("there is no such object")
        found = Version(*row)
    if found.blob_id is None:
        raise IsDeleteMarker(found.version_id or NULL_VERSION)
    return found
