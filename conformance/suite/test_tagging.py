"""Tags of objects and buckets.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html
https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectTagging.html
https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketTagging.html
"""

from __future__ import annotations

from typing import Any

import pytest

from conformance.suite.expect import header, refused


def tags(count: int) -> list[dict[str, str]]:
    return [{"Key": f"key {number:02}", "Value": f"value-{number}"} for number in range(count)]


def put(s3: Any, bucket: str, tag_set: list[dict[str, str]], **named: str) -> None:
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": tag_set}, **named)


def told(s3: Any, bucket: str, **named: str) -> list[dict[str, str]]:
    answer = s3.get_object_tagging(Bucket=bucket, Key="k", **named)
    return sorted(answer["TagSet"], key=lambda tag: str(tag["Key"]))


@pytest.fixture
def tagged(s3: Any, bucket: str) -> str:
    """A bucket with the object `k`, which has one tag."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="first=1")
    return bucket


def test_tags_are_given_with_the_object(s3: Any, tagged: str) -> None:
    assert told(s3, tagged) == [{"Key": "first", "Value": "1"}]
    assert s3.head_object(Bucket=tagged, Key="k")["TagCount"] == 1
    assert header(s3.get_object(Bucket=tagged, Key="k"), "x-amz-tagging-count") == "1"


def test_tags_in_the_encoding_of_a_query(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="a%20b=c%2Bd&empty=&plus=e+f")
    assert told(s3, bucket) == [
        {"Key": "a b", "Value": "c+d"},
        {"Key": "empty", "Value": ""},
        {"Key": "plus", "Value": "e f"},
    ]


def test_tags_are_replaced_as_a_set(s3: Any, tagged: str) -> None:
    put(s3, tagged, tags(3))
    assert told(s3, tagged) == tags(3)
    s3.delete_object_tagging(Bucket=tagged, Key="k")
    assert told(s3, tagged) == []
    assert "TagCount" not in s3.head_object(Bucket=tagged, Key="k")


def test_tags_change_nothing_else(s3: Any, tagged: str) -> None:
    before = s3.head_object(Bucket=tagged, Key="k")
    put(s3, tagged, tags(2))
    after = s3.head_object(Bucket=tagged, Key="k")
    assert (before["ETag"], before["LastModified"]) == (after["ETag"], after["LastModified"])
    assert s3.get_object(Bucket=tagged, Key="k")["Body"].read() == b"x"


def test_ten_tags_at_most(s3: Any, tagged: str) -> None:
    put(s3, tagged, tags(10))
    with refused(400, "BadRequest", "InvalidTag"):
        put(s3, tagged, tags(11))
    assert told(s3, tagged) == tags(10)


def test_the_longest_tag(s3: Any, tagged: str) -> None:
    longest = [{"Key": "k" * 128, "Value": "v" * 256}]
    put(s3, tagged, longest)
    assert told(s3, tagged) == longest


@pytest.mark.parametrize(
    "tag_set",
    [
        [{"Key": "k" * 129, "Value": "v"}],
        [{"Key": "k", "Value": "v" * 257}],
        [{"Key": "k", "Value": "1"}, {"Key": "k", "Value": "2"}],
        [{"Key": "aws:reserved", "Value": "v"}],
        [{"Key": "k", "Value": "not <allowed>"}],
    ],
)
def test_tags_that_are_refused(s3: Any, tagged: str, tag_set: list[dict[str, str]]) -> None:
    with refused(400, "InvalidTag", "MalformedXML"):
        put(s3, tagged, tag_set)
    assert told(s3, tagged) == [{"Key": "first", "Value": "1"}]


def test_a_header_with_tags_that_are_refused(s3: Any, bucket: str) -> None:
    for sent in ("a=1&a=2", "&".join(f"t{number}=x" for number in range(11)), f"{'k' * 129}=v"):
        with refused(400, "InvalidArgument", "InvalidTag", "BadRequest"):
            s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging=sent)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_tags_of_a_version(s3: Any, versioned: str) -> None:
    one = s3.put_object(Bucket=versioned, Key="k", Body=b"1", Tagging="v=1")["VersionId"]
    two = s3.put_object(Bucket=versioned, Key="k", Body=b"2")["VersionId"]
    assert told(s3, versioned) == []
    assert told(s3, versioned, VersionId=one) == [{"Key": "v", "Value": "1"}]
    put(s3, versioned, tags(2), VersionId=one)
    assert told(s3, versioned, VersionId=one) == tags(2)
    assert told(s3, versioned, VersionId=two) == []
    assert s3.get_object_tagging(Bucket=versioned, Key="k")["VersionId"] == two


def test_tags_of_what_is_not_there(s3: Any, versioned: str) -> None:
    with refused(404, "NoSuchKey"):
        told(s3, versioned)
    s3.put_object(Bucket=versioned, Key="k", Body=b"1")
    marker = s3.delete_object(Bucket=versioned, Key="k")["VersionId"]
    with refused(405, "MethodNotAllowed"):
        told(s3, versioned, VersionId=marker)


def test_tags_of_a_bucket(s3: Any, bucket: str) -> None:
    with refused(404, "NoSuchTagSet"):
        s3.get_bucket_tagging(Bucket=bucket)
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tags(50)})
    answer = s3.get_bucket_tagging(Bucket=bucket)["TagSet"]
    assert sorted(answer, key=lambda tag: str(tag["Key"])) == tags(50)
    with refused(400, "InvalidTag", "BadRequest", "MalformedXML", "TooManyTags"):
        s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tags(51)})
    s3.delete_bucket_tagging(Bucket=bucket)
    with refused(404, "NoSuchTagSet"):
        s3.get_bucket_tagging(Bucket=bucket)
