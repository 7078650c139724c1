"""The rows of configurations that are kept and handed back, of access control lists, and of policies."""

from __future__ import annotations

from s3front import errors
from s3front.handlers import acl, bucket_policy
from s3front.handlers import bucket_documents as kept
from s3front.handlers.bucket_documents import Kind
from s3front.handlers.refusals import refuser
from s3front.operation import Operation

_NOTHING_PUBLIC = "All requests are signed, so nothing is public whatever it says."
_OWNER_ONLY = "Everything belongs to the one account of the store, whose owner has FULL_CONTROL."
_PRIVATE_ONLY = "What gives a right to anybody but the owner is refused (AccessControlListNotSupported)."
_NO_POLICY = "There never is one: access is decided by the role of the key."


def _one(
    noun: str,
    kind: Kind,
    get: str,
    put: str,
    note: str,
    *,
    delete: str = "",
    old_noun: str = "",
) -> tuple[Operation, ...]:
    """The operations on a configuration that a bucket has at most one of; `get`, `put`, `delete`: their actions."""

    def row(verb: str, method: str, action: str, handler: kept.Handler) -> Operation:
        old_name = verb + old_noun if old_noun else ""
        return Operation(
            verb + noun,
            method,
            "bucket",
            action,
            handler,
            kind.name,
            support="stored",
            note=note,
            old_name=old_name,
        )

    rows = (row("Get", "GET", get, kept.getter(kind)), row("Put", "PUT", put, kept.putter(kind)))
    return (*rows, row("Delete", "DELETE", delete, kept.remover(kind))) if delete else rows


def _by_id(noun: str, kind: Kind, get: str, put: str, note: str) -> tuple[Operation, ...]:
    """The operations on configurations that a bucket has several of; `get` and `put`: their actions."""

    def row(name: str, method: str, action: str, handler: kept.Handler, parameter: str = "") -> Operation:
        return Operation(
            name,
            method,
            "bucket",
            action,
            handler,
            kind.name,
            parameter=parameter,
            support="stored",
            note=note,
        )

    return (
        row(f"Get{noun}", "GET", get, kept.getter_by_id(kind), "id"),
        row(f"List{noun}s", "GET", get, kept.lister(kind)),
        row(f"Put{noun}", "PUT", put, kept.putter_by_id(kind)),
        row(f"Delete{noun}", "DELETE", put, kept.remover_by_id(kind)),
    )


