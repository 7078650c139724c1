"""Configurations of a bucket that tools write and then read back: the same comes back, or AWS's word for none.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html (the operations whose
names begin with PutBucket and GetBucket)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from conformance.suite.conftest import MakeBucket
from conformance.suite.expect import refused


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of configuration: how botocore names its operations, and an example of it."""

    name: str
    argument: str
    example: dict[str, Any]
    none_code: str
    """The error of a bucket that has none."""
    answer: str = ""
    """The member that holds it in an answer; default: as in the request."""
    delete: str = ""


KINDS = (
    Kind(
        "bucket_website",
        "WebsiteConfiguration",
        {"IndexDocument": {"Suffix": "index.html"}, "ErrorDocument": {"Key": "error.html"}},
        "NoSuchWebsiteConfiguration",
        answer="-",
        delete="delete_bucket_website",
    ),
    Kind(
        "bucket_cors",
        "CORSConfiguration",
        {
            "CORSRules": [
                {"ID": "one", "AllowedMethods": ["GET", "PUT"], "AllowedOrigins": ["*"], "MaxAgeSeconds": 60}
            ]
        },
        "NoSuchCORSConfiguration",
        answer="-",
        delete="delete_bucket_cors",
    ),
    Kind(
        "bucket_ownership_controls",
        "OwnershipControls",
        {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
        "",
        delete="delete_bucket_ownership_controls",
    ),
    Kind(
        "public_access_block",
        "PublicAccessBlockConfiguration",
        dict.fromkeys(
            ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
        ),
        "",
        delete="delete_public_access_block",
    ),
)
DEFAULTS = (
    ("bucket_logging", "LoggingEnabled", None),
    ("bucket_accelerate_configuration", "Status", None),
    ("bucket_request_payment", "Payer", "BucketOwner"),
    ("bucket_notification_configuration", "QueueConfigurations", None),
)


@dataclass(frozen=True, slots=True)
class Several:
    """A kind of which a bucket has several, each with an id."""

    name: str
    argument: str
    members: dict[str, Any] = field(default_factory=dict)
    list_member: str = ""


SEVERAL = (
    Several(
        "bucket_analytics_configuration",
        "AnalyticsConfiguration",
        {"StorageClassAnalysis": {}, "Filter": {"Prefix": "logs/"}},
        "AnalyticsConfigurationList",
    ),
    Several(
        "bucket_metrics_configuration",
        "MetricsConfiguration",
        {"Filter": {"Prefix": "logs/"}},
        "MetricsConfigurationList",
    ),
    Several(
        "bucket_intelligent_tiering_configuration",
        "IntelligentTieringConfiguration",
        {"Status": "Enabled", "Tierings": [{"Days": 90, "AccessTier": "ARCHIVE_ACCESS"}]},
        "IntelligentTieringConfigurationList",
    ),
    Several(
        "bucket_inventory_configuration",
        "InventoryConfiguration",
        {
            "IsEnabled": True,
            "IncludedObjectVersions": "All",
            "Schedule": {"Frequency": "Daily"},
            "Destination": {"S3BucketDestination": {"Bucket": "arn:aws:s3:::elsewhere", "Format": "CSV"}},
        },
        "InventoryConfigurationList",
    ),
)


def body(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.name))
def test_it_comes_back_as_it_was_given(s3: Any, bucket: str, kind: Kind) -> None:
    """A new bucket has defaults of its own for what has no code here."""
    get, put = getattr(s3, f"get_{kind.name}"), getattr(s3, f"put_{kind.name}")
    if kind.none_code:
        with refused(404, kind.none_code):
            get(Bucket=bucket)
    put(Bucket=bucket, **{kind.argument: kind.example})
    answer = body(get(Bucket=bucket))
    assert (answer if kind.answer == "-" else answer[kind.answer or kind.argument]) == kind.example
    getattr(s3, kind.delete)(Bucket=bucket)
    if kind.none_code:
        with refused(404, kind.none_code):
            get(Bucket=bucket)


