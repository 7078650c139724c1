"""The rows of `objects`: the one place that inserts, changes or removes a version, and so the one that counts it.

Rows of `versions` belong here too as soon as something writes them. A test holds every other module to it.
"""

from __future__ import annotations

import sqlalchemy as sa

from catalog import schema
from catalog.statement import Parameters, Statement, parameter
from catalog.transaction import Transaction

_objects = schema.objects

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

_INSERT = Statement(sa.insert(_objects), "bucket_id", "key", *VALUES)
_UPDATE = Statement(
    sa.update(_objects)
    .values({name: parameter(f"n_{name}") for name in VALUES})
    .where(_objects.c.bucket_id == parameter("p_bucket"), _objects.c.key == parameter("p_key")),
    *(f"n_{name}" for name in VALUES),
    "p_bucket",
    "p_key",
)
_DELETE = Statement(
    sa.delete(_objects).where(
        _objects.c.bucket_id == parameter("p_bucket"), _objects.c.key == parameter("p_key")
    ),
    "p_bucket",
    "p_key",
)


def insert_current(tx: Transaction, bucket_id: int, key: bytes, values: Parameters) -> None:
    """The first version of a key that has none."""
    tx.execute(_INSERT, (bucket_id, key, *values))
    tx.usage.add(bucket_id, 1, 1, _size(values))


def update_current(
    tx: Transaction, bucket_id: int, key: bytes, values: Parameters, *, replaced_bytes: int
) -> None:
    """Another version in the place of the key's current one, whose size this transaction has read."""
    tx.execute(_UPDATE, (*values, bucket_id, key))
    tx.usage.add(bucket_id, 0, 0, _size(values) - replaced_bytes)


def delete_current(tx: Transaction, bucket_id: int, key: bytes, *, deleted_bytes: int) -> None:
    """Remove the key's current version, whose size this transaction has read."""
    tx.execute(_DELETE, (bucket_id, key))
    tx.usage.add(bucket_id, -1, -1, -deleted_bytes)


def _size(values: Parameters) -> int:
    size = values[_SIZE]
    assert isinstance(size, int)
    return size
