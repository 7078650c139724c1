"""Buckets. Reads by name are cached and proved fresh at each use (S16, P4)."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

import msgspec
import sqlalchemy as sa

from catalog import documents, schema, usage
from catalog.bucket_model import BucketActions, LockConfiguration
from catalog.errors import BucketExists, BucketNotEmpty, NoSuchBucket, RowDamaged, VersioningLocked
from catalog.model import Bucket, Versioning
from catalog.statement import Reader, Row, Statement, constant, page, parameter
from catalog.sweeping import begin_sweep
from catalog.transaction import Transaction

if TYPE_CHECKING:
    from catalog.engine import Catalog

T = TypeVar("T")

_buckets = schema.buckets
_COLUMNS = (
    _buckets.c.id,
    _buckets.c.name,
    _buckets.c.owner,
    _buckets.c.region,
    _buckets.c.created_ms,
    _buckets.c.versioning,
    _buckets.c.quota_bytes,
    _buckets.c.lock_default,
    _buckets.c.configuration,
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
    sa.insert(_buckets).returning(_buckets.c.id),
    "name",
    "owner",
    "region",
    "created_ms",
    "versioning",
    "lock_default",
)
_BY_ID = Statement(sa.select(*_COLUMNS).where(_buckets.c.id == parameter("p_id")), "p_id")


def _setting(column: str) -> Statement:
    values = {column: parameter("n_value")}
    return Statement(
        sa.update(_buckets).values(values).where(_buckets.c.id == parameter("p_id")), "n_value", "p_id"
    )


_SET_VERSIONING = _setting("versioning")
_SET_LOCK = _setting("lock_default")
_SET_ACTIONS = _setting("configuration")
_SET_QUOTA = _setting("quota_bytes")
_DELETE = Statement(sa.delete(_buckets).where(_buckets.c.id == parameter("p_id")), "p_id")


def _any(table: sa.Table) -> Statement:
    query = sa.select(constant("1")).select_from(table).where(table.c.bucket_id == parameter("p_id"))
    return Statement(query.limit(constant("1")).offset(constant("0")), "p_id")


_ANY_OBJECT = _any(schema.objects)
_ANY_VERSION = _any(schema.versions)
_ANY_UPLOAD = _any(schema.uploads)


_encoder = msgspec.msgpack.Encoder()
_lock_decoder = msgspec.msgpack.Decoder(LockConfiguration)
_actions_decoder = msgspec.msgpack.Decoder(BucketActions)
_NO_ACTIONS = BucketActions()


def unpack_lock(packed: bytes | None) -> LockConfiguration | None:
    """A bucket's lock column. Raises RowDamaged, so that nothing in such a bucket is taken for free."""
    return None if packed is None else _unpacked(_lock_decoder, packed)


@lru_cache(maxsize=1024)
def unpack_actions(packed: bytes | None) -> BucketActions:
    """A bucket's configuration column. Raises RowDamaged."""
    return _NO_ACTIONS if packed is None else _unpacked(_actions_decoder, packed)


def _unpacked(decoder: msgspec.msgpack.Decoder[T], packed: bytes) -> T:
    try:
        return decoder.decode(packed)
    except msgspec.MsgspecError as error:
        raise RowDamaged(f"the settings of a bucket can't be read: {error}") from error


def _bucket(row: Row) -> Bucket:
    identifier, name, owner, region, created_ms, versioning, quota_bytes, lock, actions = row
    return Bucket(
        identifier,
        name,
        owner,
        region,
        created_ms,
        Versioning(versioning),
        quota_bytes,
        unpack_lock(lock),
        unpack_actions(actions),
    )


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


def create(
    tx: Transaction,
    *,
    name: str,
    owner: str,
    region: str,
    versioning: Versioning = Versioning.NEVER,
    lock: LockConfiguration | None = None,
) -> Bucket:
    """Create a bucket; the name has been checked by the caller. Raises BucketExists."""
    assert lock is None or versioning is Versioning.ENABLED, "object lock needs versioning"
    taken = tx.row(_BY_NAME, (name,))
    if taken is not None:
        raise BucketExists(name, taken[2])
    packed = None if lock is None else _encoder.encode(lock)
    row = tx.row(_INSERT, (name, owner, region, tx.now_ms, int(versioning), packed))
    assert row is not None
    usage.begin(tx, row[0])
    tx.touch_configuration()
    return Bucket(row[0], name, owner, region, tx.now_ms, versioning, None, lock)


def of_id(reader: Reader, bucket_id: int) -> Bucket | None:
    """The bucket as this reader or transaction sees it; None when it is deleted."""
    row = reader.row(_BY_ID, (bucket_id,))
    return None if row is None else _bucket(row)


def set_versioning(tx: Transaction, bucket_id: int, versioning: Versioning) -> None:
    """Enable or suspend versioning. Raises NoSuchBucket; VersioningLocked where object lock is enabled, which needs
    all versions to be kept."""
    assert versioning is not Versioning.NEVER, "a bucket never forgets that it had versions"
    bucket = _required(tx, bucket_id)
    if bucket.lock is not None and versioning is not Versioning.ENABLED:
        raise VersioningLocked("object lock is enabled")
    tx.execute(_SET_VERSIONING, (int(versioning), bucket_id))
    tx.touch_configuration()


def set_lock(tx: Transaction, bucket_id: int, lock: LockConfiguration) -> None:
    """Enable object lock, or change its default retention; it is never disabled again. Raises NoSuchBucket;
    VersioningLocked unless versioning is enabled."""
    if _required(tx, bucket_id).versioning is not Versioning.ENABLED:
        raise VersioningLocked("object lock needs versioning")
    tx.execute(_SET_LOCK, (_encoder.encode(lock), bucket_id))
    tx.touch_configuration()


def change_actions(tx: Transaction, bucket_id: int, change: Callable[[BucketActions], BucketActions]) -> None:
    """Change what is configured for the bucket. Raises NoSuchBucket, and what `change` raises."""
    changed = change(_required(tx, bucket_id).actions)
    tx.execute(_SET_ACTIONS, (None if changed == _NO_ACTIONS else _encoder.encode(changed), bucket_id))
    tx.touch_configuration()


def _required(tx: Transaction, bucket_id: int) -> Bucket:
    bucket = of_id(tx, bucket_id)
    if bucket is None:
        raise NoSuchBucket("the bucket was deleted")
    return bucket


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
    documents.forget(tx, bucket_id)
    if tx.row(_ANY_UPLOAD, (bucket_id,)):
        begin_sweep(tx, "bucket", bucket_id)
    tx.touch_configuration()
