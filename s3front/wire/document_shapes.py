"""What the configurations look like that are kept and handed back (see ``shapes`` for the notation).

From the data types of the API reference: https://docs.aws.amazon.com/AmazonS3/latest/API/API_Types_Amazon_Simple_Storage_Service.html
"""

from __future__ import annotations

from s3front.wire.shapes import BOOLEAN, NUMBER, TEXT, Shape, one_of

_ON_OR_OFF = one_of("Enabled", "Disabled")
_TAG: Shape = {"Key!": TEXT, "Value!": TEXT}
_FILTER: Shape = {"Prefix": TEXT, "Tag": _TAG, "And": {"Prefix": TEXT, "Tag*": _TAG}}

GRANTEE: Shape = {
    "@xsi:type!": one_of("CanonicalUser", "AmazonCustomerByEmail", "Group"),
    "DisplayName": TEXT,
    "EmailAddress": TEXT,
    "ID": TEXT,
    "URI": TEXT,
}

ACCESS_CONTROL: Shape = {
    "AccessControlList": {
        "Grant*": {
            "Grantee": GRANTEE,
            "Permission": one_of("FULL_CONTROL", "WRITE", "WRITE_ACP", "READ", "READ_ACP"),
        }
    },
    "Owner": {"DisplayName": TEXT, "ID": TEXT},
}

ABAC: Shape = {"Status": _ON_OR_OFF}

ACCELERATE: Shape = {"Status": one_of("Enabled", "Suspended")}

ANALYTICS: Shape = {
    "Id!": TEXT,
    "Filter": _FILTER,
    "StorageClassAnalysis!": {
        "DataExport": {
            "OutputSchemaVersion!": one_of("V_1"),
            "Destination!": {
                "S3BucketDestination!": {
                    "Format!": one_of("CSV"),
                    "BucketAccountId": TEXT,
                    "Bucket!": TEXT,
                    "Prefix": TEXT,
                }
            },
        }
    },
}

CORS: Shape = {
    "CORSRule+": {
        "ID": TEXT,
        "AllowedHeader*": TEXT,
        "AllowedMethod+": TEXT,
        "AllowedOrigin+": TEXT,
        "ExposeHeader*": TEXT,
        "MaxAgeSeconds": NUMBER,
    }
}

INTELLIGENT_TIERING: Shape = {
    "Id!": TEXT,
    "Filter": _FILTER,
    "Status!": _ON_OR_OFF,
    "Tiering+": {"Days!": NUMBER, "AccessTier!": one_of("ARCHIVE_ACCESS", "DEEP_ARCHIVE_ACCESS")},
}

INVENTORY: Shape = {
    "Destination!": {
        "S3BucketDestination!": {
            "AccountId": TEXT,
            "Bucket!": TEXT,
            "Format!": one_of("CSV", "ORC", "Parquet"),
            "Prefix": TEXT,
            "Encryption": {"SSE-S3": {}, "SSE-KMS": {"KeyId!": TEXT}},
        }
    },
    "IsEnabled!": BOOLEAN,
    "Filter": {"Prefix!": TEXT},
    "Id!": TEXT,
    "IncludedObjectVersions!": one_of("All", "Current"),
    "OptionalFields": {
        "Field*": one_of(
            *("Size", "LastModifiedDate", "StorageClass", "ETag", "IsMultipartUploaded", "ReplicationStatus"),
            *("EncryptionStatus", "ObjectLockRetainUntilDate", "ObjectLockMode", "ObjectLockLegalHoldStatus"),
            *("ObjectLockEventHoldStatus", "ObjectLockEventHoldDuration", "IntelligentTieringAccessTier"),
            *("BucketKeyStatus", "ChecksumAlgorithm", "ObjectAccessControlList", "ObjectOwner"),
            *("LifecycleExpirationDate", "IntelligentTieringReferenceDate"),
        )
    },
    "Schedule!": {"Frequency!": one_of("Daily", "Weekly")},
}

LOGGING: Shape = {
    "LoggingEnabled": {
        "TargetBucket!": TEXT,
        "TargetGrants": {
            "Grant*": {"Grantee": GRANTEE, "Permission": one_of("FULL_CONTROL", "READ", "WRITE")}
        },
        "TargetPrefix!": TEXT,
        "TargetObjectKeyFormat": {
            "SimplePrefix": {},
            "PartitionedPrefix": {"PartitionDateSource": one_of("EventTime", "DeliveryTime")},
        },
    }
}

METRICS: Shape = {
    "Id!": TEXT,
    "Filter": {
        "Prefix": TEXT,
        "Tag": _TAG,
        "AccessPointArn": TEXT,
        "And": {"Prefix": TEXT, "Tag*": _TAG, "AccessPointArn": TEXT},
    },
}

