"""The table of all operations: what request means which S3 operation, which action it needs, who handles it.

Names are AWS's, so that a reader with the API reference finds them. A row cannot be built without an action, so there
is no operation that authorisation could miss (STYLE 5). Every operation of AWS's service model is a row, also what is
refused, so that no request is taken for another one (docs/s3-compatibility.md is written from it).
"""

from __future__ import annotations

from s3front.errors import AccessForbidden, BadRequest, InvalidArgument, MethodNotAllowed
from s3front.handlers import (
    bucket_encryption,
    bucket_versioning,
    buckets,
    copy,
    delete,
    lifecycle,
    list_objects,
    list_versions,
    multipart,
    multipart_complete,
    object_attributes,
    object_lock,
    objects_get,
    objects_put,
    rename,
    tagging,
)
from s3front.operation import Operation, Target
from s3front.operations_refused import REFUSED
from s3front.operations_stored import ACCESS, STORED
from s3front.request import Request

_APPENDS = (
    "Appending (`x-amz-write-offset-bytes`) works in every bucket; AWS has it in directory buckets only. A copy does "
    "not reset its count of at most 10,000 pieces."
)
_LISTS_IGNORED = "Access control lists in its headers are ignored: everything stays private."
_CLASSES = "Of the storage classes only REDUCED_REDUNDANCY is stored otherwise than STANDARD."

_DONE: tuple[Operation, ...] = (
    Operation("ListBuckets", "GET", "service", "s3:ListAllMyBuckets", buckets.list_buckets),
    Operation("CreateBucket", "PUT", "bucket", "s3:CreateBucket", buckets.create_bucket, note=_LISTS_IGNORED),
    Operation("HeadBucket", "HEAD", "bucket", "s3:ListBucket", buckets.head_bucket),
    Operation("DeleteBucket", "DELETE", "bucket", "s3:DeleteBucket", buckets.delete_bucket),
    Operation(
        "GetBucketLocation", "GET", "bucket", "s3:GetBucketLocation", buckets.get_bucket_location, "location"
    ),
    Operation("ListObjects", "GET", "bucket", "s3:ListBucket", list_objects.list_objects_v1),
    Operation("ListObjectsV2", "GET", "bucket", "s3:ListBucket", list_objects.list_objects_v2, "list-type"),
    Operation(
        "ListMultipartUploads",
        "GET",
        "bucket",
        "s3:ListBucketMultipartUploads",
        multipart.list_multipart_uploads,
        "uploads",
    ),
    Operation("DeleteObjects", "POST", "bucket", "s3:DeleteObject", delete.delete_objects, "delete"),
    Operation(
        "PutObject",
        "PUT",
        "object",
        "s3:PutObject",
        objects_put.put_object,
        note=f"{_CLASSES} {_LISTS_IGNORED} {_APPENDS}",
    ),
    Operation("GetObject", "GET", "object", "s3:GetObject", objects_get.get_object),
    Operation("HeadObject", "HEAD", "object", "s3:GetObject", objects_get.head_object),
    Operation("DeleteObject", "DELETE", "object", "s3:DeleteObject", delete.delete_object),
    Operation(
        "CopyObject",
        "PUT",
        "object",
        "s3:PutObject",
        copy.copy_object,
        header="x-amz-copy-source",
        note=f"{_CLASSES} {_LISTS_IGNORED}",
    ),
    Operation(
        "CreateMultipartUpload",
        "POST",
        "object",
        "s3:PutObject",
        multipart.create_multipart_upload,
        "uploads",
        note=f"{_CLASSES} {_LISTS_IGNORED}",
    ),
    Operation("UploadPart", "PUT", "object", "s3:PutObject", multipart.upload_part, "uploadId"),
    Operation(
        "UploadPartCopy",
        "PUT",
        "object",
        "s3:PutObject",
        copy.upload_part_copy,
        "uploadId",
        header="x-amz-copy-source",
    ),
    Operation(
        "CompleteMultipartUpload",
        "POST",
        "object",
        "s3:PutObject",
        multipart_complete.complete_multipart_upload,
        "uploadId",
    ),
    Operation(
        "AbortMultipartUpload",
        "DELETE",
        "object",
        "s3:AbortMultipartUpload",
        multipart.abort_multipart_upload,
        "uploadId",
    ),
    Operation("ListParts", "GET", "object", "s3:ListMultipartUploadParts", multipart.list_parts, "uploadId"),
    Operation(
        "GetBucketVersioning",
        "GET",
        "bucket",
        "s3:GetBucketVersioning",
        bucket_versioning.get_bucket_versioning,
        "versioning",
    ),
    Operation(
        "PutBucketVersioning",
        "PUT",
        "bucket",
        "s3:PutBucketVersioning",
        bucket_versioning.put_bucket_versioning,
        "versioning",
        note="There is no MFA delete.",
    ),
    Operation(
        "ListObjectVersions",
        "GET",
        "bucket",
        "s3:ListBucketVersions",
        list_versions.list_object_versions,
        "versions",
    ),
    Operation(
        "GetBucketTagging", "GET", "bucket", "s3:GetBucketTagging", tagging.get_bucket_tagging, "tagging"
    ),
    Operation(
        "PutBucketTagging", "PUT", "bucket", "s3:PutBucketTagging", tagging.put_bucket_tagging, "tagging"
    ),
    Operation(
        "DeleteBucketTagging",
        "DELETE",
        "bucket",
        "s3:PutBucketTagging",
        tagging.delete_bucket_tagging,
        "tagging",
    ),
    Operation(
        "GetObjectTagging", "GET", "object", "s3:GetObjectTagging", tagging.get_object_tagging, "tagging"
    ),
    Operation(
        "PutObjectTagging", "PUT", "object", "s3:PutObjectTagging", tagging.put_object_tagging, "tagging"
    ),
    Operation(
        "DeleteObjectTagging",
        "DELETE",
        "object",
        "s3:DeleteObjectTagging",
        tagging.delete_object_tagging,
        "tagging",
    ),
    Operation(
        "GetObjectLockConfiguration",
        "GET",
        "bucket",
        "s3:GetBucketObjectLockConfiguration",
        object_lock.get_object_lock_configuration,
        "object-lock",
    ),
    Operation(
        "PutObjectLockConfiguration",
        "PUT",
        "bucket",
        "s3:PutBucketObjectLockConfiguration",
        object_lock.put_object_lock_configuration,
        "object-lock",
    ),
    Operation(
        "GetObjectRetention",
        "GET",
        "object",
        "s3:GetObjectRetention",
        object_lock.get_object_retention,
        "retention",
    ),
    Operation(
        "PutObjectRetention",
        "PUT",
        "object",
        "s3:PutObjectRetention",
        object_lock.put_object_retention,
        "retention",
    ),
    Operation(
        "GetObjectLegalHold",
        "GET",
        "object",
        "s3:GetObjectLegalHold",
        object_lock.get_object_legal_hold,
        "legal-hold",
    ),
    Operation(
        "PutObjectLegalHold",
        "PUT",
        "object",
        "s3:PutObjectLegalHold",
        object_lock.put_object_legal_hold,
        "legal-hold",
    ),
    Operation(
        "GetBucketLifecycleConfiguration",
        "GET",
        "bucket",
        "s3:GetLifecycleConfiguration",
        lifecycle.get_bucket_lifecycle_configuration,
        "lifecycle",
        old_name="GetBucketLifecycle",
    ),
    Operation(
        "PutBucketLifecycleConfiguration",
        "PUT",
        "bucket",
        "s3:PutLifecycleConfiguration",
        lifecycle.put_bucket_lifecycle_configuration,
        "lifecycle",
        old_name="PutBucketLifecycle",
    ),
    Operation(
        "DeleteBucketLifecycle",
        "DELETE",
        "bucket",
        "s3:PutLifecycleConfiguration",
        lifecycle.delete_bucket_lifecycle,
        "lifecycle",
    ),
    Operation(
        "GetBucketEncryption",
        "GET",
        "bucket",
        "s3:GetEncryptionConfiguration",
        bucket_encryption.get_bucket_encryption,
        "encryption",
    ),
    Operation(
        "PutBucketEncryption",
        "PUT",
        "bucket",
        "s3:PutEncryptionConfiguration",
        bucket_encryption.put_bucket_encryption,
        "encryption",
    ),
    Operation(
        "DeleteBucketEncryption",
        "DELETE",
        "bucket",
        "s3:PutEncryptionConfiguration",
        bucket_encryption.delete_bucket_encryption,
        "encryption",
    ),
    Operation(
        "GetObjectAttributes",
        "GET",
        "object",
        "s3:GetObjectAttributes",
        object_attributes.get_object_attributes,
        "attributes",
    ),
    Operation("RenameObject", "PUT", "object", "s3:PutObject", rename.rename_object, "renameObject"),
)

