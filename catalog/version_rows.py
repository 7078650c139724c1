"""The rows of `objects` and `versions`: the one place that inserts, changes or removes a version, and so the one that
counts it.

`objects` holds the newest version of a key unless that is a delete marker; all others lie in `versions`, by sequence.
Every function here keeps it so, as long as its caller names the rows it has read in the same transaction. A test holds
every other module to it.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from catalog import schema
from catalog.statement import Parameters, Statement, constant, parameter
from catalog.transaction import Transaction

_objects = schema.objects
_versions = schema.versions

VALUES = (
    "sequence",
    "size",
    "modified_ms",
    "etag",
    "storage_class",
    "checksum_code",
    "blob_id",
    "version_id",
    "content_type",
    "attributes",
)
"""What a version is made of, in the order in which the functions below take it."""

_SIZE = VALUES.index("size")
_SHARED = ("bucket_id", "key", *VALUES)


def _of_key(table: sa.Table) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.bucket_id == parameter("p_bucket"), table.c.key == parameter("p_key"))


def _of_version() -> sa.ColumnElement[bool]:
    return sa.and_(_of_key(_versions), _versions.c.sequence == parameter("p_sequence"))


def _columns(table: sa.Table) -> list[Any]:
    return [table.c[name] for name in _SHARED]


_INSERT = Statement(sa.insert(_objects), "bucket_id", "key", *VALUES)
_UPDATE = Statement(
    sa.update(_objects).values({name: parameter(f"n_{name}") for name in VALUES}).where(_of_key(_objects)),
    *(f"n_{name}" for name in VALUES),
    "p_bucket",
    "p_key",
)
_DELETE = Statement(sa.delete(_objects).where(_of_key(_objects)), "p_bucket", "p_key")
_ARCHIVE = Statement(
    sa.insert(_versions).from_select(
        [*_SHARED, "delete_marker", "noncurrent_ms"],
        sa.select(*_columns(_objects), constant("0"), sa.bindparam("p_now", type_=sa.BigInteger)).where(
            _of_key(_objects)
        ),
        include_defaults=False,
    ),
    "p_now",
    "p_bucket",
    "p_key",
)
_PROMOTE = Statement(
    sa.insert(_objects).from_select(
        _SHARED, sa.select(*_columns(_versions)).where(_of_version()), include_defaults=False
    ),
    "p_bucket",
    "p_key",
    "p_sequence",
)
_INSERT_OLDER = Statement(sa.insert(_versions), "bucket_id", "key", *VALUES, "delete_marker", "noncurrent_ms")
_DELETE_OLDER = Statement(sa.delete(_versions).where(_of_version()), "p_bucket", "p_key", "p_sequence")
_OUTDATE = Statement(
    sa.update(_versions)
    .values(noncurrent_ms=parameter("n_since"))
    .where(_of_version(), _versions.c.noncurrent_ms.is_(None)),
    "n_since",
    "p_bucket",
    "p_key",
    "p_sequence",
)
_SET_NEWEST = Statement(
    sa.update(_versions).values(noncurrent_ms=constant("NULL")).where(_of_version()),
    "p_bucket",
    "p_key",
    "p_sequence",
)
_CHANGED = ("storage_class", "blob_id", "attributes")


def _change(table: sa.Table) -> Statement:
    values = {name: parameter(f"n_{name}") for name in _CHANGED}
    one = sa.and_(_of_key(table), table.c.sequence == parameter("p_sequence"))
    names = (*(f"n_{name}" for name in _CHANGED), "p_bucket", "p_key", "p_sequence")
    return Statement(sa.update(table).values(values).where(one), *names)


_CHANGE_CURRENT = _change(_objects)
_CHANGE_OLDER = _change(_versions)


def insert_current(tx: Transaction, bucket_id: int, key: bytes, values: Parameters) -> None:
    """The newest version of a key that has no current one."""
    tx.execute(_INSERT, (bucket_id, key, *values))
    tx.usage.add(bucket_id, 1, 1, _size(values))


def update_current(
    tx: Transaction, bucket_id: int, key: bytes, values: Parameters, *, replaced_bytes: int
) -> None:
    """Another version in the place of the key's current one, whose size this transaction has read."""
    tx.execute(_UPDATE, (*values, bucket_id, key))
    tx.usage.add(bucket_id, 0, 0, _size(values) - replaced_bytes)


