"""What the catalog refuses, and why; `s3front.translate` turns these into S3 errors (STYLE 17)."""

from __future__ import annotations


class CatalogError(Exception):
    """Every refusal of this package. A raised one means: nothing of the request was committed."""


class NoSuchBucket(CatalogError):
    """The bucket does not exist (any more)."""


class BucketExists(CatalogError):
    """The name is taken; `owner` says by whom (BucketAlreadyOwnedByYou or BucketAlreadyExists)."""

    def __init__(self, name: str, owner: str) -> None:
        super().__init__(f"bucket {name!r} exists")
        self.name = name
        self.owner = owner


class BucketNotEmpty(CatalogError):
    """The bucket holds objects, versions or delete markers."""


class QuotaExceeded(CatalogError):
    """The bucket would hold more than its quota allows, and more than it holds now."""

    def __init__(self, quota_bytes: int, used_bytes: int, more_bytes: int) -> None:
        super().__init__(f"{used_bytes} bytes of {quota_bytes} are used, {more_bytes} more do not fit")
        self.quota_bytes = quota_bytes


class NoSuchKey(CatalogError):
    """No current object under the key, and the operation needs one."""


class NoSuchVersion(CatalogError):
    """The key has no version of this id; `version_id` names it as the request did."""

    def __init__(self, version_id: str) -> None:
        super().__init__(f"there is no version {version_id}")
        self.version_id = version_id


class IsDeleteMarker(CatalogError):
    """The version is a delete marker, and the operation needs an object; `version_id` as answers show it."""

    def __init__(self, version_id: str) -> None:
        super().__init__(f"version {version_id} is a delete marker")
        self.version_id = version_id


class ObjectLocked(CatalogError):
    """Legal hold or retention forbids it (S26)."""


class RowDamaged(CatalogError):
    """What a row holds can't be read, so that nothing is done with what it is about: it may be locked (S26)."""


class VersioningLocked(CatalogError):
    """Versioning can't be suspended where object lock is enabled, and lock needs versioning."""


class PreconditionFailed(CatalogError):
    """A condition of the request did not hold inside the transaction; `condition` is the header's name."""

    def __init__(self, condition: str) -> None:
        super().__init__(f"{condition} does not hold")
        self.condition = condition


class NoSuchUpload(CatalogError):
    """The multipart upload is not open: never begun, completed or aborted."""


class InvalidPart(CatalogError):
    """A listed part was not uploaded, or its ETag or checksum differs; `number` names it."""

    def __init__(self, number: int) -> None:
        super().__init__(f"part {number} was not found as listed")
        self.number = number


class InvalidPartOrder(CatalogError):
    """The listed part numbers do not rise."""


class EntityTooSmall(CatalogError):
    """A part other than the last is smaller than the least part size."""

    def __init__(self, number: int, etag: str, part_bytes: int, part_bytes_min: int) -> None:
        super().__init__(f"part {number} has {part_bytes} bytes, at least {part_bytes_min} are required")
        self.number = number
        self.etag = etag
        self.part_bytes = part_bytes
        self.part_bytes_min = part_bytes_min


class HorizonPassed(CatalogError):
    """The blob is as old as the collect horizon: its shards may be gone (S19). Upload again: 503."""


class HolderRemoved(CatalogError):
    """A node that is to hold a shard was removed from the store meanwhile (P2). Upload again: 503."""


class BlobAbandoned(CatalogError):
    """The blob is already queued for deletion, because an earlier transaction with it failed: 503."""


class Changed(CatalogError):
    """What the request was prepared from is no longer so (S14): read again and start over."""


class LeaseLost(CatalogError):
    """Another holder has the lease (S22): stop at once whatever it covered."""


class NodeExists(CatalogError):
    """A node of this name or id is registered already."""


class AccessKeyExists(CatalogError):
    """The name is that of another access key."""

    def __init__(self, access_key: str) -> None:
        super().__init__(f"there is an access key {access_key} already")


class NoSuchAccessKey(CatalogError):
    """There is no access key of that name (any more)."""

    def __init__(self, access_key: str) -> None:
        super().__init__(f"there is no access key {access_key}")


class TooManyAccessKeys(CatalogError):
    """As many keys as a store may have (P8)."""

    def __init__(self, keys_max: int) -> None:
        super().__init__(f"there are {keys_max} access keys, and no more are possible: delete some first")


class EncryptionKeyExists(CatalogError):
    """There is an encryption key of that name, or version, already."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is an encryption key {name} already, or somebody else has just rotated it")


class NoSuchEncryptionKey(CatalogError):
    """There is no encryption key of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no encryption key {name}")


class TooManyEncryptionKeys(CatalogError):
    """As many keys, or versions of one, as a store may have (P8)."""

    def __init__(self, keys_max: int) -> None:
        super().__init__(f"there are {keys_max} of them, and no more are possible")


class TextRefused(CatalogError):
    """A text holds what not every database can store: a NUL character."""


class CatalogBusy(CatalogError):
    """Too many writes wait, or the file lock was not had in time (S16, P8): 503 SlowDown."""


class CatalogFull(CatalogError):
    """The catalog's disk is full: only requests that free space pass (S27): 503."""


class CatalogFailed(CatalogError):
    """The database refused or failed; the transaction is known to be rolled back. The log has the cause."""


class CommitUnknown(CatalogError):
    """The catalog closed or failed while the commit was under way; the outcome is not known (S11)."""


class CatalogRefused(CatalogError):
    """Start-up refused: unsafe SQLite (S16), missing catalog or data beside none (S18), newer schema."""
