"""Encryption by the server: SSE-S3, SSE-KMS, SSE-C, and what a bucket does by default.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/serv-side-encryption.html
https://docs.aws.amazon.com/AmazonS3/latest/userguide/ServerSideEncryptionCustomerKeys.html
https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketEncryption.html
"""

from __future__ import annotations

import base64
import hashlib
import random
from typing import Any

import pytest

from conformance.suite.expect import refused

DATA = random.Random(2).randbytes(200_000)
PART = random.Random(3).randbytes(5 << 20)
WRONG_KEY = ("AccessDenied", "InvalidRequest")
"""AWS's documentation names no code; both are in use."""
S3_KEY = {"ServerSideEncryption": "AES256"}
KMS_KEY = {"ServerSideEncryption": "aws:kms"}


def customer(letter: str) -> dict[str, str]:
    """boto3 adds the digest of the key by itself."""
    return {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": letter * 32}


def source_of(key: dict[str, str]) -> dict[str, str]:
    return {f"CopySource{name}": value for name, value in key.items()}


KINDS = [pytest.param({}, id="none"), pytest.param(S3_KEY, id="s3"), pytest.param(KMS_KEY, id="kms")]
ALL_KINDS = [*KINDS, pytest.param(customer("a"), id="customer")]


def to_read(sealing: dict[str, str]) -> dict[str, str]:
    """What a reader has to send: the customer's key, or nothing."""
    return sealing if "SSECustomerKey" in sealing else {}


@pytest.mark.parametrize("sealing", ALL_KINDS)
@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 200_000])
def test_bytes_come_back_exactly(s3: Any, bucket: str, sealing: dict[str, str], size: int) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=DATA[:size], **sealing)
    answer = s3.get_object(Bucket=bucket, Key="k", **to_read(sealing))
    assert answer["Body"].read() == DATA[:size]
    assert answer["ContentLength"] == size


@pytest.mark.parametrize("sealing", ALL_KINDS)
def test_ranges(s3: Any, bucket: str, sealing: dict[str, str]) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=DATA, **sealing)
    for first, last in ((0, 0), (65_535, 65_536), (65_536, 131_071), (100, 199_999), (199_999, 199_999)):
        answer = s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={first}-{last}", **to_read(sealing))
        assert answer["Body"].read() == DATA[first : last + 1]


@pytest.mark.parametrize("sealing", [S3_KEY, KMS_KEY])
def test_the_answers_name_the_kind(s3: Any, bucket: str, sealing: dict[str, str]) -> None:
    named = {"Bucket": bucket, "Key": "k"}
    answers = [s3.put_object(**named, Body=b"x", **sealing), s3.get_object(**named), s3.head_object(**named)]
    for answer in answers:
        assert answer["ServerSideEncryption"] == sealing["ServerSideEncryption"]
        assert ("SSEKMSKeyId" in answer) is (sealing == KMS_KEY)


def test_a_customers_key_is_needed_for_every_read(s3: Any, bucket: str) -> None:
    named, key = {"Bucket": bucket, "Key": "k"}, customer("a")
    put = s3.put_object(**named, Body=b"x", **key)
    digest = base64.b64encode(hashlib.md5(b"a" * 32).digest()).decode()
    assert (put["SSECustomerAlgorithm"], put["SSECustomerKeyMD5"]) == ("AES256", digest)
    assert s3.head_object(**named, **key)["SSECustomerKeyMD5"] == digest
    with refused(400, "InvalidRequest"):
        s3.get_object(**named)
    with refused(400):
        s3.head_object(**named)
    with refused((400, 403), *WRONG_KEY):
        s3.get_object(**named, **customer("b"))
    with refused((400, 403)):
        s3.head_object(**named, **customer("b"))


def test_a_customers_key_for_what_has_none(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    with refused(400, "InvalidRequest"):
        s3.get_object(Bucket=bucket, Key="k", **customer("a"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "a" * 31},
        {"SSECustomerAlgorithm": "AES128", "SSECustomerKey": "a" * 32},
        {**customer("a"), "SSECustomerKeyMD5": "AAAAAAAAAAAAAAAAAAAAAA=="},
        {"SSECustomerKey": "a" * 32},
        {"SSECustomerAlgorithm": "AES256"},
        {**customer("a"), **S3_KEY},
        {"ServerSideEncryption": "ROT13"},
        {**S3_KEY, "SSEKMSKeyId": "some-key"},
        {**KMS_KEY, "SSEKMSKeyId": "no-such-key"},
    ],
)
def test_headers_that_are_refused(s3: Any, bucket: str, wrong: dict[str, str]) -> None:
    with refused(400):
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", **wrong)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


