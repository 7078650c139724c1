"""Checksums that clients send, that are computed and kept, and that are told.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
"""

from __future__ import annotations

import base64
import hashlib
import random
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from conformance.suite.expect import refused

TEXT = b"The quick brown fox jumps over the lazy dog"
PART = random.Random(4).randbytes(5 << 20)
ALGORITHMS = ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256")
COMPUTED: dict[str, Callable[[bytes], bytes]] = {
    "CRC32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "SHA1": lambda data: hashlib.sha1(data).digest(),
    "SHA256": lambda data: hashlib.sha256(data).digest(),
}
KNOWN = {"CRC32C": "ImIEBA=="}
"""Of TEXT: RFC 3720's polynomial, as published for this sentence (0x22620404)."""


def encoded(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_checksum_is_checked_kept_and_told(s3: Any, bucket: str, algorithm: str) -> None:
    field = f"Checksum{algorithm}"
    put = s3.put_object(Bucket=bucket, Key="k", Body=TEXT, ChecksumAlgorithm=algorithm)
    if algorithm in COMPUTED:
        assert put[field] == encoded(COMPUTED[algorithm](TEXT))
    assert put[field] == KNOWN.get(algorithm, put[field])
    for call in (s3.get_object, s3.head_object):
        answer = call(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
        assert (answer[field], answer["ChecksumType"]) == (put[field], "FULL_OBJECT")
        assert field not in call(Bucket=bucket, Key="k", ChecksumMode="DISABLED")


@pytest.mark.parametrize("algorithm", COMPUTED)
def test_a_checksum_may_be_sent_ready_made(s3: Any, bucket: str, algorithm: str) -> None:
    field = f"Checksum{algorithm}"
    right = encoded(COMPUTED[algorithm](TEXT))
    assert s3.put_object(Bucket=bucket, Key="k", Body=TEXT, **{field: right})[field] == right
    with refused(400, "BadDigest"):
        s3.put_object(Bucket=bucket, Key="other", Body=b"something else", **{field: right})
    with refused(400, "InvalidRequest", "BadDigest"):
        s3.put_object(Bucket=bucket, Key="other", Body=TEXT, **{field: "no base64"})
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["k"]


def test_the_old_digest(plain_s3: Any, bucket: str) -> None:
    plain_s3.put_object(Bucket=bucket, Key="k", Body=TEXT, ContentMD5=encoded(hashlib.md5(TEXT).digest()))
    with refused(400, "BadDigest"):
        plain_s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentMD5=encoded(hashlib.md5(TEXT).digest()))
    with refused(400, "InvalidDigest"):
        plain_s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentMD5="short")
    assert plain_s3.get_object(Bucket=bucket, Key="k")["Body"].read() == TEXT


def test_without_one_the_store_computes_its_own(plain_s3: Any, s3: Any, bucket: str) -> None:
    plain_s3.put_object(Bucket=bucket, Key="k", Body=TEXT)
    answer = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert answer["ChecksumCRC64NVME"]


def test_a_listing_names_the_algorithm(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=TEXT, ChecksumAlgorithm="SHA256")
    (entry,) = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert entry["ChecksumAlgorithm"] == ["SHA256"]


@pytest.mark.parametrize("algorithm", ALGORITHMS[:1] + ALGORITHMS[3:])
def test_of_an_upload_a_checksum_of_checksums(s3: Any, bucket: str, algorithm: str) -> None:
    field = f"Checksum{algorithm}"
    upload = s3.create_multipart_upload(
        Bucket=bucket, Key="k", ChecksumAlgorithm=algorithm, ChecksumType="COMPOSITE"
    )
    named = {"Bucket": bucket, "Key": "k", "UploadId": upload["UploadId"]}
    parts = []
    for number, body in ((1, PART), (2, TEXT)):
        answer = s3.upload_part(**named, PartNumber=number, Body=body, ChecksumAlgorithm=algorithm)
        parts.append({"PartNumber": number, "ETag": answer["ETag"], field: answer[field]})
    answer = s3.complete_multipart_upload(**named, MultipartUpload={"Parts": parts})
    computed = COMPUTED[algorithm]
    expected = f"{encoded(computed(computed(PART) + computed(TEXT)))}-2"
    assert (answer[field], answer["ChecksumType"]) == (expected, "COMPOSITE")
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert (head[field], head["ChecksumType"]) == (expected, "COMPOSITE")
    part = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED", PartNumber=1)
    assert part["PartsCount"] == 2


def test_of_an_upload_the_checksum_of_the_whole(s3: Any, bucket: str) -> None:
    upload = s3.create_multipart_upload(
        Bucket=bucket, Key="k", ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT"
    )
    named = {"Bucket": bucket, "Key": "k", "UploadId": upload["UploadId"]}
    parts = []
    for number, body in ((1, PART), (2, TEXT)):
        answer = s3.upload_part(**named, PartNumber=number, Body=body, ChecksumAlgorithm="CRC32")
        parts.append({"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC32": answer["ChecksumCRC32"]})
    whole = encoded(COMPUTED["CRC32"](PART + TEXT))
    with refused(400, "BadDigest", "InvalidRequest"):
        s3.complete_multipart_upload(
            **named, MultipartUpload={"Parts": parts}, ChecksumCRC32="AAAAAA==", ChecksumType="FULL_OBJECT"
        )
    answer = s3.complete_multipart_upload(
        **named, MultipartUpload={"Parts": parts}, ChecksumCRC32=whole, ChecksumType="FULL_OBJECT"
    )
    assert (answer["ChecksumCRC32"], answer["ChecksumType"]) == (whole, "FULL_OBJECT")


def test_checksums_that_no_upload_can_have(s3: Any, bucket: str) -> None:
    """Digests can't be put together to that of the whole; CRC-64/NVME has no checksum of checksums."""
    for algorithm, kind in (("SHA256", "FULL_OBJECT"), ("CRC64NVME", "COMPOSITE")):
        with refused(400, "InvalidRequest"):
            s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm=algorithm, ChecksumType=kind)


def test_a_part_with_a_wrong_checksum(s3: Any, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm="CRC32")["UploadId"]
    with refused(400, "BadDigest"):
        s3.upload_part(
            Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=TEXT, ChecksumCRC32="AAAAAA=="
        )
    assert "Parts" not in s3.list_parts(Bucket=bucket, Key="k", UploadId=upload)


def test_a_copy_may_get_another_checksum(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="from", Body=TEXT, ChecksumAlgorithm="CRC32")
    source = {"Bucket": bucket, "Key": "from"}
    same = s3.copy_object(Bucket=bucket, Key="to", CopySource=source)["CopyObjectResult"]
    assert same["ChecksumCRC32"] == encoded(COMPUTED["CRC32"](TEXT))
    other = s3.copy_object(Bucket=bucket, Key="to", CopySource=source, ChecksumAlgorithm="SHA256")
    assert other["CopyObjectResult"]["ChecksumSHA256"] == encoded(COMPUTED["SHA256"](TEXT))
