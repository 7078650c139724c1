"""What lies in each bucket, and how much may: read from the books, which are kept with every change (usage_changes).

Counting again, `recount`, is for proving the books right: it reads every row of the bucket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from msgspec import Struct

from catalog import progress, schema
from catalog.errors import Changed, NoSuchBucket, QuotaExceeded
from catalog.model import Bucket, Versioning
from catalog.statement import Reader, Row, Statement, constant, page, parameter
from catalog.transaction import Transaction
from catalog.usage_changes import NOTHING, Usage, write

if TYPE_CHECKING:
    from catalog.engine import Catalog

_usage = schema.bucket_usage
_buckets = schema.buckets
_objects = schema.objects
_shares = schema.bucket_usage_shares
_CORRECTIONS = "usage-corrections"


def _with_shares(bucket: sa.ColumnElement[int]) -> list[sa.ColumnElement[int]]:
    """What the books of a bucket say: its row and its shares together."""
    return [
        sa.func.coalesce(_usage.c[name], constant("0"))
        + sa.func.coalesce(
            sa.select(sa.func.sum(_shares.c[name])).where(_shares.c.bucket_id == bucket).scalar_subquery(),
            constant("0"),
        )
        for name in ("objects", "versions", "bytes")
    ]


_OF_BUCKET = Statement(
    sa.select(*_with_shares(_buckets.c.id))
    .select_from(_buckets.outerjoin(_usage, _usage.c.bucket_id == _buckets.c.id))
    .where(_buckets.c.id == parameter("p_bucket")),
    "p_bucket",
)
_BEGIN = Statement(sa.insert(_usage), "bucket_id", "objects", "versions", "bytes")
_END = Statement(sa.delete(_usage).where(_usage.c.bucket_id == parameter("p_bucket")), "p_bucket")
_END_SHARES = Statement(sa.delete(_shares).where(_shares.c.bucket_id == parameter("p_bucket")), "p_bucket")
# Beside the size of what a PUT would replace; no row for a bucket without books.
_BEFORE_PUT = Statement(
    sa.select(_with_shares(_usage.c.bucket_id)[2], _objects.c.size)
    .select_from(
        _usage.outerjoin(
            _objects,
            sa.and_(_objects.c.bucket_id == _usage.c.bucket_id, _objects.c.key == parameter("p_key")),
        )
    )
    .where(_usage.c.bucket_id == parameter("p_bucket")),
    "p_key",
    "p_bucket",
)
_REPORT = (
    sa.select(
        _buckets.c.id,
        _buckets.c.name,
        _buckets.c.created_ms,
        _buckets.c.versioning,
        _buckets.c.quota_bytes,
        *_with_shares(_buckets.c.id),
    )
    .select_from(_buckets.outerjoin(_usage, _usage.c.bucket_id == _buckets.c.id))
    .order_by(_buckets.c.name)
)
_LIST = Statement(page(_REPORT.where(_buckets.c.name > parameter("p_after"))), "p_after", "limit")
_BY_NAME = Statement(_REPORT.where(_buckets.c.name == parameter("p_name")), "p_name")
_OPEN_UPLOADS = Statement(
    sa.select(sa.func.count())
    .select_from(schema.uploads)
    .where(schema.uploads.c.bucket_id == parameter("p_bucket")),
    "p_bucket",
)


def total(name: str) -> sa.ColumnElement[int]:
    """What the books of all buckets say together of `objects`, `versions` or `bytes`."""
    sums = (
        sa.select(sa.func.coalesce(sa.func.sum(table.c[name]), constant("0"))).scalar_subquery()
        for table in (_usage, _shares)
    )
    return next(sums) + next(sums)


_TOTALS = Statement(sa.select(total("objects"), total("versions"), total("bytes")))
_BUCKETS = Statement(sa.select(sa.func.count()).select_from(_buckets))


def _counted(table: sa.Table) -> Statement:
    query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(table.c.size), constant("0")))
    return Statement(query.where(table.c.bucket_id == parameter("p_bucket")), "p_bucket")


_COUNT_OBJECTS = _counted(schema.objects)
_COUNT_VERSIONS = _counted(schema.versions)


class BucketReport(Struct, frozen=True):
    """A bucket and what lies in it, as of one moment."""

    id: int
    name: str
    created_ms: int
    versioning: Versioning
    quota_bytes: int | None
    usage: Usage


class Recount(Struct, frozen=True):
    """The books of a bucket beside what a count of its rows gave at the same moment."""

    bucket_id: int
    stored: Usage
    counted: Usage
    corrections: int
    """Of the whole store, before this count."""

    @property
    def agrees(self) -> bool:
        """Whether the books are right."""
        return self.stored == self.counted


def begin(tx: Transaction, bucket_id: int) -> None:
    """Open the books of a new bucket."""
    tx.execute(_BEGIN, (bucket_id, 0, 0, 0))


def end(tx: Transaction, bucket_id: int) -> None:
    """Close the books of a deleted bucket."""
    tx.execute(_END, (bucket_id,))
    tx.execute(_END_SHARES, (bucket_id,))
    tx.usage.cancel(bucket_id)


def check_quota(tx: Transaction, bucket_id: int, quota_bytes: int, more_bytes: int) -> None:
    """Whether a write that makes the bucket larger by `more_bytes` keeps within its quota, after all that this
    transaction has done already; what does not make it larger always does. Raises QuotaExceeded."""
    if more_bytes <= 0:
        return
    _refuse_above(quota_bytes, (_stored(tx, bucket_id) + tx.usage.of(bucket_id)).bytes, more_bytes)


async def check_before_body(catalog: Catalog, bucket: Bucket, key: bytes, size: int) -> None:
    """Whether a PUT of `size` bytes would keep within the quota as things are now, so that what can't be committed
    need not be sent. The transaction decides (`check_quota`), and it alone where versioning is suspended: the null
    version, which makes room there, may lie among the older ones. Raises QuotaExceeded."""
    if bucket.quota_bytes is None or bucket.versioning is Versioning.SUSPENDED:
        return
    rows = await catalog.point(_BEFORE_PUT, (key, bucket.id))
    used_bytes, replaced_bytes = rows[0] if rows else (0, None)
    more_bytes = size if bucket.is_versioned else size - (replaced_bytes or 0)
    if more_bytes > 0:
        _refuse_above(bucket.quota_bytes, used_bytes, more_bytes)


def _refuse_above(quota_bytes: int, used_bytes: int, more_bytes: int) -> None:
    if used_bytes + more_bytes > quota_bytes:
        raise QuotaExceeded(quota_bytes, used_bytes, more_bytes)


def _stored(reader: Reader, bucket_id: int) -> Usage:
    row = reader.row(_OF_BUCKET, (bucket_id,))
    return NOTHING if row is None else Usage(*row)


def listed(reader: Reader, *, after: str = "", limit: int = 1000) -> list[BucketReport]:
    """Buckets by name from `after` on (exclusive)."""
    return [_report(row) for row in reader.rows(_LIST, (after, limit))]


def of_bucket(reader: Reader, name: str) -> BucketReport:
    """One bucket. Raises NoSuchBucket."""
    row = reader.row(_BY_NAME, (name,))
    if row is None:
        raise NoSuchBucket(name)
    return _report(row)


def _report(row: Row) -> BucketReport:
    return BucketReport(row[0], row[1], row[2], Versioning(row[3]), row[4], Usage(*row[5:]))


def open_uploads(reader: Reader, bucket_id: int) -> int:
    """How many multipart uploads of the bucket are neither completed nor aborted."""
    row = reader.row(_OPEN_UPLOADS, (bucket_id,))
    assert row is not None
    count: int = row[0]
    return count


def totals(reader: Reader) -> tuple[int, Usage]:
    """The number of buckets, and what lies in all of them together. Reads one row a bucket."""
    number, sums = reader.row(_BUCKETS), reader.row(_TOTALS)
    assert number is not None
    assert sums is not None
    return number[0], Usage(*sums)


def recount(reader: Reader, bucket_id: int) -> Recount:
    """Count the bucket's rows (all of them: 0.2 s a million) and set that beside the books. Run it in a read
    thread, where both are of one moment (`Catalog.read`)."""
    objects, versions = reader.row(_COUNT_OBJECTS, (bucket_id,)), reader.row(_COUNT_VERSIONS, (bucket_id,))
    assert objects is not None
    assert versions is not None
    return Recount(
        bucket_id=bucket_id,
        stored=_stored(reader, bucket_id),
        counted=Usage(objects[0], objects[0] + versions[0], objects[1] + versions[1]),
        corrections=_corrections(reader),
    )


def correct(tx: Transaction, found: Recount) -> None:
    """Put the books right by what a recount has found. Writes since then don't matter, since they add differences;
    another correction does: raises Changed after one, then count again. Raises NoSuchBucket."""
    if tx.row(_BUCKET_EXISTS, (found.bucket_id,)) is None:
        raise NoSuchBucket("the bucket was deleted")
    if _corrections(tx) != found.corrections:
        raise Changed("the books were corrected meanwhile")
    write(tx, found.bucket_id, found.counted - found.stored)
    progress.write(tx, _CORRECTIONS, b"%d" % (found.corrections + 1))


_BUCKET_EXISTS = Statement(sa.select(_buckets.c.id).where(_buckets.c.id == parameter("p_id")), "p_id")


def _corrections(reader: Reader) -> int:
    return int(progress.read(reader, _CORRECTIONS) or 0)