@pytest.mark.parametrize(("name", "member", "value"), DEFAULTS)
def test_a_bucket_has_defaults(s3: Any, bucket: str, name: str, member: str, value: str | None) -> None:
    assert getattr(s3, f"get_{name}")(Bucket=bucket).get(member) == value


def test_logging(s3: Any, make_bucket: MakeBucket) -> None:
    bucket, logs = make_bucket(), make_bucket()
    wanted = {"LoggingEnabled": {"TargetBucket": logs, "TargetPrefix": "access/"}}
    s3.put_bucket_logging(Bucket=bucket, BucketLoggingStatus=wanted)
    assert body(s3.get_bucket_logging(Bucket=bucket)) == wanted
    s3.put_bucket_logging(Bucket=bucket, BucketLoggingStatus={})
    assert body(s3.get_bucket_logging(Bucket=bucket)) == {}


def test_acceleration(s3: Any, bucket: str) -> None:
    s3.put_bucket_accelerate_configuration(Bucket=bucket, AccelerateConfiguration={"Status": "Suspended"})
    assert s3.get_bucket_accelerate_configuration(Bucket=bucket)["Status"] == "Suspended"
    with refused(400, "MalformedXML"):
        s3.put_bucket_accelerate_configuration(Bucket=bucket, AccelerateConfiguration={"Status": "Faster"})


def test_who_pays(s3: Any, bucket: str) -> None:
    s3.put_bucket_request_payment(Bucket=bucket, RequestPaymentConfiguration={"Payer": "Requester"})
    assert s3.get_bucket_request_payment(Bucket=bucket)["Payer"] == "Requester"


@pytest.mark.parametrize("kind", SEVERAL, ids=lambda kind: str(kind.name))
def test_several_of_a_kind(s3: Any, bucket: str, kind: Several) -> None:
    get, put, delete = (getattr(s3, f"{verb}_{kind.name}") for verb in ("get", "put", "delete"))
    list_all = getattr(s3, f"list_{kind.name}s")
    assert kind.list_member not in list_all(Bucket=bucket)
    for name in ("one", "two"):
        put(Bucket=bucket, Id=name, **{kind.argument: {"Id": name, **kind.members}})
    assert get(Bucket=bucket, Id="two")[kind.argument] == {"Id": "two", **kind.members}
    page = list_all(Bucket=bucket)
    assert page["IsTruncated"] is False
    assert sorted(each["Id"] for each in page[kind.list_member]) == ["one", "two"]
    delete(Bucket=bucket, Id="one")
    with refused(404, "NoSuchConfiguration"):
        get(Bucket=bucket, Id="one")
    assert [each["Id"] for each in list_all(Bucket=bucket)[kind.list_member]] == ["two"]


def test_a_bucket_without(s3: Any, bucket: str) -> None:
    with refused(404, "ReplicationConfigurationNotFoundError"):
        s3.get_bucket_replication(Bucket=bucket)
    with refused(404, "NoSuchBucketPolicy"):
        s3.get_bucket_policy(Bucket=bucket)


def test_what_was_configured_goes_with_the_bucket(s3: Any, bucket: str, place: dict[str, Any]) -> None:
    rules = [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}]
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": rules})
    s3.delete_bucket(Bucket=bucket)
    s3.create_bucket(Bucket=bucket, **place)
    with refused(404, "NoSuchCORSConfiguration"):
        s3.get_bucket_cors(Bucket=bucket)


def test_the_owner_has_full_control(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for answer in (s3.get_bucket_acl(Bucket=bucket), s3.get_object_acl(Bucket=bucket, Key="k")):
        (grant,) = answer["Grants"]
        assert grant["Permission"] == "FULL_CONTROL"
        assert grant["Grantee"]["ID"] == answer["Owner"]["ID"]
