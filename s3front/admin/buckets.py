"""``/buckets``: what lies in each bucket, and how much may. They are created and deleted over S3."""

from __future__ import annotations

from typing import Annotated

import msgspec

from catalog import buckets, usage
from catalog.errors import NoSuchBucket
from catalog.statement import Reader
from catalog.transaction import Transaction
from catalog.usage import BucketReport
from cluster.reports.moments import At, iso_at
from s3front.admin.endpoint import Call, Endpoint
from s3front.admin.problem import Problem, not_found
from s3front.admin.services import AdminServices

LIMIT_MAX = 1000
QUOTA_BYTES_MAX = 1 << 60


class BucketInfo(msgspec.Struct, frozen=True):
    """`objects`: keys that a listing shows. `versions`: all versions, the current ones and delete markers too.
    `bytes`: of all versions, as their owner counts them. Uploads that are not completed are in none of these."""

    name: str
    created_at: At
    versioning: Annotated[str, msgspec.Meta(description="never, enabled or suspended")]
    objects: int
    versions: int
    bytes: int
    quota_bytes: Annotated[
        int | None, msgspec.Meta(description="how large `bytes` may become; null: no limit")
    ]


class BucketDetail(BucketInfo, frozen=True):
    """A bucket with what takes longer to count."""

    open_uploads: Annotated[
        int,
        msgspec.Meta(description="multipart uploads neither completed nor aborted; their parts use space"),
    ]


class BucketPage(msgspec.Struct, frozen=True):
    """Buckets by name. `next_after` is the next page's `after`; null at the end."""

    buckets: list[BucketInfo]
    next_after: str | None


class BucketPageQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which page."""

    after: Annotated[str, msgspec.Meta(max_length=63, description="buckets with greater names only")] = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=LIMIT_MAX)] = LIMIT_MAX


class QuotaChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A quota below what lies in the bucket deletes nothing: it refuses whatever would make the bucket larger."""

    quota_bytes: Annotated[
        Annotated[int, msgspec.Meta(ge=0, le=QUOTA_BYTES_MAX)] | None,
        msgspec.Meta(description="of all versions together; null: no limit", examples=[10 << 30]),
    ]


def bucket_info(report: BucketReport) -> BucketInfo:
    """A bucket as it is shown."""
    used = report.usage
    return BucketInfo(
        name=report.name,
        created_at=iso_at(report.created_ms),
        versioning=report.versioning.name.lower(),
        objects=used.objects,
        versions=used.versions,
        bytes=used.bytes,
        quota_bytes=report.quota_bytes,
    )


def bucket_detail(reader: Reader, name: str) -> BucketDetail:
    """One bucket as it is shown by itself. Raises NoSuchBucket."""
    report = usage.of_bucket(reader, name)
    shown = msgspec.structs.asdict(bucket_info(report))
    return BucketDetail(**shown, open_uploads=usage.open_uploads(reader, report.id))


def change_quota(tx: Transaction, name: str, quota_bytes: int | None) -> None:
    """Raises NoSuchBucket."""
    buckets.set_quota(tx, usage.of_bucket(tx, name).id, quota_bytes)


async def _list(services: AdminServices, call: Call) -> BucketPage:
    """One more row than asked for says whether there is another page."""
    query: BucketPageQuery = call.query
    rows = await services.front.catalog.read(
        lambda reader: usage.listed(reader, after=query.after, limit=query.limit + 1)
    )
    page = [bucket_info(row) for row in rows[: query.limit]]
    return BucketPage(page, page[-1].name if len(rows) > len(page) else None)


async def _get(services: AdminServices, call: Call) -> BucketDetail:
    return await _detail(services, call.path["bucket"])


async def _set_quota(services: AdminServices, call: Call) -> BucketDetail:
    name = call.path["bucket"]
    change: QuotaChange = call.body
    try:
        await services.front.catalog.write(
            lambda tx: change_quota(tx, name, change.quota_bytes),
            frees=True,  # a limit must be possible while the disk is full
        )
    except NoSuchBucket:
        raise _no_such(name) from None
    return await _detail(services, name)


async def _detail(services: AdminServices, name: str) -> BucketDetail:
    try:
        return await services.front.catalog.read(lambda reader: bucket_detail(reader, name))
    except NoSuchBucket:
        raise _no_such(name) from None


def _no_such(name: str) -> Problem:
    return not_found("bucket", name)


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "GET",
        "/buckets",
        "listBuckets",
        "List buckets with what lies in them and how much may",
        _list,
        BucketPage,
        BucketPageQuery,
    ),
    Endpoint(
        "GET",
        "/buckets/{bucket}",
        "getBucket",
        "Look at one bucket: objects, versions, bytes, quota, open uploads",
        _get,
        BucketDetail,
    ),
    Endpoint(
        "PUT",
        "/buckets/{bucket}/quota",
        "setBucketQuota",
        "Limit the bytes in a bucket, or no longer; true for the very next request to any front",
        _set_quota,
        BucketDetail,
        body=QuotaChange,
    ),
)
