"""Appending with ``x-amz-write-offset-bytes`` over boto3 against the real store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.system.conftest import Store

BUCKET = "append"
VERSIONED = "append-versioned"
MIB = 1 << 20
KEY = "log"


@pytest.fixture(scope="module")
def s3(store: Store) -> Any:
    client = store.client()
    client.create_bucket(Bucket=BUCKET)
    client.create_bucket(Bucket=VERSIONED)
    client.put_bucket_versioning(Bucket=VERSIONED, VersioningConfiguration={"Status": "Enabled"})
    return client


@pytest.fixture(autouse=True)
def no_object(s3: Any) -> Iterator[None]:
    yield
    s3.delete_object(Bucket=BUCKET, Key=KEY)


def append(s3: Any, offset: int, body: bytes, bucket: str = BUCKET, **extra: Any) -> Any:
    return s3.put_object(Bucket=bucket, Key=KEY, Body=body, WriteOffsetBytes=offset, **extra)


def content(s3: Any, **extra: Any) -> bytes:
    """All of it; boto3 checks it against the checksum that is kept, if that is one of the whole."""
    body: bytes = s3.get_object(Bucket=BUCKET, Key=KEY, ChecksumMode="ENABLED", **extra)["Body"].read()
    return body


def refusal(caught: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], str(answer["Error"]["Code"])


def test_a_log_grows(s3: Any) -> None:
    """From nothing, by pieces of all sizes; each answer tells the size, where the next piece goes."""
    pieces = [b"first", os.urandom(3 * MIB + 5), b"x", os.urandom(70_000)]
    size = 0
    for piece in pieces:
        answer = append(s3, size, piece, ContentType="a/b") if size == 0 else append(s3, size, piece)
        size += len(piece)
        assert answer["Size"] == size
    whole = b"".join(pieces)
    assert content(s3) == whole
    head = s3.head_object(Bucket=BUCKET, Key=KEY, ChecksumMode="ENABLED")
    assert (head["ContentLength"], head["ContentType"], head["ChecksumType"]) == (size, "a/b", "FULL_OBJECT")
    digest = hashlib.md5(b"".join(hashlib.md5(piece).digest() for piece in pieces)).hexdigest()
    assert head["ETag"] == answer["ETag"] == f'"{digest}-4"'
    ranged = s3.get_object(Bucket=BUCKET, Key=KEY, Range=f"bytes=3-{5 + 3 * MIB + 7}")["Body"].read()
    assert ranged == whole[3 : 5 + 3 * MIB + 8]
    part = s3.get_object(Bucket=BUCKET, Key=KEY, PartNumber=4)
    assert (part["Body"].read(), part["PartsCount"]) == (pieces[3], 4)


@pytest.mark.parametrize("algorithm", ["CRC32C", "CRC64NVME", "SHA256"])
def test_the_kept_checksum_covers_all_pieces(s3: Any, algorithm: str) -> None:
    """Of the whole where CRCs allow it, else that of the pieces' checksums. Red when the first piece's is kept."""
    field = f"Checksum{algorithm}"
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"one ", ChecksumAlgorithm=algorithm)
    answer = append(s3, 4, b"two", ChecksumAlgorithm=algorithm)
    assert content(s3) == b"one two"
    plain = s3.put_object(Bucket=BUCKET, Key="plain", Body=b"one two", ChecksumAlgorithm=algorithm)
    if algorithm == "SHA256":
        assert (answer["ChecksumType"], answer[field][-2:]) == ("COMPOSITE", "-2")
    else:
        assert (answer["ChecksumType"], answer[field]) == ("FULL_OBJECT", plain[field])


def test_what_is_refused(s3: Any) -> None:
    """And changes nothing."""
    with pytest.raises(ClientError) as caught:
        append(s3, 4, b"x")
    assert refusal(caught) == (400, "InvalidWriteOffset")
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"0123", Metadata={"a": "b"}, ChecksumAlgorithm="SHA1")
    cases: list[tuple[int, bytes, dict[str, Any], tuple[int, str]]] = [
        (0, b"x", {}, (400, "InvalidWriteOffset")),
        (5, b"x", {}, (400, "InvalidWriteOffset")),
        (-1, b"x", {}, (400, "InvalidArgument")),
        (4, b"", {}, (400, "InvalidRequest")),
        (4, b"x", {"Metadata": {"c": "d"}}, (400, "InvalidRequest")),
        (4, b"x", {"ChecksumAlgorithm": "CRC32"}, (400, "InvalidRequest")),
        (
            4,
            b"x",
            {"ServerSideEncryption": "AES256", "ChecksumAlgorithm": "SHA1"},
            (400, "EncryptionTypeMismatch"),
        ),
        (4, b"x", {"IfMatch": "no", "ChecksumAlgorithm": "SHA1"}, (412, "PreconditionFailed")),
    ]
    for offset, body, extra, expected in cases:
        with pytest.raises(ClientError) as caught:
            append(s3, offset, body, **extra)
        assert refusal(caught) == expected, (offset, body, extra)
    assert content(s3) == b"0123"
    append(s3, 4, b"4", ChecksumAlgorithm="SHA1")
    assert s3.get_object(Bucket=BUCKET, Key=KEY)["Metadata"] == {"a": "b"}


def test_several_writers_lose_no_piece(s3: Any) -> None:
    """Each tries until its piece is in: at the end all are there, once. Red when two pieces at the same offset are
    both acknowledged."""
    append(s3, 0, b"|")

    def write(name: int) -> None:
        for turn in range(6):
            while True:
                size = s3.head_object(Bucket=BUCKET, Key=KEY)["ContentLength"]
                try:
                    append(s3, size, f"{name}.{turn}|".encode())
                except s3.exceptions.InvalidWriteOffset:
                    continue
                break

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(write, name) for name in range(4)]:
            done.result()
    words = content(s3).decode().strip("|").split("|")
    assert sorted(words) == sorted(f"{name}.{turn}" for name in range(4) for turn in range(6))
    for name in range(4):
        assert [word for word in words if word[0] == str(name)] == [f"{name}.{turn}" for turn in range(6)]


def test_a_version_stays_what_it_was(s3: Any) -> None:
    """Where versions are kept, appending makes one, and deleting it brings the shorter one back."""
    first = append(s3, 0, b"one", VERSIONED)["VersionId"]
    second = append(s3, 3, b"two", VERSIONED)["VersionId"]
    third = append(s3, 6, b"three", VERSIONED)["VersionId"]
    s3.delete_object(Bucket=VERSIONED, Key=KEY, VersionId=second)
    for version, expected in ((first, b"one"), (third, b"onetwothree")):
        assert s3.get_object(Bucket=VERSIONED, Key=KEY, VersionId=version)["Body"].read() == expected
    s3.delete_object(Bucket=VERSIONED, Key=KEY, VersionId=third)
    assert s3.get_object(Bucket=VERSIONED, Key=KEY)["Body"].read() == b"one"


def test_a_copy_does_not_grow(s3: Any) -> None:
    """It shares the bytes that were there when it was made, also when it came in between."""
    for body in (b"one", b"two"):
        append(s3, 0 if body == b"one" else 3, body)
    s3.copy_object(Bucket=BUCKET, Key="copy", CopySource={"Bucket": BUCKET, "Key": KEY})
    append(s3, 6, b"three")
    s3.delete_object(Bucket=BUCKET, Key=KEY)
    assert s3.get_object(Bucket=BUCKET, Key="copy")["Body"].read() == b"onetwo"


def test_an_upload_in_parts_is_appended_to(s3: Any) -> None:
    name = {"Bucket": BUCKET, "Key": KEY}
    name["UploadId"] = s3.create_multipart_upload(**name)["UploadId"]
    parts = [
        {"PartNumber": number, "ETag": s3.upload_part(**name, PartNumber=number, Body=body)["ETag"]}
        for number, body in ((2, b"a" * 5 * MIB), (5, b"b"))
    ]
    s3.complete_multipart_upload(**name, MultipartUpload={"Parts": parts})
    append(s3, 5 * MIB + 1, b"c")
    assert content(s3) == b"a" * 5 * MIB + b"bc"
    assert s3.get_object(Bucket=BUCKET, Key=KEY, PartNumber=6)["Body"].read() == b"c"


@pytest.mark.parametrize("kind", ["AES256", "SSE-C"])
def test_an_encrypted_object_is_appended_to(s3: Any, kind: str) -> None:
    """With the object's own data key, whoever names no encryption; with SSE-C only whoever has the key."""
    key = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}
    other = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "o" * 32}
    extra = key if kind == "SSE-C" else {}
    first = extra or {"ServerSideEncryption": "AES256"}
    append(s3, 0, b"a" * 100_000, **first)
    append(s3, 100_000, b"b" * 70_000, **extra)
    append(s3, 170_000, b"c", **first)
    assert content(s3, **extra) == b"a" * 100_000 + b"b" * 70_000 + b"c"
    ranged = s3.get_object(Bucket=BUCKET, Key=KEY, Range="bytes=99999-100000", **extra)["Body"].read()
    assert ranged == b"ab"
    wrong: list[dict[str, Any]] = [{"ServerSideEncryption": "aws:kms"}, {} if extra else key]
    for headers in wrong:
        with pytest.raises(ClientError) as caught:
            append(s3, 170_001, b"x", **headers)
        assert refusal(caught) == (400, "EncryptionTypeMismatch")
    if extra:
        with pytest.raises(ClientError) as caught:
            append(s3, 170_001, b"x", **other)
        assert refusal(caught) == (400, "InvalidRequest")


def test_answers_tell_when_a_rule_ends_it(s3: Any) -> None:
    """As a PUT does: so do an append and a completed upload."""
    bucket = "append-expiring"
    s3.create_bucket(Bucket=bucket)
    rule = {"ID": "soon", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 3}}
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})
    told = [append(s3, 0, b"one", bucket)["Expiration"], append(s3, 3, b"two", bucket)["Expiration"]]
    name = {"Bucket": bucket, "Key": KEY}
    name["UploadId"] = s3.create_multipart_upload(**name)["UploadId"]
    part = {"PartNumber": 1, "ETag": s3.upload_part(**name, PartNumber=1, Body=b"x")["ETag"]}
    told.append(s3.complete_multipart_upload(**name, MultipartUpload={"Parts": [part]})["Expiration"])
    assert all('rule-id="soon"' in one for one in told)
