"""What AWS asks of configurations beyond their shape. The parts that are read here have been checked to be there."""

from __future__ import annotations

from catalog.model import Bucket, Versioning
from s3front.errors import InvalidArgument, InvalidRequest, MalformedXML
from s3front.wire.xml import Element

CORS_RULES_MAX = 100
REPLICATION_RULES_MAX = 1000
CORS_METHODS = ("GET", "PUT", "HEAD", "POST", "DELETE")


def anything(root: Element, bucket: Bucket) -> None:
    """The shape says it all."""


def accelerate(root: Element, bucket: Bucket) -> None:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketAccelerateConfiguration.html"""
    if "." in bucket.name:
        raise InvalidRequest(
            "S3 Transfer Acceleration is not supported for buckets with periods (.) in their names"
        )
    root.required_text("Status")


def cors(root: Element, bucket: Bucket) -> None:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketCors.html"""
    rules = root.children("CORSRule")
    if len(rules) > CORS_RULES_MAX:
        raise MalformedXML
    for rule in rules:
        for method in rule.children("AllowedMethod"):
            if method.content not in CORS_METHODS:
                raise InvalidRequest(
                    f"Found unsupported HTTP method in CORS config. Unsupported method is {method.content}"
                )
        for name in ("AllowedOrigin", "AllowedHeader"):
            for value in rule.children(name):
                if value.content.count("*") > 1:
                    raise InvalidRequest(f'{name} "{value.content}" can not have more than one wildcard.')


def ownership(root: Element, bucket: Bucket) -> None:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketOwnershipControls.html"""
    if len(root.children("Rule")) != 1:
        raise MalformedXML


def replication(root: Element, bucket: Bucket) -> None:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketReplication.html"""
    if bucket.versioning is not Versioning.ENABLED:
        raise InvalidRequest(
            "Versioning must be 'Enabled' on the bucket to apply a replication configuration"
        )
    rules = root.children("Rule")
    if len(rules) > REPLICATION_RULES_MAX:
        raise InvalidRequest(
            "The number of replication rules must not exceed the allowed limit of 1000 rules."
        )
    named = [name for rule in rules if (name := rule.text("ID"))]
    if len(set(named)) != len(named):
        raise InvalidRequest(
            "Found duplicate ID(s) in the replication configuration. Rule IDs must be unique."
        )


def website(root: Element, bucket: Bucket) -> None:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketWebsite.html"""
    names = [child.name for child in root]
    if "RedirectAllRequestsTo" in names:
        if len(names) > 1:
            raise InvalidRequest(
                "RedirectAllRequestsTo cannot be provided in conjunction with other Routing Rules."
            )
        return
    index = root.child("IndexDocument")
    if index is None:
        raise InvalidArgument(
            "A value for IndexDocument Suffix must be provided if RedirectAllRequestsTo is empty",
            ArgumentName="IndexDocument",
            ArgumentValue="null",
        )
    suffix = index.text("Suffix") or ""
    if not suffix or "/" in suffix:
        raise InvalidArgument(
            "The IndexDocument Suffix is not well formed", ArgumentName="IndexDocument", ArgumentValue=suffix
        )
