"""Multipart uploads.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html (API_UploadPart, API_UploadPartCopy,
API_ListParts, API_ListMultipartUploads, API_AbortMultipartUpload)
"""

from __future__ import annotations

import hashlib
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from conformance.suite.expect import header, refused

MIB = 1 << 20
PART = random.Random(1).randbytes(5 * MIB)
TAIL = b"the last part may be short"


def begun(s3: Any, bucket: str, key: str = "k", **arguments: Any) -> dict[str, str]:
    """What each request about the upload names."""
    upload = s3.create_multipart_upload(Bucket=bucket, Key=key, **arguments)["UploadId"]
    return {"Bucket": bucket, "Key": key, "UploadId": upload}


def sent(s3: Any, upload: dict[str, str], number: int, body: bytes) -> dict[str, Any]:
    etag = s3.upload_part(**upload, PartNumber=number, Body=body)["ETag"]
    return {"PartNumber": number, "ETag": etag}


def completed(s3: Any, upload: dict[str, str], *parts: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    answer: dict[str, Any] = s3.complete_multipart_upload(
        **upload, MultipartUpload={"Parts": list(parts)}, **arguments
    )
    return answer


def etag_of(*bodies: bytes) -> str:
    digests = b"".join(hashlib.md5(body).digest() for body in bodies)
    return f'"{hashlib.md5(digests).hexdigest()}-{len(bodies)}"'


def test_parts_become_an_object(s3: Any, bucket: str) -> None:
    upload = begun(
        s3, bucket, ContentType="text/plain", Metadata={"a": "1"}, Tagging="x=y", StorageClass="STANDARD_IA"
    )
    parts = sent(s3, upload, 1, PART), sent(s3, upload, 2, TAIL)
    with refused(404, "NoSuchKey"):
        s3.get_object(Bucket=bucket, Key="k")
    answer = completed(s3, upload, *parts)
    assert answer["ETag"] == etag_of(PART, TAIL)
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == PART + TAIL
    assert (got["ContentType"], got["Metadata"], got["StorageClass"]) == (
        "text/plain",
        {"a": "1"},
        "STANDARD_IA",
    )
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [{"Key": "x", "Value": "y"}]
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_numbers_may_have_gaps_and_parts_come_in_any_order(s3: Any, bucket: str) -> None:
    upload = begun(s3, bucket)
    last = sent(s3, upload, 10_000, TAIL)
    first = sent(s3, upload, 7, PART)
    completed(s3, upload, first, last)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == PART + TAIL


def test_a_part_sent_again_replaces_the_first(s3: Any, bucket: str) -> None:
    upload = begun(s3, bucket)
    old = sent(s3, upload, 1, b"old")
    new = sent(s3, upload, 1, b"new")
    with refused(400, "InvalidPart"):
        completed(s3, upload, old)
    completed(s3, upload, new)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"new"


def test_parts_that_are_not_named_are_left_out(s3: Any, bucket: str) -> None:
    upload = begun(s3, bucket)
    sent(s3, upload, 1, PART)
    completed(s3, upload, sent(s3, upload, 2, TAIL))
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == TAIL


def test_what_a_complete_refuses(s3: Any, bucket: str) -> None:
    upload = begun(s3, bucket)
    one, two = sent(s3, upload, 1, b"too small"), sent(s3, upload, 2, TAIL)
    with refused(400, "EntityTooSmall"):
        completed(s3, upload, one, two)
    with refused(400, "InvalidPartOrder"):
        completed(s3, upload, two, one)
    with refused(400, "InvalidPart"):
        completed(s3, upload, one, {"PartNumber": 3, "ETag": one["ETag"]})
    with refused(400, "MalformedXML"):
        completed(s3, upload)
    completed(s3, upload, one)


@pytest.mark.parametrize("number", [0, -1, 10_001])
def test_numbers_that_no_part_may_have(s3: Any, bucket: str, number: int) -> None:
    upload = begun(s3, bucket)
    with refused(400, "InvalidArgument"):
        s3.upload_part(**upload, PartNumber=number, Body=b"x")


def test_an_upload_that_is_none(s3: Any, bucket: str) -> None:
    upload = {"Bucket": bucket, "Key": "k", "UploadId": "none"}
    with refused(404, "NoSuchUpload"):
        s3.upload_part(**upload, PartNumber=1, Body=b"x")
    with refused(404, "NoSuchUpload"):
        completed(s3, upload, {"PartNumber": 1, "ETag": "x"})
    with refused(404, "NoSuchUpload"):
        s3.list_parts(**upload)
    with refused(404, "NoSuchUpload"):
        s3.abort_multipart_upload(**upload)


def test_an_upload_belongs_to_its_key(s3: Any, bucket: str) -> None:
    upload = begun(s3, bucket)
    with refused(404, "NoSuchUpload"):
        s3.upload_part(**{**upload, "Key": "other"}, PartNumber=1, Body=b"x")


def test_an_aborted_upload_is_gone(s3: Any, bucket: str) -> None:
    upload = begun(s3, bucket)
    part = sent(s3, upload, 1, b"x")
    s3.abort_multipart_upload(**upload)
    with refused(404, "NoSuchUpload"):
        completed(s3, upload, part)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_a_second_complete_says_the_same(s3: Any, bucket: str) -> None:
    """ "If you send the request again": the answer of a complete may have been lost on its way."""
    upload = begun(s3, bucket)
    part = sent(s3, upload, 1, TAIL)
    first = completed(s3, upload, part)
    assert completed(s3, upload, part)["ETag"] == first["ETag"]


def test_several_completes_at_once_make_one_object(s3: Any, versioned: str) -> None:
    upload = begun(s3, versioned)
    part = sent(s3, upload, 1, TAIL)
    with ThreadPoolExecutor(4) as pool:
        answers = [done.result() for done in [pool.submit(completed, s3, upload, part) for _ in range(4)]]
    assert len({answer["VersionId"] for answer in answers}) == 1
    assert len(s3.list_object_versions(Bucket=versioned)["Versions"]) == 1


def test_a_complete_makes_a_version(s3: Any, versioned: str) -> None:
    old = s3.put_object(Bucket=versioned, Key="k", Body=b"old")["VersionId"]
    upload = begun(s3, versioned)
    new = completed(s3, upload, sent(s3, upload, 1, b"new"))["VersionId"]
    assert new != old
    assert s3.get_object(Bucket=versioned, Key="k", VersionId=old)["Body"].read() == b"old"
    assert s3.get_object(Bucket=versioned, Key="k", VersionId=new)["Body"].read() == b"new"


def test_one_part_is_read(s3: Any, bucket: str) -> None:
    upload = begun(s3, bucket)
    completed(s3, upload, sent(s3, upload, 1, PART), sent(s3, upload, 2, TAIL))
    for number, body, whence in ((1, PART, 0), (2, TAIL, len(PART))):
        answer = s3.get_object(Bucket=bucket, Key="k", PartNumber=number)
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert answer["Body"].read() == body
        assert answer["PartsCount"] == 2
        assert answer["ContentRange"] == f"bytes {whence}-{whence + len(body) - 1}/{len(PART) + len(TAIL)}"
    assert s3.head_object(Bucket=bucket, Key="k", PartNumber=2)["ContentLength"] == len(TAIL)
    with pytest.raises(s3.exceptions.ClientError) as caught:
        s3.get_object(Bucket=bucket, Key="k", PartNumber=3)
    assert caught.value.response["Error"]["Code"] in ("InvalidPartNumber", "InvalidPart")


def test_ranges_go_over_the_edges_of_parts(s3: Any, bucket: str) -> None:
    upload = begun(s3, bucket)
    completed(s3, upload, sent(s3, upload, 1, PART), sent(s3, upload, 2, TAIL))
    whole, edge = PART + TAIL, len(PART)
    for first, last in ((edge - 3, edge + 3), (edge, edge), (edge - 1, edge - 1), (0, edge)):
        answer = s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={first}-{last}")
        assert answer["Body"].read() == whole[first : last + 1]


def test_a_part_may_be_copied(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="from", Body=PART)
    upload = begun(s3, bucket)
    source = {"Bucket": bucket, "Key": "from"}
    whole = s3.upload_part_copy(**upload, PartNumber=1, CopySource=source)["CopyPartResult"]
    some = s3.upload_part_copy(**upload, PartNumber=2, CopySource=source, CopySourceRange="bytes=10-19")
    assert whole["ETag"] == f'"{hashlib.md5(PART).hexdigest()}"'
    parts = [
        {"PartNumber": 1, "ETag": whole["ETag"]},
        {"PartNumber": 2, "ETag": some["CopyPartResult"]["ETag"]},
    ]
    completed(s3, upload, *parts)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == PART + PART[10:20]


@pytest.mark.parametrize("asked", ["bytes=0-99", "bytes=20-30", "bytes=5-2", "bytes=5-", "0-2"])
def test_a_copied_range_must_lie_inside(s3: Any, bucket: str, asked: str) -> None:
    s3.put_object(Bucket=bucket, Key="from", Body=b"0123456789")
    upload = begun(s3, bucket)
    with pytest.raises(s3.exceptions.ClientError) as caught:
        s3.upload_part_copy(
            **upload, PartNumber=1, CopySource={"Bucket": bucket, "Key": "from"}, CopySourceRange=asked
        )
    assert caught.value.response["Error"]["Code"] in ("InvalidArgument", "InvalidRange")


def test_parts_are_listed_in_pages(s3: Any, bucket: str) -> None:
    upload = begun(s3, bucket)
    made = [sent(s3, upload, number, b"x" * number) for number in (4, 1, 9, 2)]
    for limit in (1, 3, 1000):
        pages = s3.get_paginator("list_parts").paginate(**upload, PaginationConfig={"PageSize": limit})
        seen = [part for page in pages for part in page.get("Parts", ())]
        assert [(part["PartNumber"], part["Size"]) for part in seen] == [(1, 1), (2, 2), (4, 4), (9, 9)]
        assert {part["ETag"] for part in seen} == {part["ETag"] for part in made}
    page = s3.list_parts(**upload)
    assert (page["Key"], page["UploadId"], page["StorageClass"]) == ("k", upload["UploadId"], "STANDARD")
    assert page["Owner"]["ID"]
    assert page["Initiator"]["ID"]


def test_uploads_are_listed_in_pages(s3: Any, bucket: str) -> None:
    made = sorted((key, begun(s3, bucket, key)["UploadId"]) for key in ("a", "a", "b/1", "b/2", "c"))
    for limit in (1, 2, 1000):
        pages = s3.get_paginator("list_multipart_uploads").paginate(
            Bucket=bucket, PaginationConfig={"PageSize": limit}
        )
        seen = [(each["Key"], each["UploadId"]) for page in pages for each in page.get("Uploads", ())]
        assert [key for key, _ in seen] == ["a", "a", "b/1", "b/2", "c"]
        assert sorted(seen) == made
    page = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/")
    assert [entry["Prefix"] for entry in page["CommonPrefixes"]] == ["b/"]
    page = s3.list_multipart_uploads(Bucket=bucket, Prefix="b/")
    assert [entry["Key"] for entry in page["Uploads"]] == ["b/1", "b/2"]


def test_attributes_tell_of_the_parts(s3: Any, bucket: str) -> None:
    upload = begun(s3, bucket, ChecksumAlgorithm="CRC32")
    parts = []
    for number, body in ((1, PART), (2, TAIL)):
        answer = s3.upload_part(**upload, PartNumber=number, Body=body, ChecksumAlgorithm="CRC32")
        parts.append({"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC32": answer["ChecksumCRC32"]})
    completed(s3, upload, *parts)
    answer = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["ObjectParts", "ObjectSize"])
    assert answer["ObjectSize"] == len(PART) + len(TAIL)
    told = answer["ObjectParts"]
    assert told["TotalPartsCount"] == 2
    assert [(part["PartNumber"], part["Size"]) for part in told["Parts"]] == [(1, len(PART)), (2, len(TAIL))]
    page = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["ObjectParts"], MaxParts=1)
    assert (page["ObjectParts"]["IsTruncated"], page["ObjectParts"]["NextPartNumberMarker"]) == (True, 1)


def test_appending_to_an_object(s3: Any, bucket: str) -> None:
    """AWS has it for directory buckets only, as `x-amz-write-offset-bytes`."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"one ")
    try:
        s3.put_object(Bucket=bucket, Key="k", Body=b"two", WriteOffsetBytes=4)
    except s3.exceptions.ClientError as caught:
        if caught.response["Error"]["Code"] == "NotImplemented":
            pytest.skip("AWS appends in directory buckets only")
        raise
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"one two"
    with refused(400, "InvalidWriteOffset"):
        s3.put_object(Bucket=bucket, Key="k", Body=b"three", WriteOffsetBytes=4)
    assert header(s3.head_object(Bucket=bucket, Key="k"), "content-length") == "7"