@pytest.mark.parametrize("before", ALL_KINDS)
@pytest.mark.parametrize("after", [*ALL_KINDS, pytest.param(customer("b"), id="other customer")])
def test_a_copy_may_change_the_kind(
    s3: Any, bucket: str, before: dict[str, str], after: dict[str, str]
) -> None:
    s3.put_object(Bucket=bucket, Key="from", Body=DATA, **before)
    source = source_of(to_read(before))
    s3.copy_object(Bucket=bucket, Key="to", CopySource={"Bucket": bucket, "Key": "from"}, **source, **after)
    answer = s3.get_object(Bucket=bucket, Key="to", **to_read(after))
    assert answer["Body"].read() == DATA
    if "ServerSideEncryption" in after:
        assert answer["ServerSideEncryption"] == after["ServerSideEncryption"]


def test_a_copy_needs_the_key_of_its_source(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="from", Body=b"x", **customer("a"))
    source = {"Bucket": bucket, "Key": "from"}
    with refused(400, "InvalidRequest"):
        s3.copy_object(Bucket=bucket, Key="to", CopySource=source)
    with refused((400, 403), *WRONG_KEY):
        s3.copy_object(Bucket=bucket, Key="to", CopySource=source, **source_of(customer("b")))


@pytest.mark.parametrize("sealing", [*KINDS[1:], pytest.param(customer("a"), id="customer")])
def test_a_multipart_upload(s3: Any, bucket: str, sealing: dict[str, str]) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", **sealing)["UploadId"]
    named = {"Bucket": bucket, "Key": "k", "UploadId": upload}
    parts = []
    for number, body in ((1, PART), (2, b"the end")):
        answer = s3.upload_part(**named, PartNumber=number, Body=body, **to_read(sealing))
        parts.append({"PartNumber": number, "ETag": answer["ETag"]})
    s3.complete_multipart_upload(**named, MultipartUpload={"Parts": parts}, **to_read(sealing))
    got = s3.get_object(Bucket=bucket, Key="k", **to_read(sealing))
    assert got["Body"].read() == PART + b"the end"
    edge = f"bytes={len(PART) - 2}-{len(PART) + 2}"
    got = s3.get_object(Bucket=bucket, Key="k", Range=edge, **to_read(sealing))
    assert got["Body"].read() == PART[-2:] + b"the"
    got = s3.get_object(Bucket=bucket, Key="k", PartNumber=2, **to_read(sealing))
    assert got["Body"].read() == b"the end"


def test_a_part_needs_the_key_of_its_upload(s3: Any, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", **customer("a"))["UploadId"]
    named = {"Bucket": bucket, "Key": "k", "UploadId": upload, "PartNumber": 1}
    with refused(400, "InvalidRequest"):
        s3.upload_part(**named, Body=b"x")
    with refused((400, 403), *WRONG_KEY):
        s3.upload_part(**named, Body=b"x", **customer("b"))


@pytest.mark.parametrize(
    "default",
    [{"SSEAlgorithm": "AES256"}, {"SSEAlgorithm": "aws:kms"}],
)
def test_the_default_of_a_bucket(s3: Any, bucket: str, default: dict[str, str]) -> None:
    rules = [{"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": False}]
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": rules})
    told = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert [each["ApplyServerSideEncryptionByDefault"] for each in told] == [default]
    answer = s3.put_object(Bucket=bucket, Key="k", Body=DATA)
    assert answer["ServerSideEncryption"] == default["SSEAlgorithm"]
    got = s3.get_object(Bucket=bucket, Key="k")
    assert (got["ServerSideEncryption"], got["Body"].read()) == (default["SSEAlgorithm"], DATA)
    s3.delete_bucket_encryption(Bucket=bucket)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == DATA


def test_what_the_request_says_counts_more_than_the_default(s3: Any, bucket: str) -> None:
    rules = [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": rules})
    assert s3.put_object(Bucket=bucket, Key="k", Body=b"x", **S3_KEY)["ServerSideEncryption"] == "AES256"
    answer = s3.put_object(Bucket=bucket, Key="k", Body=b"x", **customer("a"))
    assert "ServerSideEncryption" not in answer


def test_a_default_that_is_refused(s3: Any, bucket: str) -> None:
    rules = [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "ROT13"}}]
    with refused(400, "MalformedXML", "InvalidArgument", "InvalidEncryptionAlgorithmError"):
        s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": rules})