def push_current(tx: Transaction, bucket_id: int, key: bytes, values: Parameters) -> None:
    """A newer version above the key's current one, which becomes noncurrent."""
    tx.execute(_ARCHIVE, (tx.now_ms, bucket_id, key))
    tx.execute(_UPDATE, (*values, bucket_id, key))
    tx.usage.add(bucket_id, 0, 1, _size(values))


def delete_current(tx: Transaction, bucket_id: int, key: bytes, *, deleted_bytes: int) -> None:
    """Remove the key's current version, whose size this transaction has read."""
    tx.execute(_DELETE, (bucket_id, key))
    tx.usage.add(bucket_id, -1, -1, -deleted_bytes)


def retire_current(tx: Transaction, bucket_id: int, key: bytes) -> None:
    """The key's current version becomes noncurrent; the caller puts a delete marker above it."""
    tx.execute(_ARCHIVE, (tx.now_ms, bucket_id, key))
    tx.execute(_DELETE, (bucket_id, key))
    tx.usage.add(bucket_id, -1, 0, 0)


def promote(tx: Transaction, bucket_id: int, key: bytes, sequence: int) -> None:
    """An older version, now the newest of a key without a current one and no delete marker, becomes current."""
    tx.execute(_PROMOTE, (bucket_id, key, sequence))
    tx.execute(_DELETE_OLDER, (bucket_id, key, sequence))
    tx.usage.add(bucket_id, 1, 0, 0)


def insert_marker(tx: Transaction, bucket_id: int, key: bytes, sequence: int, version_id: str | None) -> None:
    """A delete marker as the newest of a key without a current version."""
    values = (sequence, 0, tx.now_ms, "", None, None, None, version_id, "", None)
    tx.execute(_INSERT_OLDER, (bucket_id, key, *values, 1, None))
    tx.usage.add(bucket_id, 0, 1, 0)


def delete_older(tx: Transaction, bucket_id: int, key: bytes, sequence: int, *, deleted_bytes: int) -> None:
    """Remove a version, or delete marker, of `versions`, whose size this transaction has read."""
    tx.execute(_DELETE_OLDER, (bucket_id, key, sequence))
    tx.usage.add(bucket_id, 0, -1, -deleted_bytes)


def outdate(tx: Transaction, bucket_id: int, key: bytes, sequence: int) -> None:
    """Something comes above the newest row of `versions`: a delete marker that was the newest becomes noncurrent. What
    is noncurrent already stays so since it was, though the null version above it be replaced."""
    tx.execute(_OUTDATE, (tx.now_ms, bucket_id, key, sequence))


def set_newest(tx: Transaction, bucket_id: int, key: bytes, sequence: int) -> None:
    """A delete marker is the newest of its key again."""
    tx.execute(_SET_NEWEST, (bucket_id, key, sequence))


def change(
    tx: Transaction,
    bucket_id: int,
    key: bytes,
    sequence: int,
    *,
    storage_class: str | None,
    blob_id: bytes,
    attributes: bytes | None,
) -> None:
    """Rewrite what may change of a version that this transaction has read, wherever it lies."""
    parameters = (storage_class, blob_id, attributes, bucket_id, key, sequence)
    if tx.execute(_CHANGE_CURRENT, parameters) != 1 and tx.execute(_CHANGE_OLDER, parameters) != 1:
        raise AssertionError("a version that was read in this transaction is not there")


def _size(values: Parameters) -> int:
    size = values[_SIZE]
    assert isinstance(size, int)
    return size
