"""Configurations that tools put and then read back, over boto3; the service model checks every answer."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from s3front.handlers.bucket_documents import KINDS, PAGE_DOCUMENTS
from s3front.operations import OPERATIONS
from tests.system.conftest import Store

ARN = "arn:aws:s3:::elsewhere"
FILTER = {"And": {"Prefix": "p/", "Tags": [{"Key": "k", "Value": "v"}, {"Key": "l", "Value": ""}]}}
EVENTS = ["s3:ObjectCreated:*", "s3:ObjectRemoved:Delete"]
GRANTEE = {"Type": "Group", "URI": "http://acs.amazonaws.com/groups/s3/LogDelivery"}

# What follows Put and Get in the operation's name, the parameter of the PUT, what is put, and what a GET answers where
# there is none: an error, or what it says then.
ONE: list[tuple[str, str, dict[str, Any], str | dict[str, Any]]] = [
    ("bucket_abac", "AbacStatus", {"Status": "Enabled"}, {"AbacStatus": {"Status": "Disabled"}}),
    ("bucket_accelerate_configuration", "AccelerateConfiguration", {"Status": "Suspended"}, {}),
    (
        "bucket_cors",
        "CORSConfiguration",
        {
            "CORSRules": [
                {
                    "ID": "first",
                    "AllowedHeaders": ["*"],
                    "AllowedMethods": ["GET", "PUT"],
                    "AllowedOrigins": ["https://*.example.com"],
                    "ExposeHeaders": ["ETag"],
                    "MaxAgeSeconds": 60,
                },
                {"AllowedMethods": ["HEAD"], "AllowedOrigins": ["*"]},
            ]
        },
        "NoSuchCORSConfiguration",
    ),
    (
        "bucket_logging",
        "BucketLoggingStatus",
        {
            "LoggingEnabled": {
                "TargetBucket": "logs",
                "TargetPrefix": "a/&/",
                "TargetGrants": [{"Grantee": GRANTEE, "Permission": "WRITE"}],
                "TargetObjectKeyFormat": {"PartitionedPrefix": {"PartitionDateSource": "EventTime"}},
            }
        },
        {},
    ),
    (
        "bucket_notification_configuration",
        "NotificationConfiguration",
        {
            "TopicConfigurations": [{"Id": "t", "TopicArn": "arn:aws:sns:::t", "Events": EVENTS}],
            "QueueConfigurations": [
                {
                    "Id": "q",
                    "QueueArn": "arn:aws:sqs:::q",
                    "Events": EVENTS[:1],
                    "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "p/"}]}},
                }
            ],
            "LambdaFunctionConfigurations": [
                {"Id": "f", "LambdaFunctionArn": "arn:aws:lambda:::f", "Events": EVENTS}
            ],
            "EventBridgeConfiguration": {},
        },
        {},
    ),
    (
        "bucket_ownership_controls",
        "OwnershipControls",
        {"Rules": [{"ObjectOwnership": "BucketOwnerPreferred"}]},
        "OwnershipControlsNotFoundError",
    ),
    (
        "public_access_block",
        "PublicAccessBlockConfiguration",
        {
            "BlockPublicAcls": True,
            "IgnorePublicAcls": False,
            "BlockPublicPolicy": True,
            "RestrictPublicBuckets": False,
        },
        "NoSuchPublicAccessBlockConfiguration",
    ),
    (
        "bucket_replication",
        "ReplicationConfiguration",
        {
            "Role": "arn:aws:iam:::role/r",
            "Rules": [
                {
                    "ID": "r",
                    "Priority": 1,
                    "Filter": FILTER,
                    "Status": "Enabled",
                    "SourceSelectionCriteria": {"ReplicaModifications": {"Status": "Enabled"}},
                    "Destination": {
                        "Bucket": ARN,
                        "StorageClass": "STANDARD_IA",
                        "ReplicationTime": {"Status": "Enabled", "Time": {"Minutes": 15}},
                        "Metrics": {"Status": "Enabled", "EventThreshold": {"Minutes": 15}},
                    },
                    "DeleteMarkerReplication": {"Status": "Disabled"},
                }
            ],
        },
        "ReplicationConfigurationNotFoundError",
    ),
    (
        "bucket_request_payment",
        "RequestPaymentConfiguration",
        {"Payer": "Requester"},
        {"Payer": "BucketOwner"},
    ),
    (
        "bucket_website",
        "WebsiteConfiguration",
        {
            "IndexDocument": {"Suffix": "index.html"},
            "ErrorDocument": {"Key": "error.html"},
            "RoutingRules": [
                {
                    "Condition": {"KeyPrefixEquals": "old/"},
                    "Redirect": {"ReplaceKeyPrefixWith": "new/", "HttpRedirectCode": "302"},
                }
            ],
        },
        "NoSuchWebsiteConfiguration",
    ),
]
S3_DESTINATION = {"Format": "CSV", "Bucket": ARN, "Prefix": "out"}
BY_ID: list[tuple[str, dict[str, Any]]] = [
    (
        "Analytics",
        {
            "Filter": FILTER,
            "StorageClassAnalysis": {
                "DataExport": {
                    "OutputSchemaVersion": "V_1",
                    "Destination": {"S3BucketDestination": S3_DESTINATION},
                }
            },
        },
    ),
    (
        "IntelligentTiering",
        {
            "Filter": {"Prefix": "p/"},
            "Status": "Enabled",
            "Tierings": [
                {"Days": 90, "AccessTier": "ARCHIVE_ACCESS"},
                {"Days": 180, "AccessTier": "DEEP_ARCHIVE_ACCESS"},
            ],
        },
    ),
    (
        "Inventory",
        {
            "Destination": {
                "S3BucketDestination": {**S3_DESTINATION, "Encryption": {"SSEKMS": {"KeyId": "k"}}}
            },
            "IsEnabled": True,
            "Filter": {"Prefix": "p/"},
            "IncludedObjectVersions": "All",
            "OptionalFields": ["Size", "ETag"],
            "Schedule": {"Frequency": "Daily"},
        },
    ),
    ("Metrics", {"Filter": {"Tag": {"Key": "k", "Value": "v"}}}),
]


@pytest.fixture(scope="module")
def s3(store: Store) -> Any:
    return store.client()


@pytest.fixture
def bucket(s3: Any) -> Iterator[str]:
    """A bucket with versions, which replication needs."""
    name = f"configured-{uuid.uuid4()}"
    s3.create_bucket(Bucket=name)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    yield name
    s3.delete_bucket(Bucket=name)


def code_of(call: Any, **arguments: Any) -> tuple[int, str]:
    """The status and code of the error that the call answers with."""
    with pytest.raises(ClientError) as error:
        call(**arguments)
    response = error.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def said(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


def test_every_kind_is_tried() -> None:
    """Red when a kind is added and not to the lists above."""
    tried = {f"Put{''.join(word.capitalize() for word in name.split('_'))}" for name, *_ in ONE}
    tried |= {f"PutBucket{name}Configuration" for name, _ in BY_ID}
    assert tried == {o.name for o in OPERATIONS if o.support == "stored" and o.method == "PUT"}
    assert len(tried) == len(KINDS)


@pytest.mark.parametrize("one", ONE, ids=lambda one: one[0])
def test_put_and_read_back(
    s3: Any, bucket: str, one: tuple[str, str, dict[str, Any], str | dict[str, Any]]
) -> None:
    """What was put comes back; where there is none, AWS's answer of none; twice deleted is deleted."""
    noun, parameter, sent, absent = one
    get, put = getattr(s3, f"get_{noun}"), getattr(s3, f"put_{noun}")

    def is_absent() -> bool:
        if isinstance(absent, str):
            return code_of(get, Bucket=bucket) == (404, absent)
        return said(get(Bucket=bucket)) == absent

    assert is_absent()
    put(Bucket=bucket, **{parameter: sent})
    answer = said(get(Bucket=bucket))
    assert answer.get(parameter, answer) == sent
    delete = getattr(s3, f"delete_{noun}", None)
    if delete is not None:
        for _ in range(2):
            assert delete(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 204
        assert is_absent()
    for call in (get, *([delete] if delete else [])):
        assert code_of(call, Bucket=f"{bucket}-not") == (404, "NoSuchBucket")
    assert code_of(put, Bucket=f"{bucket}-not", **{parameter: sent}) == (404, "NoSuchBucket")


@pytest.mark.parametrize(("noun", "sent"), BY_ID, ids=[name for name, _ in BY_ID])
def test_several_by_id(s3: Any, bucket: str, noun: str, sent: dict[str, Any]) -> None:
    """Put, read and listed by id; an id that is not there is told so, also when it is deleted."""
    name = {"IntelligentTiering": "intelligent_tiering"}.get(noun, noun.lower())
    get, put, delete = (
        getattr(s3, f"{verb}_bucket_{name}_configuration") for verb in ("get", "put", "delete")
    )
    list_all = getattr(s3, f"list_bucket_{name}_configurations")
    parameter = f"{noun}Configuration"
    assert said(list_all(Bucket=bucket)) == {"IsTruncated": False}
    for one in ("b", "a"):
        put(Bucket=bucket, Id=one, **{parameter: {"Id": one, **sent}})
        assert said(get(Bucket=bucket, Id=one)) == {parameter: {"Id": one, **sent}}
    listed = said(list_all(Bucket=bucket))
    assert listed == {"IsTruncated": False, f"{parameter}List": [{"Id": one, **sent} for one in ("a", "b")]}
    assert code_of(put, Bucket=bucket, Id="a", **{parameter: {"Id": "b", **sent}}) == (400, "InvalidArgument")
    assert delete(Bucket=bucket, Id="a")["ResponseMetadata"]["HTTPStatusCode"] == 204
    for call in (get, delete):
        assert code_of(call, Bucket=bucket, Id="a") == (404, "NoSuchConfiguration")
    assert [one["Id"] for one in list_all(Bucket=bucket)[f"{parameter}List"]] == ["b"]


def test_lists_have_pages(s3: Any, bucket: str) -> None:
    """Each page goes on where the one before it ended; a token of nobody's is refused."""
    names = [f"{number:03}" for number in range(PAGE_DOCUMENTS + 1)]
    for name in names:
        s3.put_bucket_metrics_configuration(Bucket=bucket, Id=name, MetricsConfiguration={"Id": name})
    first = s3.list_bucket_metrics_configurations(Bucket=bucket)
    assert first["IsTruncated"]
    token = first["NextContinuationToken"]
    second = s3.list_bucket_metrics_configurations(Bucket=bucket, ContinuationToken=token)
    assert (second["IsTruncated"], second["ContinuationToken"]) == (False, token)
    listed = [one["Id"] for page in (first, second) for one in page["MetricsConfigurationList"]]
    assert listed == names
    refused = code_of(s3.list_bucket_metrics_configurations, Bucket=bucket, ContinuationToken="?")
    assert refused == (400, "InvalidArgument")


@pytest.mark.parametrize(
    ("call", "arguments", "expected"),
    [
        ("put_bucket_cors", {"CORSConfiguration": {"CORSRules": []}}, "MalformedXML"),
        (
            "put_bucket_cors",
            {
                "CORSConfiguration": {
                    "CORSRules": [{"AllowedMethods": ["PATCH"], "AllowedOrigins": ["*"]}],
                }
            },
            "InvalidRequest",
        ),
        ("put_bucket_ownership_controls", {"OwnershipControls": {"Rules": []}}, "MalformedXML"),
        (
            "put_bucket_ownership_controls",
            {"OwnershipControls": {"Rules": [{"ObjectOwnership": "Mine"}]}},
            "MalformedXML",
        ),
        ("put_bucket_website", {"WebsiteConfiguration": {}}, "InvalidArgument"),
        (
            "put_bucket_website",
            {
                "WebsiteConfiguration": {
                    "RedirectAllRequestsTo": {"HostName": "h"},
                    "IndexDocument": {"Suffix": "i"},
                }
            },
            "InvalidRequest",
        ),
        ("put_bucket_accelerate_configuration", {"AccelerateConfiguration": {}}, "MalformedXML"),
        ("put_bucket_request_payment", {"RequestPaymentConfiguration": {"Payer": "Me"}}, "MalformedXML"),
    ],
)
def test_what_aws_refuses(s3: Any, bucket: str, call: str, arguments: dict[str, Any], expected: str) -> None:
    """By its shape or by what the API reference says of it."""
    assert code_of(getattr(s3, call), Bucket=bucket, **arguments) == (400, expected)


def test_replication_needs_versions(s3: Any, bucket: str) -> None:
    """As on AWS."""
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    (sent,) = [sent for noun, _, sent, _ in ONE if noun == "bucket_replication"]
    refused = code_of(s3.put_bucket_replication, Bucket=bucket, ReplicationConfiguration=sent)
    assert refused == (400, "InvalidRequest")


def test_access_control_lists(s3: Any, bucket: str) -> None:
    """The owner has FULL_CONTROL, and what says so is accepted; whoever shares is told that it did not happen."""
    s3.put_object(Bucket=bucket, Key="k")
    for get, put, names in (
        (s3.get_bucket_acl, s3.put_bucket_acl, {"Bucket": bucket}),
        (s3.get_object_acl, s3.put_object_acl, {"Bucket": bucket, "Key": "k"}),
    ):
        answer = get(**names)
        (grant,) = answer["Grants"]
        owner = answer["Owner"]["ID"]
        assert (grant["Permission"], grant["Grantee"]["ID"]) == ("FULL_CONTROL", owner)
        policy = {"Owner": answer["Owner"], "Grants": answer["Grants"]}
        put(**names, ACL="private")
        put(**names, AccessControlPolicy=policy)
        put(**names, GrantFullControl=f'id="{owner}"')
        everybody = {"Type": "Group", "URI": "http://acs.amazonaws.com/groups/global/AllUsers"}
        shared = {**policy, "Grants": [*policy["Grants"], {"Grantee": everybody, "Permission": "READ"}]}
        for sharing in (
            {"ACL": "public-read"},
            {"AccessControlPolicy": shared},
            {"AccessControlPolicy": {**policy, "Grants": []}},
            {"GrantRead": f'uri="{everybody["URI"]}"'},
            {"GrantRead": f'id="{owner}"'},
            {"GrantFullControl": f'id="{owner}"', "GrantRead": 'emailAddress="a@example.com"'},
        ):
            assert code_of(put, **names, **sharing) == (400, "AccessControlListNotSupported")
        assert code_of(put, **names, ACL="secret") == (400, "InvalidArgument")
        assert code_of(put, **names, ACL="private", GrantRead=f"id={owner}") == (400, "InvalidRequest")
    assert code_of(s3.get_object_acl, Bucket=bucket, Key="not") == (404, "NoSuchKey")
    for version in s3.list_object_versions(Bucket=bucket)["Versions"]:
        s3.delete_object(Bucket=bucket, Key="k", VersionId=version["VersionId"])


def test_policies(s3: Any, bucket: str) -> None:
    """There are none, nothing is public, and a policy that would not be obeyed is refused."""
    assert code_of(s3.get_bucket_policy, Bucket=bucket) == (404, "NoSuchBucketPolicy")
    assert code_of(s3.put_bucket_policy, Bucket=bucket, Policy="{}") == (501, "NotImplemented")
    s3.delete_bucket_policy(Bucket=bucket)
    assert said(s3.get_bucket_policy_status(Bucket=bucket)) == {"PolicyStatus": {"IsPublic": False}}


def test_what_is_refused_changes_nothing(s3: Any, bucket: str) -> None:
    """Operations of which there is nothing here, on an object that stays as it is. Red when PUT ?annotation, which an
    older table did not know, replaces the object."""
    version = s3.put_object(Bucket=bucket, Key="k", Body=b"body")["VersionId"]
    name = {"Bucket": bucket, "Key": "k"}
    refusals = {
        (501, "NotImplemented"): [
            lambda: s3.put_object_annotation(**name, AnnotationName="a", AnnotationPayload=b"note"),
            lambda: s3.get_object_annotation(**name, AnnotationName="a"),
            lambda: s3.list_object_annotations(**name),
            lambda: s3.delete_object_annotation(**name, AnnotationName="a"),
            lambda: s3.update_object_encryption(
                **name, ObjectEncryption={"SSEKMS": {"KMSKeyArn": "arn:aws:kms:us-east-1::key/k"}}
            ),
            lambda: s3.get_bucket_metadata_configuration(Bucket=bucket),
            lambda: s3.delete_bucket_metadata_table_configuration(Bucket=bucket),
        ],
        (404, "NoSuchKey"): [lambda: s3.get_object_torrent(**name)],
        (405, "MethodNotAllowed"): [
            lambda: s3.select_object_content(
                **name,
                Expression="SELECT 1",
                ExpressionType="SQL",
                InputSerialization={"JSON": {"Type": "LINES"}},
                OutputSerialization={"JSON": {}},
            ),
        ],
        (403, "InvalidObjectState"): [lambda: s3.restore_object(**name, RestoreRequest={"Days": 1})],
    }
    for expected, calls in refusals.items():
        assert [code_of(call) for call in calls] == [expected] * len(calls)
    assert s3.get_object(**name)["Body"].read() == b"body"
    assert [v["VersionId"] for v in s3.list_object_versions(Bucket=bucket)["Versions"]] == [version]
    s3.delete_object(**name, VersionId=version)
