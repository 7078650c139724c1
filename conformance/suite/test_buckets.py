"""Buckets: made, found, listed, removed.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html
(API_ListBuckets, API_HeadBucket, API_DeleteBucket)
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from conformance.suite.conftest import PREFIX, MakeBucket
from conformance.suite.expect import header, refused

OTHER_ACCOUNT = "123456789012"


def missing() -> str:
    return f"{PREFIX}{uuid.uuid4()}"


def test_a_new_bucket_is_found_and_empty(s3: Any, bucket: str) -> None:
    assert s3.head_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_create_answers_the_location(s3: Any, place: dict[str, Any]) -> None:
    name = missing()
    answer = s3.create_bucket(Bucket=name, **place)
    s3.delete_bucket(Bucket=name)
    assert name in answer["Location"]


def test_a_deleted_bucket_is_gone(s3: Any, bucket: str) -> None:
    assert s3.delete_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 204
    with refused(404):
        s3.head_bucket(Bucket=bucket)
    with refused(404, "NoSuchBucket"):
        s3.delete_bucket(Bucket=bucket)


def test_what_is_asked_of_a_bucket_that_is_not_there(s3: Any) -> None:
    name = missing()
    with refused(404):
        s3.head_bucket(Bucket=name)
    for call in (s3.list_objects, s3.list_objects_v2, s3.list_object_versions, s3.get_bucket_location):
        with refused(404, "NoSuchBucket"):
            call(Bucket=name)
    with refused(404, "NoSuchBucket"):
        s3.put_object(Bucket=name, Key="k", Body=b"x")


def test_a_bucket_with_an_object_stays(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    with refused(409, "BucketNotEmpty"):
        s3.delete_bucket(Bucket=bucket)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


def test_a_bucket_with_nothing_but_a_delete_marker_stays(s3: Any, versioned: str) -> None:
    s3.delete_object(Bucket=versioned, Key="k")
    with refused(409, "BucketNotEmpty"):
        s3.delete_bucket(Bucket=versioned)


def test_making_ones_own_bucket_again_changes_nothing(s3: Any, bucket: str, place: dict[str, Any]) -> None:
    """In us-east-1 AWS answers 200, elsewhere 409."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    try:
        s3.create_bucket(Bucket=bucket, **place)
    except ClientError as caught:
        if caught.response["Error"]["Code"] != "BucketAlreadyOwnedByYou":
            raise
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


@pytest.mark.parametrize(
    "name",
    [
        "ab",
        "a" * 64,
        "Upper",
        "under_score",
        "-dash",
        "dash-",
        "two..dots",
        "192.168.1.1",
        "xn--name",
        "name-s3alias",
    ],
)
def test_names_that_no_bucket_may_have(s3: Any, name: str, place: dict[str, Any]) -> None:
    with refused(400, "InvalidBucketName"):
        s3.create_bucket(Bucket=name, **place)


@pytest.mark.parametrize("shape", ["{}", "{}.dots.in.it", "1-{}", "{}-9"])
def test_names_that_a_bucket_may_have(s3: Any, shape: str, place: dict[str, Any]) -> None:
    name = shape.format(uuid.uuid4().hex)
    s3.create_bucket(Bucket=name, **place)
    s3.head_bucket(Bucket=name)
    s3.delete_bucket(Bucket=name)


def test_the_list_names_a_bucket_and_when_it_was_made(s3: Any, bucket: str) -> None:
    answer = s3.list_buckets(Prefix=bucket)
    (entry,) = answer["Buckets"]
    assert entry["Name"] == bucket
    assert abs(datetime.now(UTC) - entry["CreationDate"]) < timedelta(hours=1)
    assert answer["Owner"]["ID"]


def test_the_list_comes_in_pages_in_order(s3: Any, make_bucket: MakeBucket) -> None:
    made = sorted(make_bucket() for _ in range(3))
    seen: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = s3.list_buckets(Prefix=PREFIX, MaxBuckets=2, **token)
        assert len(page["Buckets"]) <= 2
        seen += [entry["Name"] for entry in page["Buckets"]]
        if "ContinuationToken" not in page:
            break
        token = {"ContinuationToken": page["ContinuationToken"]}
    assert seen == sorted(seen)
    assert set(made) <= set(seen)


def test_where_a_bucket_lies(s3: Any, bucket: str, pytestconfig: pytest.Config) -> None:
    """us-east-1 is told as none."""
    region = pytestconfig.getoption("--region")
    told = s3.get_bucket_location(Bucket=bucket)["LocationConstraint"]
    assert (told or "us-east-1") == region
    assert header(s3.head_bucket(Bucket=bucket), "x-amz-bucket-region") == region


def test_another_expected_owner_is_refused(s3: Any, bucket: str) -> None:
    with refused(403, "AccessDenied"):
        s3.list_objects_v2(Bucket=bucket, ExpectedBucketOwner=OTHER_ACCOUNT)
    with refused(403, "AccessDenied"):
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", ExpectedBucketOwner=OTHER_ACCOUNT)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