OPERATIONS: tuple[Operation, ...] = (*_DONE, *ACCESS, *STORED, *REFUSED)


def _by_shape() -> dict[tuple[Target, str, str], tuple[Operation, ...]]:
    """The rows of each target, method and subresource; those first that ask for something more."""
    rows: dict[tuple[Target, str, str], tuple[Operation, ...]] = {}
    for row in sorted(OPERATIONS, key=lambda row: not (row.header or row.parameter)):
        shape = (row.target, row.method, row.subresource)
        rows[shape] = (*rows.get(shape, ()), row)
    return rows


_BY_SHAPE = _by_shape()
_SUBRESOURCES = frozenset(o.subresource for o in OPERATIONS if o.subresource)
_METHODS = {
    t: sorted({o.method for o in OPERATIONS if o.target == t}) for t in ("service", "bucket", "object")
}


_NO_ORIGIN = "Insufficient information. Origin request header needed."


def find_operation(request: Request) -> Operation:
    """The operation a request means. Raises MethodNotAllowed, and InvalidArgument for several at once; for a browser's
    preflight, which nothing answers yet, BadRequest or AccessForbidden, as AWS does for a bucket without CORS.

    A subresource is never ignored, wherever it stands: what looks like a DELETE of an object's tags must not delete
    the object.
    """
    target: Target = "service" if request.bucket is None else "bucket" if request.key is None else "object"
    if request.method == "OPTIONS":
        raise AccessForbidden if "origin" in request.headers else BadRequest(_NO_ORIGIN)
    subresource = ""
    for name in request.query:
        if name in _SUBRESOURCES:
            if subresource:
                raise InvalidArgument(
                    f"Conflicting query string parameters: {subresource}, {name}",
                    ArgumentName="ResourceType",
                    ArgumentValue=subresource,
                )
            subresource = name
    for operation in _BY_SHAPE.get((target, request.method, subresource), ()):
        if operation.is_meant(request):
            return operation
    raise MethodNotAllowed(
        Method=request.method,
        ResourceType=(subresource or target).upper(),
        headers=[(b"allow", ", ".join(_METHODS[target]).encode())],
    )
