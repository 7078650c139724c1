"""What a group commit adds to the books of its buckets, written once a bucket just before the commit.

A request that is undone leaves nothing here, as it leaves nothing in the tables; so the books are exact after every
crash, and cost one row a bucket and batch, not one a request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from msgspec import Struct

from catalog import schema
from catalog.statement import Statement, parameter

if TYPE_CHECKING:
    from catalog.transaction import Transaction

_usage = schema.bucket_usage

_UPDATE = Statement(
    sa.update(_usage)
    .values(
        objects=_usage.c.objects + parameter("n_objects"),
        versions=_usage.c.versions + parameter("n_versions"),
        bytes=_usage.c.bytes + parameter("n_bytes"),
    )
    .where(_usage.c.bucket_id == parameter("p_bucket")),
    "n_objects",
    "n_versions",
    "n_bytes",
    "p_bucket",
)
_INSERT = Statement(sa.insert(_usage), "bucket_id", "objects", "versions", "bytes")

SHARES = 64
"""So many share rows has a bucket at most."""

_shares = schema.bucket_usage_shares
_UPDATE_SHARE = Statement(
    sa.update(_shares)
    .values(
        objects=_shares.c.objects + parameter("n_objects"),
        versions=_shares.c.versions + parameter("n_versions"),
        bytes=_shares.c.bytes + parameter("n_bytes"),
    )
    .where(_shares.c.bucket_id == parameter("p_bucket"), _shares.c.share == parameter("p_share")),
    "n_objects",
    "n_versions",
    "n_bytes",
    "p_bucket",
    "p_share",
)
_INSERT_SHARE = Statement(sa.insert(_shares), "bucket_id", "share", "objects", "versions", "bytes")


class Usage(Struct, frozen=True):
    """What lies in a bucket, or a difference of it. Parts of open uploads are not in it: they count once their
    upload is completed."""

    objects: int = 0
    """Keys with a current version that is no delete marker."""
    versions: int = 0
    """All versions, the current ones and delete markers too."""
    bytes: int = 0
    """Of all versions, as their owner counts them: before erasure coding, each copy by reference in full."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.objects + other.objects, self.versions + other.versions, self.bytes + other.bytes)

    def __sub__(self, other: Usage) -> Usage:
        return Usage(self.objects - other.objects, self.versions - other.versions, self.bytes - other.bytes)


NOTHING = Usage()


class UsageChanges:
    """Of one batch. Changes of the request under evaluation are undone with it (`undo`) or kept (`keep`). `share`: the
    writer's own rows of the books where several write at once, None where they take turns."""

    __slots__ = ("_changes", "_kept", "share")

    def __init__(self, share: int | None = None) -> None:
        self._changes: list[tuple[int, int, int, int]] = []
        self._kept = 0
        self.share = share

    def add(self, bucket_id: int, objects: int, versions: int, size_bytes: int) -> None:
        """Note a difference, to be called by whoever changed a row that is counted (catalog.version_rows)."""
        self._changes.append((bucket_id, objects, versions, size_bytes))

    def keep(self) -> None:
        """The request stands."""
        self._kept = len(self._changes)

    def undo(self) -> None:
        """The request is refused: forget what it noted."""
        del self._changes[self._kept :]

    def of(self, bucket_id: int) -> Usage:
        """The bucket's difference so far, of the requests kept and of the one under evaluation."""
        return self._sums().get(bucket_id, NOTHING)

    def cancel(self, bucket_id: int) -> None:
        """The bucket is deleted, with its row: nothing is left to be written for it."""
        pending = self.of(bucket_id)
        self.add(bucket_id, -pending.objects, -pending.versions, -pending.bytes)

    def write(self, tx: Transaction) -> None:
        """Bring the rows up to date, once, right before the commit."""
        if not self._changes:
            return
        for bucket_id, change in self._sums().items():
            if change != NOTHING:
                write(tx, bucket_id, change)

    def _sums(self) -> dict[int, Usage]:
        sums: dict[int, list[int]] = {}
        for bucket_id, objects, versions, size_bytes in self._changes:
            total = sums.get(bucket_id)
            if total is None:
                sums[bucket_id] = [objects, versions, size_bytes]
            else:
                total[0] += objects
                total[1] += versions
                total[2] += size_bytes
        return {bucket_id: Usage(*total) for bucket_id, total in sums.items()}


def write(tx: Transaction, bucket_id: int, change: Usage) -> None:
    """Add a difference to the bucket's books. A bucket that a program older than they has created has no row yet."""
    figures = (change.objects, change.versions, change.bytes)
    share = tx.usage.share
    if share is not None:
        if tx.execute(_UPDATE_SHARE, (*figures, bucket_id, share)) != 1:
            tx.execute(_INSERT_SHARE, (bucket_id, share, *figures))
    elif tx.execute(_UPDATE, (*figures, bucket_id)) != 1:
        tx.execute(_INSERT, (bucket_id, *figures))
