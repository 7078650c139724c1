"""Lifecycle rules: kept and told, and, where a day is short, watched at work.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lifecycle-mgmt.html
https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketLifecycleConfiguration.html
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from conformance.suite.expect import header, refused, until

DAYS_WAITED = 30


def rule(**what: Any) -> dict[str, Any]:
    return {"ID": "rule", "Status": "Enabled", "Filter": {"Prefix": ""}, **what}


def put(s3: Any, bucket: str, *rules: dict[str, Any]) -> None:
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": list(rules)})


def keys(s3: Any, bucket: str) -> list[str]:
    return [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket).get("Contents", ())]


def waits_for(condition: Any, what: str, day_s: int) -> None:
    until(condition, what, wait_s=max(DAYS_WAITED * day_s, 20.0))


def test_none_at_first_and_none_in_the_end(s3: Any, bucket: str) -> None:
    with refused(404, "NoSuchLifecycleConfiguration"):
        s3.get_bucket_lifecycle_configuration(Bucket=bucket)
    put(s3, bucket, rule(Expiration={"Days": 1}))
    s3.delete_bucket_lifecycle(Bucket=bucket)
    with refused(404, "NoSuchLifecycleConfiguration"):
        s3.get_bucket_lifecycle_configuration(Bucket=bucket)


def test_rules_are_told_as_they_were_given(s3: Any, bucket: str) -> None:
    tags = [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}]
    rules = [
        rule(ID="days", Filter={"Prefix": "logs/"}, Expiration={"Days": 30}),
        rule(ID="date", Filter={"Tag": tags[0]}, Expiration={"Date": datetime(2040, 1, 1, tzinfo=UTC)}),
        rule(
            ID="all of it",
            Filter={"And": {"Prefix": "x", "Tags": tags, "ObjectSizeGreaterThan": 500}},
            Expiration={"Days": 5},
        ),
        rule(ID="markers", Expiration={"ExpiredObjectDeleteMarker": True}),
        rule(ID="old", NoncurrentVersionExpiration={"NoncurrentDays": 7, "NewerNoncurrentVersions": 3}),
        rule(ID="uploads", AbortIncompleteMultipartUpload={"DaysAfterInitiation": 2}),
        rule(ID="off", Status="Disabled", Filter={"ObjectSizeLessThan": 1000}, Expiration={"Days": 9}),
        rule(ID="class", Filter={"Prefix": "c/"}, Transitions=[{"Days": 40, "StorageClass": "GLACIER_IR"}]),
    ]
    put(s3, bucket, *rules)
    told = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert sorted(told, key=lambda each: str(each["ID"])) == sorted(rules, key=lambda each: str(each["ID"]))


def test_a_rule_without_a_name_gets_one(s3: Any, bucket: str) -> None:
    put(s3, bucket, {"Status": "Enabled", "Filter": {"Prefix": "a"}, "Expiration": {"Days": 1}})
    (told,) = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert told["ID"]


@pytest.mark.parametrize(
    "wrong",
    [
        [rule(Expiration={"Days": 0})],
        [rule(Expiration={"Days": -1})],
        [rule(Expiration={"Date": datetime(2040, 1, 1, 12, tzinfo=UTC)})],
        [rule(Status="enabled", Expiration={"Days": 1})],
        [rule(ID="x" * 256, Expiration={"Days": 1})],
        [rule(Expiration={"Days": 1}), rule(Expiration={"Days": 2})],
        [rule()],
        [rule(Expiration={"Days": 1, "ExpiredObjectDeleteMarker": True})],
        [rule(NoncurrentVersionExpiration={"NoncurrentDays": 0})],
        [rule(AbortIncompleteMultipartUpload={"DaysAfterInitiation": 0})],
        [],
    ],
)
def test_rules_that_are_refused(s3: Any, bucket: str, wrong: list[dict[str, Any]]) -> None:
    with refused(400, "InvalidArgument", "MalformedXML", "InvalidRequest"):
        put(s3, bucket, *wrong)
    with refused(404, "NoSuchLifecycleConfiguration"):
        s3.get_bucket_lifecycle_configuration(Bucket=bucket)


def test_an_object_tells_when_it_expires(s3: Any, bucket: str) -> None:
    put(s3, bucket, rule(ID="soon", Filter={"Prefix": "logs/"}, Expiration={"Days": 2000}))
    named = {"Bucket": bucket, "Key": "logs/1"}
    for answer in (s3.put_object(**named, Body=b"x"), s3.head_object(**named), s3.get_object(**named)):
        told = header(answer, "x-amz-expiration") or ""
        assert told.startswith('expiry-date="')
        assert told.endswith('", rule-id="soon"')
    assert header(s3.put_object(Bucket=bucket, Key="other", Body=b"x"), "x-amz-expiration") is None


def test_objects_expire_by_prefix_tag_and_size(s3: Any, bucket: str, day_s: int) -> None:
    put(
        *(s3, bucket, rule(ID="prefix", Filter={"Prefix": "old/"}, Expiration={"Days": 1})),
        rule(ID="tag", Filter={"Tag": {"Key": "keep", "Value": "no"}}, Expiration={"Days": 1}),
        rule(ID="size", Filter={"ObjectSizeGreaterThan": 100}, Expiration={"Days": 1}),
        rule(ID="off", Status="Disabled", Filter={"Prefix": "off/"}, Expiration={"Days": 1}),
    )
    for key, body, tagging in (
        *(("old/1", b"x", ""), ("tagged", b"x", "keep=no"), ("large", bytes(101), "")),
        *(("small", bytes(100), "keep=yes"), ("off/1", b"x", "")),
    ):
        s3.put_object(Bucket=bucket, Key=key, Body=body, Tagging=tagging)
    waits_for(lambda: keys(s3, bucket) == ["off/1", "small"], "three objects expire", day_s)


def test_what_was_there_before_the_rule_expires_too(s3: Any, bucket: str, day_s: int) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    put(s3, bucket, rule(Expiration={"Days": 1}))
    waits_for(lambda: keys(s3, bucket) == [], "the object expires", day_s)


def test_in_a_bucket_with_versions_a_marker_is_left(s3: Any, versioned: str, day_s: int) -> None:
    version = s3.put_object(Bucket=versioned, Key="k", Body=b"x")["VersionId"]
    put(s3, versioned, rule(Expiration={"Days": 1}))
    waits_for(lambda: keys(s3, versioned) == [], "the current version expires", day_s)
    page = s3.list_object_versions(Bucket=versioned)
    assert [entry["VersionId"] for entry in page["Versions"]] == [version]
    assert len(page["DeleteMarkers"]) == 1


def test_old_versions_expire_but_for_the_newest(s3: Any, versioned: str, day_s: int) -> None:
    ids = [
        s3.put_object(Bucket=versioned, Key="k", Body=text)["VersionId"] for text in (b"1", b"2", b"3", b"4")
    ]
    put(s3, versioned, rule(NoncurrentVersionExpiration={"NoncurrentDays": 1, "NewerNoncurrentVersions": 1}))

    def left() -> list[str]:
        return [entry["VersionId"] for entry in s3.list_object_versions(Bucket=versioned).get("Versions", ())]

    waits_for(lambda: left() == [ids[3], ids[2]], "all but the current one and one old one expire", day_s)


def test_a_marker_with_nothing_under_it_goes(s3: Any, versioned: str, day_s: int) -> None:
    s3.put_object(Bucket=versioned, Key="kept", Body=b"x")
    s3.delete_object(Bucket=versioned, Key="kept")
    s3.delete_object(Bucket=versioned, Key="alone")
    put(s3, versioned, rule(Expiration={"ExpiredObjectDeleteMarker": True}))

    def markers() -> list[str]:
        return [entry["Key"] for entry in s3.list_object_versions(Bucket=versioned).get("DeleteMarkers", ())]

    waits_for(lambda: markers() == ["kept"], "the marker without versions goes", day_s)


def test_forgotten_uploads_are_aborted(s3: Any, bucket: str, day_s: int) -> None:
    s3.create_multipart_upload(Bucket=bucket, Key="k")
    put(s3, bucket, rule(AbortIncompleteMultipartUpload={"DaysAfterInitiation": 1}))
    waits_for(lambda: "Uploads" not in s3.list_multipart_uploads(Bucket=bucket), "the upload goes", day_s)


def test_a_lock_is_stronger_than_a_rule(s3: Any, lockable: str, day_s: int) -> None:
    """The other version shows that the rule was at work."""
    held = s3.put_object(Bucket=lockable, Key="k", Body=b"1", ObjectLockLegalHoldStatus="ON")["VersionId"]
    s3.put_object(Bucket=lockable, Key="k", Body=b"2")
    last = s3.put_object(Bucket=lockable, Key="k", Body=b"3")["VersionId"]
    put(s3, lockable, rule(NoncurrentVersionExpiration={"NoncurrentDays": 1}))

    def left() -> list[str]:
        return [entry["VersionId"] for entry in s3.list_object_versions(Bucket=lockable).get("Versions", ())]

    waits_for(lambda: left() == [last, held], "the version without a hold expires", day_s)
