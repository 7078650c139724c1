"""Tags of objects and buckets, and what CreateBucket takes with it, over boto3 against the real store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.system.conftest import Store

BUCKET = "tagged"


@pytest.fixture(scope="module")
def s3(store: Store) -> Any:
    client = store.client()
    client.create_bucket(Bucket=BUCKET)
    return client


def _refusal(call: Callable[..., Any], **arguments: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def _set(tags: Mapping[str, str]) -> dict[str, Any]:
    return {"Tagging": {"TagSet": [{"Key": key, "Value": value} for key, value in tags.items()]}}


def _tags(answer: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}


def test_tags_of_an_object(s3: Any) -> None:
    name = {"Bucket": BUCKET, "Key": "object"}
    put = s3.put_object(**name, Body=b"x", Tagging="foo=bar&Stra%C3%9Fe=a%20b+c&empty")
    assert _tags(s3.get_object_tagging(**name)) == {"foo": "bar", "Straße": "a b c", "empty": ""}
    before = s3.head_object(**name)
    assert before["TagCount"] == 3
    s3.put_object_tagging(**name, **_set({"new": "1"}))
    assert _tags(s3.get_object_tagging(**name)) == {"new": "1"}
    after = s3.head_object(**name)
    assert after["TagCount"] == 1
    assert (after["LastModified"], after["ETag"]) == (before["LastModified"], put["ETag"])
    s3.delete_object_tagging(**name)
    assert _tags(s3.get_object_tagging(**name)) == {}
    assert "TagCount" not in s3.head_object(**name)
    # What replaces an object brings its own.
    s3.put_object_tagging(**name, **_set({"old": "1"}))
    s3.put_object(**name, Body=b"y")
    assert _tags(s3.get_object_tagging(**name)) == {}


def test_each_version_has_tags_of_its_own(s3: Any) -> None:
    """Red when an older version's tags were looked for, or written, at the current one."""
    s3.create_bucket(Bucket="tagged-versions")
    s3.put_bucket_versioning(Bucket="tagged-versions", VersioningConfiguration={"Status": "Enabled"})
    name = {"Bucket": "tagged-versions", "Key": "object"}
    first, second = (s3.put_object(**name, Body=b"x", Tagging=f"n={n}")["VersionId"] for n in (1, 2))
    put = s3.put_object_tagging(**name, VersionId=first, **_set({"n": "changed"}))
    assert put["VersionId"] == first
    got = s3.get_object_tagging(**name, VersionId=first)
    assert (_tags(got), got["VersionId"]) == ({"n": "changed"}, first)
    got = s3.get_object_tagging(**name)
    assert (_tags(got), got["VersionId"]) == ({"n": "2"}, second)
    assert s3.delete_object_tagging(**name, VersionId=first)["VersionId"] == first
    assert _tags(s3.get_object_tagging(**name, VersionId=second)) == {"n": "2"}
    marker = s3.delete_object(**name)["VersionId"]
    for marked in (name, {**name, "VersionId": marker}):
        assert _refusal(s3.get_object_tagging, **marked) == (405, "MethodNotAllowed")
        assert _refusal(s3.put_object_tagging, **marked, **_set({})) == (405, "MethodNotAllowed")


def test_what_an_object_cannot_have(s3: Any) -> None:
    name = {"Bucket": BUCKET, "Key": "refused"}
    assert _refusal(s3.get_object_tagging, **name) == (404, "NoSuchKey")
    assert _refusal(s3.put_object_tagging, **name, **_set({})) == (404, "NoSuchKey")
    s3.put_object(**name, Body=b"x")
    eleven = {str(number): "" for number in range(11)}
    for tags in (eleven, {"k" * 129: ""}, {"k": "v" * 257}, {"aws:k": ""}, {"k": "*"}):
        assert _refusal(s3.put_object_tagging, **name, **_set(tags)) == (400, "InvalidTag")
    assert _tags(s3.get_object_tagging(**name)) == {}
    assert _refusal(s3.put_object, **name, Tagging="a=1&a=2") == (400, "InvalidArgument")
    assert _refusal(s3.get_object_tagging, **name, VersionId="0" * 32) == (404, "NoSuchVersion")


def test_tags_of_a_bucket(s3: Any) -> None:
    s3.create_bucket(Bucket="bucket-tags")
    assert _refusal(s3.get_bucket_tagging, Bucket="bucket-tags") == (404, "NoSuchTagSet")
    fifty = {f"key {number}": "v" for number in range(50)}
    s3.put_bucket_tagging(Bucket="bucket-tags", **_set(fifty))
    assert _tags(s3.get_bucket_tagging(Bucket="bucket-tags")) == fifty
    s3.put_bucket_tagging(Bucket="bucket-tags", **_set({"one": "1"}))
    assert _tags(s3.get_bucket_tagging(Bucket="bucket-tags")) == {"one": "1"}
    more = _set(fifty | {"more": ""})
    assert _refusal(s3.put_bucket_tagging, Bucket="bucket-tags", **more) == (400, "InvalidTag")
    s3.delete_bucket_tagging(Bucket="bucket-tags")
    assert _refusal(s3.get_bucket_tagging, Bucket="bucket-tags") == (404, "NoSuchTagSet")
    s3.put_bucket_tagging(Bucket="bucket-tags", **_set({"one": "1"}))
    s3.delete_bucket(Bucket="bucket-tags")
    assert _refusal(s3.get_bucket_tagging, Bucket="bucket-tags") == (404, "NoSuchBucket")


def test_a_bucket_is_made_with_tags_and_ownership(s3: Any) -> None:
    s3.create_bucket(
        Bucket="made-with",
        ObjectOwnership="BucketOwnerEnforced",
        CreateBucketConfiguration={"Tags": [{"Key": "team", "Value": "a"}]},
    )
    assert _tags(s3.get_bucket_tagging(Bucket="made-with")) == {"team": "a"}
    assert s3.get_bucket_ownership_controls(Bucket="made-with")["OwnershipControls"] == {
        "Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]
    }
    s3.delete_bucket(Bucket="made-with")
    refused = {"Bucket": "not-made"}
    assert _refusal(s3.create_bucket, **refused, ObjectOwnership="Nobody") == (400, "InvalidArgument")
    bad = {"Tags": [{"Key": "aws:team", "Value": ""}]}
    assert _refusal(s3.create_bucket, **refused, CreateBucketConfiguration=bad) == (400, "InvalidTag")
    assert _refusal(s3.get_bucket_tagging, **refused) == (404, "NoSuchBucket")
