"""Conditional requests: reads, writes, completes, deletes.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-requests.html
https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-deletes.html
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from conformance.suite.expect import refused

OTHER = '"0123456789abcdef0123456789abcdef"'


@pytest.fixture
def etag(s3: Any, bucket: str) -> str:
    """Of the object `k`."""
    told: str = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    return told


@pytest.mark.parametrize("name", ["get_object", "head_object"])
def test_reads_by_etag(s3: Any, bucket: str, etag: str, name: str) -> None:
    call = getattr(s3, name)
    call(Bucket=bucket, Key="k", IfMatch=etag)
    call(Bucket=bucket, Key="k", IfMatch="*")
    call(Bucket=bucket, Key="k", IfNoneMatch=OTHER)
    with refused(412):
        call(Bucket=bucket, Key="k", IfMatch=OTHER)
    with refused(304):
        call(Bucket=bucket, Key="k", IfNoneMatch=etag)


@pytest.mark.parametrize("name", ["get_object", "head_object"])
def test_reads_by_date(s3: Any, bucket: str, etag: str, name: str) -> None:
    call = getattr(s3, name)
    changed = s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    earlier = changed - timedelta(hours=1)
    call(Bucket=bucket, Key="k", IfModifiedSince=earlier)
    call(Bucket=bucket, Key="k", IfUnmodifiedSince=changed)
    with refused(304):
        call(Bucket=bucket, Key="k", IfModifiedSince=changed)
    with refused(412):
        call(Bucket=bucket, Key="k", IfUnmodifiedSince=earlier)


def test_an_etag_counts_more_than_a_date(s3: Any, bucket: str, etag: str) -> None:
    changed = s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    earlier = changed - timedelta(hours=1)
    s3.get_object(Bucket=bucket, Key="k", IfMatch=etag, IfUnmodifiedSince=earlier)
    with refused(304):
        s3.get_object(Bucket=bucket, Key="k", IfNoneMatch=etag, IfModifiedSince=earlier)


def test_a_write_only_where_nothing_is(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="new", Body=b"one", IfNoneMatch="*")
    with refused(412, "PreconditionFailed"):
        s3.put_object(Bucket=bucket, Key="new", Body=b"two", IfNoneMatch="*")
    assert s3.get_object(Bucket=bucket, Key="new")["Body"].read() == b"one"


def test_a_write_only_over_what_is_known(s3: Any, bucket: str, etag: str) -> None:
    with refused(412, "PreconditionFailed"):
        s3.put_object(Bucket=bucket, Key="k", Body=b"y", IfMatch=OTHER)
    changed = s3.put_object(Bucket=bucket, Key="k", Body=b"y", IfMatch=etag)["ETag"]
    assert changed != etag
    with refused(412, "PreconditionFailed"):
        s3.put_object(Bucket=bucket, Key="k", Body=b"z", IfMatch=etag)
    with refused(404, "NoSuchKey"):
        s3.put_object(Bucket=bucket, Key="none", Body=b"z", IfMatch=etag)


def test_a_delete_marker_is_nothing(s3: Any, versioned: str) -> None:
    etag = s3.put_object(Bucket=versioned, Key="k", Body=b"x")["ETag"]
    s3.delete_object(Bucket=versioned, Key="k")
    with refused(404, "NoSuchKey"):
        s3.put_object(Bucket=versioned, Key="k", Body=b"y", IfMatch=etag)
    s3.put_object(Bucket=versioned, Key="k", Body=b"y", IfNoneMatch="*")


def test_a_complete_only_where_nothing_is(s3: Any, bucket: str, etag: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    named = {"Bucket": bucket, "Key": "k", "UploadId": upload}
    part = s3.upload_part(**named, PartNumber=1, Body=b"part")["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": part}]}
    with refused(412, "PreconditionFailed"):
        s3.complete_multipart_upload(**named, MultipartUpload=parts, IfNoneMatch="*")
    with refused(412, "PreconditionFailed"):
        s3.complete_multipart_upload(**named, MultipartUpload=parts, IfMatch=OTHER)
    s3.complete_multipart_upload(**named, MultipartUpload=parts, IfMatch=etag)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"part"


def test_a_delete_only_of_what_is_known(s3: Any, bucket: str, etag: str) -> None:
    with refused(412, "PreconditionFailed"):
        s3.delete_object(Bucket=bucket, Key="k", IfMatch=OTHER)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"
    s3.delete_object(Bucket=bucket, Key="k", IfMatch=etag)
    with refused(404):
        s3.head_object(Bucket=bucket, Key="k")


def test_many_deletes_with_an_etag_each(s3: Any, bucket: str, etag: str) -> None:
    s3.put_object(Bucket=bucket, Key="other", Body=b"y")
    named = [{"Key": "k", "ETag": etag}, {"Key": "other", "ETag": OTHER}]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": named})
    assert [entry["Key"] for entry in answer["Deleted"]] == ["k"]
    assert [(entry["Key"], entry["Code"]) for entry in answer["Errors"]] == [("other", "PreconditionFailed")]
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["other"]


def test_the_source_of_a_copy(s3: Any, bucket: str, etag: str) -> None:
    source = {"Bucket": bucket, "Key": "k"}
    changed = s3.head_object(**source)["LastModified"]
    earlier = changed - timedelta(hours=1)
    s3.copy_object(Bucket=bucket, Key="to", CopySource=source, CopySourceIfMatch=etag)
    s3.copy_object(Bucket=bucket, Key="to", CopySource=source, CopySourceIfNoneMatch=OTHER)
    s3.copy_object(Bucket=bucket, Key="to", CopySource=source, CopySourceIfModifiedSince=earlier)
    failing = (
        *({"CopySourceIfMatch": OTHER}, {"CopySourceIfNoneMatch": etag}),
        {"CopySourceIfUnmodifiedSince": earlier},
    )
    for condition in failing:
        with refused(412, "PreconditionFailed"):
            s3.copy_object(Bucket=bucket, Key="to", CopySource=source, **condition)


def test_the_target_of_a_copy(s3: Any, bucket: str, etag: str) -> None:
    source = {"Bucket": bucket, "Key": "k"}
    s3.copy_object(Bucket=bucket, Key="to", CopySource=source, IfNoneMatch="*")
    with refused(412, "PreconditionFailed"):
        s3.copy_object(Bucket=bucket, Key="to", CopySource=source, IfNoneMatch="*")
    with refused(412, "PreconditionFailed"):
        s3.copy_object(Bucket=bucket, Key="to", CopySource=source, IfMatch=OTHER)
    s3.copy_object(Bucket=bucket, Key="to", CopySource=source, IfMatch=etag)


def test_no_update_is_lost_between_writers(s3: Any, bucket: str) -> None:
    """Compare and swap: each writer adds one to the number that it has read."""
    writers, rounds = 4, 5
    s3.put_object(Bucket=bucket, Key="n", Body=b"0")

    def added() -> bool:
        answer = s3.get_object(Bucket=bucket, Key="n")
        text = str(int(answer["Body"].read()) + 1).encode()
        try:
            s3.put_object(Bucket=bucket, Key="n", Body=text, IfMatch=answer["ETag"])
        except ClientError as caught:
            if caught.response["Error"]["Code"] not in ("PreconditionFailed", "ConditionalRequestConflict"):
                raise
            return False
        return True

    def add_all() -> None:
        done = 0
        while done < rounds:
            done += added()

    with ThreadPoolExecutor(writers) as pool:
        for each in [pool.submit(add_all) for _ in range(writers)]:
            each.result()
    assert int(s3.get_object(Bucket=bucket, Key="n")["Body"].read()) == writers * rounds