_EVENT = one_of(
    "s3:ReducedRedundancyLostObject",
    *(f"s3:ObjectCreated:{what}" for what in ("*", "Put", "Post", "Copy", "CompleteMultipartUpload")),
    *(f"s3:ObjectRemoved:{what}" for what in ("*", "Delete", "DeleteMarkerCreated")),
    *(f"s3:ObjectRestore:{what}" for what in ("*", "Post", "Completed")),
    *(
        f"s3:Replication:{what}"
        for what in (
            *("*", "OperationFailedReplication", "OperationNotTracked", "OperationMissedThreshold"),
            "OperationReplicatedAfterThreshold",
        )
    ),
    *("s3:ObjectRestore:Delete", "s3:LifecycleTransition", "s3:IntelligentTiering", "s3:ObjectAcl:Put"),
    *(f"s3:LifecycleExpiration:{what}" for what in ("*", "Delete", "DeleteMarkerCreated")),
    *(f"s3:ObjectTagging:{what}" for what in ("*", "Put", "Delete")),
    *(f"s3:ObjectAnnotation:{what}" for what in ("*", "Put", "Delete")),
    "s3:ObjectRetention:Put",
)


def _notified(target: str) -> Shape:
    rule: Shape = {"Name": one_of("prefix", "suffix"), "Value": TEXT}
    return {
        "Id": TEXT,
        f"{target}!": TEXT,
        "Event+": _EVENT,
        "Filter": {"S3Key": {"FilterRule*": rule}},
    }


NOTIFICATION: Shape = {
    "TopicConfiguration*": _notified("Topic"),
    "QueueConfiguration*": _notified("Queue"),
    "CloudFunctionConfiguration*": _notified("CloudFunction"),
    "EventBridgeConfiguration": {},
}

OWNERSHIP: Shape = {
    "Rule+": {"ObjectOwnership!": one_of("BucketOwnerPreferred", "ObjectWriter", "BucketOwnerEnforced")}
}

PUBLIC_ACCESS: Shape = {
    "BlockPublicAcls": BOOLEAN,
    "IgnorePublicAcls": BOOLEAN,
    "BlockPublicPolicy": BOOLEAN,
    "RestrictPublicBuckets": BOOLEAN,
}

REPLICATION: Shape = {
    "Role!": TEXT,
    "Rule+": {
        "ID": TEXT,
        "Priority": NUMBER,
        "Prefix": TEXT,
        "Filter": _FILTER,
        "Status!": _ON_OR_OFF,
        "SourceSelectionCriteria": {
            "SseKmsEncryptedObjects": {"Status!": _ON_OR_OFF},
            "ReplicaModifications": {"Status!": _ON_OR_OFF},
        },
        "ExistingObjectReplication": {"Status!": _ON_OR_OFF},
        "Destination!": {
            "Bucket!": TEXT,
            "Account": TEXT,
            "StorageClass": one_of(
                *("STANDARD", "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING"),
                *("GLACIER", "DEEP_ARCHIVE", "OUTPOSTS", "GLACIER_IR", "SNOW", "EXPRESS_ONEZONE"),
                *("FSX_OPENZFS", "FSX_ONTAP", "AWS_BACKUP_WARM", "AWS_BACKUP_LOW_COST_WARM"),
            ),
            "AccessControlTranslation": {"Owner!": one_of("Destination")},
            "EncryptionConfiguration": {"ReplicaKmsKeyID": TEXT},
            "ReplicationTime": {"Status!": _ON_OR_OFF, "Time!": {"Minutes": NUMBER}},
            "Metrics": {"Status!": _ON_OR_OFF, "EventThreshold": {"Minutes": NUMBER}},
        },
        "DeleteMarkerReplication": {"Status": _ON_OR_OFF},
    },
}

REQUEST_PAYMENT: Shape = {"Payer!": one_of("Requester", "BucketOwner")}

WEBSITE: Shape = {
    "ErrorDocument": {"Key!": TEXT},
    "IndexDocument": {"Suffix!": TEXT},
    "RedirectAllRequestsTo": {"HostName!": TEXT, "Protocol": one_of("http", "https")},
    "RoutingRules": {
        "RoutingRule*": {
            "Condition": {"HttpErrorCodeReturnedEquals": TEXT, "KeyPrefixEquals": TEXT},
            "Redirect!": {
                "HostName": TEXT,
                "HttpRedirectCode": TEXT,
                "Protocol": one_of("http", "https"),
                "ReplaceKeyPrefixWith": TEXT,
                "ReplaceKeyWith": TEXT,
            },
        }
    },
}
