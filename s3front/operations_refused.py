"""The rows of operations that are refused, each with the reason. Requests that mean them are never taken for others."""

from __future__ import annotations

from s3front import errors
from s3front.handlers.refusals import refuser, restore_object
from s3front.operation import Operation, Target

_not_implemented = refuser(errors.NotImplementedS3, "The operation is not implemented by this store.")
_not_allowed = refuser(errors.MethodNotAllowed, "The specified method is not allowed against this resource.")

_TABLES = "Metadata tables need Apache Iceberg tables beside the store."
_ANNOTATIONS = "Annotations are not kept; tags and user metadata are."
_DIRECTORY = "There are no directory buckets: every bucket is a general purpose bucket."


def _table(name: str, method: str, subresource: str, action: str) -> Operation:
    return Operation(
        name, method, "bucket", action, _not_implemented, subresource, support="refused", note=_TABLES
    )


def _annotation(name: str, method: str, action: str, parameter: str = "") -> Operation:
    return Operation(
        name,
        method,
        "object",
        action,
        _not_implemented,
        "annotation",
        parameter=parameter,
        support="refused",
        note=_ANNOTATIONS,
    )


def _directory(name: str, target: Target, subresource: str, action: str, note: str) -> Operation:
    return Operation(name, "GET", target, action, _not_implemented, subresource, support="refused", note=note)


REFUSED: tuple[Operation, ...] = (
    _table(
        "CreateBucketMetadataConfiguration",
        "POST",
        "metadataConfiguration",
        "s3:CreateBucketMetadataTableConfiguration",
    ),
    _table(
        "GetBucketMetadataConfiguration",
        "GET",
        "metadataConfiguration",
        "s3:GetBucketMetadataTableConfiguration",
    ),
    _table(
        "DeleteBucketMetadataConfiguration",
        "DELETE",
        "metadataConfiguration",
        "s3:DeleteBucketMetadataTableConfiguration",
    ),
    _table(
        "CreateBucketMetadataTableConfiguration",
        "POST",
        "metadataTable",
        "s3:CreateBucketMetadataTableConfiguration",
    ),
    _table(
        "GetBucketMetadataTableConfiguration",
        "GET",
        "metadataTable",
        "s3:GetBucketMetadataTableConfiguration",
    ),
    _table(
        "DeleteBucketMetadataTableConfiguration",
        "DELETE",
        "metadataTable",
        "s3:DeleteBucketMetadataTableConfiguration",
    ),
    _table(
        "UpdateBucketMetadataAnnotationTableConfiguration",
        "PUT",
        "metadataAnnotationTable",
        "s3:UpdateBucketMetadataAnnotationTableConfiguration",
    ),
    _table(
        "UpdateBucketMetadataInventoryTableConfiguration",
        "PUT",
        "metadataInventoryTable",
        "s3:UpdateBucketMetadataInventoryTableConfiguration",
    ),
    _table(
        "UpdateBucketMetadataJournalTableConfiguration",
        "PUT",
        "metadataJournalTable",
        "s3:UpdateBucketMetadataJournalTableConfiguration",
    ),
    _annotation("GetObjectAnnotation", "GET", "s3:GetObjectAnnotation", "annotationName"),
    _annotation("ListObjectAnnotations", "GET", "s3:ListObjectAnnotations"),
    _annotation("PutObjectAnnotation", "PUT", "s3:PutObjectAnnotation"),
    _annotation("DeleteObjectAnnotation", "DELETE", "s3:DeleteObjectAnnotation"),
    _directory("CreateSession", "bucket", "session", "s3express:CreateSession", _DIRECTORY),
    _directory(
        "ListDirectoryBuckets",
        "service",
        "max-directory-buckets",
        "s3express:ListAllMyDirectoryBuckets",
        f"{_DIRECTORY} SDKs ask another endpoint; asked here without a parameter, it is ListBuckets.",
    ),
    Operation(
        "GetObjectTorrent",
        "GET",
        "object",
        "s3:GetObjectTorrent",
        refuser(errors.NoSuchKey, "There is no torrent of this object."),
        "torrent",
        support="refused",
        note="AWS does not serve torrents any more either.",
    ),
    Operation(
        "RestoreObject",
        "POST",
        "object",
        "s3:RestoreObject",
        restore_object,
        "restore",
        support="refused",
        note="Nothing is ever archived: every object of every storage class can be read at once.",
    ),
    Operation(
        "SelectObjectContent",
        "POST",
        "object",
        "s3:GetObject",
        _not_allowed,
        "select",
        support="refused",
        note="AWS does not offer it to new customers any more; clients can query what they read.",
    ),
    Operation(
        "UpdateObjectEncryption",
        "PUT",
        "object",
        "s3:UpdateObjectEncryption",
        _not_implemented,
        "encryption",
        support="refused",
        note="CopyObject onto the same key changes the encryption.",
    ),
    Operation(
        "WriteGetObjectResponse",
        "POST",
        "bucket",
        "s3-object-lambda:WriteGetObjectResponse",
        _not_implemented,
        header="x-amz-request-route",
        support="refused",
        note="There is no Object Lambda.",
    ),
)