STORED: tuple[Operation, ...] = (
    *_one(
        "BucketAbac",
        kept.ABAC,
        "s3:GetBucketAbac",
        "s3:PutBucketAbac",
        "Access is decided by the role of the key, never by tags.",
    ),
    *_one(
        "BucketAccelerateConfiguration",
        kept.ACCELERATE,
        "s3:GetAccelerateConfiguration",
        "s3:PutAccelerateConfiguration",
        "There is no other endpoint to accelerate with.",
    ),
    *_one(
        "BucketCors",
        kept.CORS,
        "s3:GetBucketCORS",
        "s3:PutBucketCORS",
        "Answers carry no CORS headers yet, and OPTIONS is not answered.",
        delete="s3:PutBucketCORS",
    ),
    *_one(
        "BucketLogging",
        kept.LOGGING,
        "s3:GetBucketLogging",
        "s3:PutBucketLogging",
        "No access logs are written to buckets.",
    ),
    *_one(
        "BucketNotificationConfiguration",
        kept.NOTIFICATION,
        "s3:GetBucketNotification",
        "s3:PutBucketNotification",
        "No notifications are sent, and targets are not tried.",
        old_noun="BucketNotification",
    ),
    *_one(
        "BucketOwnershipControls",
        kept.OWNERSHIP,
        "s3:GetBucketOwnershipControls",
        "s3:PutBucketOwnershipControls",
        "Every object belongs to the account of the store.",
        delete="s3:PutBucketOwnershipControls",
    ),
    *_one(
        "PublicAccessBlock",
        kept.PUBLIC_ACCESS,
        "s3:GetBucketPublicAccessBlock",
        "s3:PutBucketPublicAccessBlock",
        _NOTHING_PUBLIC,
        delete="s3:PutBucketPublicAccessBlock",
    ),
    *_one(
        "BucketReplication",
        kept.REPLICATION,
        "s3:GetReplicationConfiguration",
        "s3:PutReplicationConfiguration",
        "Nothing is replicated to other buckets.",
        delete="s3:PutReplicationConfiguration",
    ),
    *_one(
        "BucketRequestPayment",
        kept.REQUEST_PAYMENT,
        "s3:GetBucketRequestPayment",
        "s3:PutBucketRequestPayment",
        "Nobody pays.",
    ),
    *_one(
        "BucketWebsite",
        kept.WEBSITE,
        "s3:GetBucketWebsite",
        "s3:PutBucketWebsite",
        "There is no website endpoint.",
        delete="s3:DeleteBucketWebsite",
    ),
    *_by_id(
        "BucketAnalyticsConfiguration",
        kept.ANALYTICS,
        "s3:GetAnalyticsConfiguration",
        "s3:PutAnalyticsConfiguration",
        "No storage class analysis is made.",
    ),
    *_by_id(
        "BucketIntelligentTieringConfiguration",
        kept.INTELLIGENT_TIERING,
        "s3:GetIntelligentTieringConfiguration",
        "s3:PutIntelligentTieringConfiguration",
        "Objects are not moved between tiers.",
    ),
    *_by_id(
        "BucketInventoryConfiguration",
        kept.INVENTORY,
        "s3:GetInventoryConfiguration",
        "s3:PutInventoryConfiguration",
        "No inventories are written.",
    ),
    *_by_id(
        "BucketMetricsConfiguration",
        kept.METRICS,
        "s3:GetMetricsConfiguration",
        "s3:PutMetricsConfiguration",
        "The metrics of the store are at /-/metrics, whatever it says.",
    ),
)

ACCESS: tuple[Operation, ...] = (
    Operation(
        "GetBucketAcl", "GET", "bucket", "s3:GetBucketAcl", acl.get_bucket_acl, "acl", note=_OWNER_ONLY
    ),
    Operation(
        "PutBucketAcl", "PUT", "bucket", "s3:PutBucketAcl", acl.put_bucket_acl, "acl", note=_PRIVATE_ONLY
    ),
    Operation(
        "GetObjectAcl", "GET", "object", "s3:GetObjectAcl", acl.get_object_acl, "acl", note=_OWNER_ONLY
    ),
    Operation(
        "PutObjectAcl", "PUT", "object", "s3:PutObjectAcl", acl.put_object_acl, "acl", note=_PRIVATE_ONLY
    ),
    Operation(
        "GetBucketPolicy",
        "GET",
        "bucket",
        "s3:GetBucketPolicy",
        bucket_policy.get_bucket_policy,
        "policy",
        note=_NO_POLICY,
    ),
    Operation(
        "PutBucketPolicy",
        "PUT",
        "bucket",
        "s3:PutBucketPolicy",
        refuser(errors.NotImplementedS3, "Bucket policies are not implemented."),
        "policy",
        support="refused",
        note="Access is decided by the role of the key; a policy that is not obeyed would be a trap.",
    ),
    Operation(
        "DeleteBucketPolicy",
        "DELETE",
        "bucket",
        "s3:DeleteBucketPolicy",
        bucket_policy.delete_bucket_policy,
        "policy",
        note=_NO_POLICY,
    ),
    Operation(
        "GetBucketPolicyStatus",
        "GET",
        "bucket",
        "s3:GetBucketPolicyStatus",
        bucket_policy.get_bucket_policy_status,
        "policyStatus",
        note=_NOTHING_PUBLIC,
    ),
)
