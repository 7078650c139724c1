"""The table of all operations: what request means which S3 operation, which action it needs, who handles it.

Names are AWS's, so that a reader with the API reference finds them. A row cannot be built without an action, so there
is no operation that authorisation could miss (STYLE 5).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from s3front.errors import MethodNotAllowed, NotImplementedS3
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
from s3front.request import Request
from s3front.response import Response
from s3front.services import FrontServices

Handler = Callable[[FrontServices, Request], Awaitable[Response]]
Target = Literal["service", "bucket", "object"]


@dataclass(frozen=True, slots=True)
class Operation:
    """One S3 operation.

    `subresource` is the query parameter that tells it from others of the same method and target ("" for none), and
    `copies` says whether it is the one with an ``x-amz-copy-source`` header.
    """

    name: str
    method: str
    target: Target
    action: str
    handler: Handler
    subresource: str = ""
    copies: bool = False

    def __post_init__(self) -> None:
        assert self.action.startswith("s3:"), f"{self.name} needs an action"


OPERATIONS: tuple[Operation, ...] = (
    Operation("ListBuckets", "GET", "service", "s3:ListAllMyBuckets", buckets.list_buckets),
    Operation("CreateBucket", "PUT", "bucket", "s3:CreateBucket", buckets.create_bucket),
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
    Operation("PutObject", "PUT", "object", "s3:PutObject", objects_put.put_object),
    Operation("GetObject", "GET", "object", "s3:GetObject", objects_get.get_object),
    Operation("HeadObject", "HEAD", "object", "s3:GetObject", objects_get.head_object),
    Operation("DeleteObject", "DELETE", "object", "s3:DeleteObject", delete.delete_object),
    Operation("CopyObject", "PUT", "object", "s3:PutObject", copy.copy_object, copies=True),
    Operation(
        "CreateMultipartUpload",
        "POST",
        "object",
        "s3:PutObject",
        multipart.create_multipart_upload,
        "uploads",
    ),
    Operation("UploadPart", "PUT", "object", "s3:PutObject", multipart.upload_part, "uploadId"),
    Operation(
        "UploadPartCopy", "PUT", "object", "s3:PutObject", copy.upload_part_copy, "uploadId", copies=True
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
    ),
    Operation(
        "PutBucketLifecycleConfiguration",
        "PUT",
        "bucket",
        "s3:PutLifecycleConfiguration",
        lifecycle.put_bucket_lifecycle_configuration,
        "lifecycle",
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

UNSUPPORTED_SUBRESOURCES = frozenset(
    """accelerate acl analytics attributes cors encryption intelligent-tiering inventory legal-hold lifecycle logging
    metrics notification object-lock ownershipControls policy policyStatus publicAccessBlock renameObject
    replication requestPayment restore retention select session tagging torrent versions versioning website""".split()
)
"""Subresources of S3 that would change a request's meaning if they were ignored: answered with NotImplemented."""

_BY_SHAPE = {(o.target, o.method, o.subresource, o.copies): o for o in OPERATIONS}
_SUBRESOURCES = frozenset(o.subresource for o in OPERATIONS if o.subresource)
_METHODS = {
    t: sorted({o.method for o in OPERATIONS if o.target == t}) for t in ("service", "bucket", "object")
}


def find_operation(request: Request) -> Operation:
    """The operation a request means. Raises MethodNotAllowed or NotImplementedS3."""
    target: Target = "service" if request.bucket is None else "bucket" if request.key is None else "object"
    subresource = ""
    for name in request.query:
        if name in _SUBRESOURCES and (target, request.method, name, False) in _BY_SHAPE:
            subresource = name
        elif name in UNSUPPORTED_SUBRESOURCES:
            raise NotImplementedS3(Header=name)
    copies = request.method == "PUT" and target == "object" and "x-amz-copy-source" in request.headers
    operation = _BY_SHAPE.get((target, request.method, subresource, copies))
    if operation is None:
        raise MethodNotAllowed(
            Method=request.method,
            ResourceType=target.upper(),
            headers=[(b"allow", ", ".join(_METHODS[target]).encode())],
        )
    return operation
