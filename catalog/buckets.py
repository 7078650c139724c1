"""Buckets. Reads by name are cached and proved fresh at each use (S16, P4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from catalog import schema, usage
from catalog.errors import BucketExists, BucketNotEmpty, NoSuchBucket
from catalog.model import Bucket, Versioning
from catalog.statement import Reader, Row, Statement, constant, page, parameter
from catalog.sweeping import begin_sweep
from catalog.transaction import Transaction

if TYPE_CHECKING:
    from catalog.engine import Catalog

_buckets = schema.buckets
_COLUMNS = (
    _buckets.c.id,
    _buckets.c.name,
    _buckets.c.owner,
    _buckets.c.region,
    _buckets.c.created_ms,
    _buckets.c.versioning,
    _buckets.c.quota_bytes,
)
_BY_NAME = Statement(sa.select(*_COLUMNS).where(_buckets.c.name == parameter("p_name")), "p_name")
_LIST = Statement(
    page(sa.select(*_COLUMNS).where(_buckets.c.name > parameter("p_after")).order_by(_buckets.c.name)),
    "p_after",
    "limit",
)
_LIST_OWNED = Statement(
    page(
        sa.select(*_COLUMNS)
        .where(_buckets.c.name > parameter("p_after"), _buckets.c.owner == parameter("p_owner"))
        .order_by(_buckets.c.name)
    ),
    "p_after",
    "p_owner",
    "limit",
)
_INSERT = Statement(
    sa.insert(_buckets).returning(_buckets.c.id), "name", "owner", "region", "created_ms", "versioning"
)
_SET_QUOTA = Statement(
    sa.update(_buckets).values(quota_bytes=parameter("n_quota")).where(_buckets.c.id == parameter("p_id")),
    "n_quota",
    "p_id",
)
_DELETE = Statement(sa.delete(_buckets).where(_buckets.c.id == parameter("p_id")), "p_id")


def _any(table: sa.Table) -> Statement:
    query = sa.select(constant("1")).select_from(table).where(table.c.bucket_id == parameter("p_id"))
    return Statement(query.limit(constant("1")).offset(constant("0")), "p_id")


_ANY_OBJECT = _any(schema.objects)
_ANY_VERSION = _any(schema.versions)
_ANY_UPLOAD = _any(schema.uploads)


def _bucket(row: Row) -> Bucket:
    return Bucket(row[0], row[1], row[2], row[3], row[4], Versioning(row[5]), row[6])


async def get(catalog: Catalog, name: str) -> Bucket | None:
    """The bucket as of now, or None. From memory unless some process has changed configuration."""
    cache = await catalog.configuration()
    known = cache.buckets.get(name)
    if known is None:
        rows = await catalog.point(_BY_NAME, (name,))
        if not rows:
            return None
        known = _bucket(rows[0])
        cache.remember(known)
    return known


def list_buckets(
    reader: Reader, *, owner: str | None = None, after: str = "", limit: int = 10_000
) -> list[Bucket]:
    """Buckets by name from `after` on (exclusive), of one owner or of all."""
    parameters = (after, limit) if owner is None else (after, owner, limit)
    return [_bucket(row) for row in reader.rows(_LIST if owner is None else _LIST_OWNED, parameters)]


def create(tx: Transaction, *, name: str, owner: str, region: str) -> Bucket:
    """Create a bucket; the name has been checked by the caller. Raises BucketExists."""
    taken = tx.row(_BY_NAME, (name,))
    if taken is not None:
        raise BucketExists(name, taken[2])
    row = tx.row(_INSERT, (name, owner, region, tx.now_ms, int(Versioning.NEVER)))
    assert row is not None
    usage.begin(tx, row[0])
    tx.touch_configuration()
    return Bucket(row[0], name, owner, region, tx.now_ms)


def set_quota(tx: Transaction, bucket_id: int, quota_bytes: int | None) -> None:
    """Limit the bytes of all versions together, or no longer (None). What lies there already stays, however
    much: only growth is refused. Raises NoSuchBucket."""
    if tx.execute(_SET_QUOTA, (quota_bytes, bucket_id)) != 1:
        raise NoSuchBucket("the bucket was deleted")
    tx.touch_configuration()


def delete(tx: Transaction, bucket_id: int) -> None:
    """Delete an empty bucket; its open uploads are aborted, in slices, by the steward. Takes the same path
    as every write to the bucket (S12). Raises NoSuchBucket, BucketNotEmpty."""
    if tx.row(_ANY_OBJECT, (bucket_id,)) or tx.row(_ANY_VERSION, (bucket_id,)):
        raise BucketNotEmpty("the bucket holds objects")
    if tx.execute(_DELETE, (bucket_id,)) != 1:
        raise NoSuchBucket("the bucket was deleted")
    usage.end(tx, bucket_id)
    if tx.row(_ANY_UPLOAD, (bucket_id,)):
        begin_sweep(tx, "bucket", bucket_id)
    tx.touch_configuration()
