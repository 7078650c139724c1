"""Faults of the catalog and the cluster become S3 errors here and nowhere else (STYLE 17)."""

from __future__ import annotations

from catalog import errors as catalog_errors
from catalog.errors import CatalogError
from cluster import errors as cluster_errors
from cluster.errors import ClusterError
from s3front import errors as s3
from s3front.errors import S3Error
from s3front.handlers.owner import OWNER_ID
from s3front.request import Request


def to_s3_error(  # noqa: PLR0911, PLR0912 - a table, written as a match
    fault: CatalogError | ClusterError, request: Request
) -> S3Error:
    """The S3 error that tells a client about `fault`; InternalError for what it could not have caused or helped."""
    match fault:
        case catalog_errors.NoSuchBucket():
            return s3.NoSuchBucket(BucketName=request.bucket)
        case catalog_errors.BucketExists(owner=owner) if owner == OWNER_ID:
            return s3.BucketAlreadyOwnedByYou(BucketName=request.bucket)
        case catalog_errors.BucketExists():
            return s3.BucketAlreadyExists(BucketName=request.bucket)
        case catalog_errors.BucketNotEmpty():
            return s3.BucketNotEmpty(BucketName=request.bucket)
        case catalog_errors.QuotaExceeded():
            return s3.QuotaExceeded(BucketName=request.bucket, QuotaBytes=fault.quota_bytes)
        case catalog_errors.NoSuchKey():
            return s3.NoSuchKey(Key=(request.key or b"").decode())
        case catalog_errors.NoSuchVersion():
            return s3.NoSuchVersion(Key=(request.key or b"").decode(), VersionId=fault.version_id)
        case catalog_errors.IsDeleteMarker():
            return s3.MethodNotAllowed(
                Method=request.method,
                ResourceType="DeleteMarker",
                headers=[(b"x-amz-delete-marker", b"true"), (b"x-amz-version-id", fault.version_id.encode())],
            )
        case catalog_errors.ObjectLocked():
            return s3.AccessDenied("Access Denied because object protected by object lock.")
        case catalog_errors.VersioningLocked():
            return s3.InvalidBucketState(
                "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed."
            )
        case catalog_errors.PreconditionFailed():
            return s3.PreconditionFailed(Condition=fault.condition)
        case catalog_errors.NoSuchUpload():
            return s3.NoSuchUpload(UploadId=request.query.get("uploadId", ""))
        case catalog_errors.InvalidPart():
            return s3.InvalidPart(PartNumber=fault.number)
        case catalog_errors.InvalidPartOrder():
            return s3.InvalidPartOrder()
        case catalog_errors.EntityTooSmall():
            return s3.EntityTooSmall(
                PartNumber=fault.number,
                ETag=fault.etag,
                ProposedSize=fault.part_bytes,
                MinSizeAllowed=fault.part_bytes_min,
            )
        case catalog_errors.TextRefused():
            return s3.InvalidArgument("Text can't contain a NUL character.")
        case catalog_errors.Changed():
            return s3.OperationAborted()
        case (
            catalog_errors.HorizonPassed()
            | catalog_errors.HolderRemoved()
            | catalog_errors.CatalogBusy()
            | cluster_errors.BudgetFull()
        ):
            return s3.SlowDown()
        case (
            catalog_errors.CatalogFull()
            | catalog_errors.CommitUnknown()
            | catalog_errors.BlobAbandoned()
            | ClusterError()
        ):
            return s3.ServiceUnavailable()
        case _:
            return s3.InternalError()
