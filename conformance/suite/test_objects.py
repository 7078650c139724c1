"""Objects: bytes, keys, headers, ranges, storage classes, attributes.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html (API_GetObject, API_HeadObject, API_DeleteObject)
https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectAttributes.html
https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
"""

from __future__ import annotations

import hashlib
import random
from datetime import UTC, datetime
from typing import Any

import pytest

from conformance.suite.expect import header, refused

MIB = 1 << 20
TEXT = b"0123456789"


@pytest.mark.parametrize("size", [0, 1, 65_536, MIB - 1, MIB + 1, 5 * MIB + 3])
def test_bytes_come_back_exactly(s3: Any, bucket: str, size: int) -> None:
    data = random.Random(size).randbytes(size)
    put = s3.put_object(Bucket=bucket, Key="k", Body=data)
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == data
    assert put["ETag"] == got["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
    assert s3.head_object(Bucket=bucket, Key="k")["ContentLength"] == size


@pytest.mark.parametrize(
    "key",
    [
        *(
            "a",
            "a b",
            "a+b",
            "a%20b",
            "a/b/c",
            "a//b",
            "/a",
            "a/",
            "ä/日本/🦒",
            "a&b<c>'\"",
            "~!*()$,;:@=",
            "a?b#c",
        ),
        *(".", "a/./b", "a/../b", "\t", "a\nb", "\x7f", "x" * 1024, "é" * 512),
    ],
)
def test_a_key_may_be_any_utf8(s3: Any, bucket: str, key: str) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    (entry,) = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert entry["Key"] == key
    s3.delete_object(Bucket=bucket, Key=key)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_a_key_of_more_than_1024_bytes_is_refused(s3: Any, bucket: str) -> None:
    with refused(400, "KeyTooLongError"):
        s3.put_object(Bucket=bucket, Key="x" * 1025, Body=b"")


def test_what_is_not_there(s3: Any, bucket: str) -> None:
    with refused(404, "NoSuchKey"):
        s3.get_object(Bucket=bucket, Key="k")
    with refused(404):
        s3.head_object(Bucket=bucket, Key="k")
    assert s3.delete_object(Bucket=bucket, Key="k")["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_the_last_write_is_read(s3: Any, bucket: str) -> None:
    for text in (b"one", b"", b"three"):
        s3.put_object(Bucket=bucket, Key="k", Body=text)
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == text
    assert len(s3.list_objects_v2(Bucket=bucket)["Contents"]) == 1


def test_headers_and_metadata_are_kept(s3: Any, bucket: str) -> None:
    sent = {
        "ContentType": "text/plain; charset=utf-8",
        "CacheControl": "max-age=60",
        "ContentDisposition": 'attachment; filename="a b"',
        "ContentEncoding": "gzip",
        "ContentLanguage": "de",
        "Metadata": {"colour": "blue", "with-dash": "a  b", "empty": ""},
    }
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Expires=datetime(2040, 1, 2, tzinfo=UTC), **sent)
    for answer in (s3.get_object(Bucket=bucket, Key="k"), s3.head_object(Bucket=bucket, Key="k")):
        assert {name: answer[name] for name in sent} == sent
        assert answer["ExpiresString"] == "Mon, 02 Jan 2040 00:00:00 GMT"


def test_a_new_write_forgets_the_old_metadata(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Metadata={"a": "1"}, CacheControl="no-store")
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Metadata={"b": "2"})
    answer = s3.head_object(Bucket=bucket, Key="k")
    assert answer["Metadata"] == {"b": "2"}
    assert "CacheControl" not in answer


def test_the_content_type_when_none_is_given(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert s3.head_object(Bucket=bucket, Key="k")["ContentType"] == "binary/octet-stream"


def test_metadata_may_be_two_kilobytes(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"", Metadata={"n": "x" * 2047})
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == {"n": "x" * 2047}
    with refused(400, "MetadataTooLarge"):
        s3.put_object(Bucket=bucket, Key="k", Body=b"", Metadata={"n": "x" * 2048})


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        *(("bytes=0-0", 0, 0), ("bytes=2-5", 2, 5), ("bytes=7-", 7, 9), ("bytes=-3", 7, 9)),
        *(("bytes=5-100", 5, 9), ("bytes=-100", 0, 9), ("bytes=9-9", 9, 9)),
    ],
)
def test_a_range(s3: Any, bucket: str, asked: str, first: int, last: int) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=TEXT)
    answer = s3.get_object(Bucket=bucket, Key="k", Range=asked)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert answer["Body"].read() == TEXT[first : last + 1]
    assert answer["ContentRange"] == f"bytes {first}-{last}/10"
    assert s3.head_object(Bucket=bucket, Key="k", Range=asked)["ContentLength"] == last - first + 1


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=10-12", "bytes=-0"])
def test_a_range_outside_of_the_object(s3: Any, bucket: str, asked: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=TEXT)
    with refused(416, "InvalidRange"):
        s3.get_object(Bucket=bucket, Key="k", Range=asked)


@pytest.mark.parametrize("asked", ["bytes=5-2", "lines=0-1", "bytes=a-b"])
def test_a_range_that_is_none_is_ignored(s3: Any, bucket: str, asked: str) -> None:
    """RFC 9110, section 14.2: an invalid Range header is as good as none."""
    s3.put_object(Bucket=bucket, Key="k", Body=TEXT)
    answer = s3.get_object(Bucket=bucket, Key="k", Range=asked)
    assert (answer["ResponseMetadata"]["HTTPStatusCode"], answer["Body"].read()) == (200, TEXT)


def test_headers_of_the_answer_may_be_chosen(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentType="text/plain")
    chosen = {"ContentType": "text/html", "CacheControl": "no-cache", "ContentDisposition": "inline"}
    asked = {f"Response{name}": value for name, value in chosen.items()}
    answer = s3.get_object(Bucket=bucket, Key="k", **asked)
    assert {name: answer[name] for name in chosen} == chosen
    assert s3.get_object(Bucket=bucket, Key="k")["ContentType"] == "text/plain"


@pytest.mark.parametrize(
    "name", ["STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR", "REDUCED_REDUNDANCY"]
)
def test_a_storage_class_is_kept(s3: Any, bucket: str, name: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", StorageClass=name)
    assert s3.head_object(Bucket=bucket, Key="k")["StorageClass"] == name
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"
    assert s3.list_objects_v2(Bucket=bucket)["Contents"][0]["StorageClass"] == name


def test_the_standard_class_shows_in_listings_only(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", StorageClass="STANDARD")
    assert "StorageClass" not in s3.head_object(Bucket=bucket, Key="k")
    assert s3.list_objects_v2(Bucket=bucket)["Contents"][0]["StorageClass"] == "STANDARD"


def test_a_storage_class_that_is_none(s3: Any, bucket: str) -> None:
    with refused(400, "InvalidStorageClass"):
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", StorageClass="SHINY")


def test_the_redirect_of_a_website_is_kept(s3: Any, bucket: str) -> None:
    for place in ("/other", "http://example.com/", "https://example.com/page"):
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", WebsiteRedirectLocation=place)
        assert s3.head_object(Bucket=bucket, Key="k")["WebsiteRedirectLocation"] == place
    with refused(400, "InvalidRedirectLocation"):
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", WebsiteRedirectLocation="elsewhere")


def test_many_keys_are_deleted_at_once(s3: Any, bucket: str) -> None:
    for key in ("a", "b", "c"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    named = [{"Key": key} for key in ("a", "b", "none")]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": named})
    assert sorted(entry["Key"] for entry in answer["Deleted"]) == ["a", "b", "none"]
    assert "Errors" not in answer
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["c"]
    quiet = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "c"}], "Quiet": True})
    assert "Deleted" not in quiet
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_no_more_than_1000_keys_are_deleted_at_once(s3: Any, bucket: str) -> None:
    named = [{"Key": str(number)} for number in range(1001)]
    assert len(s3.delete_objects(Bucket=bucket, Delete={"Objects": named[1:]})["Deleted"]) == 1000
    with refused(400, "MalformedXML"):
        s3.delete_objects(Bucket=bucket, Delete={"Objects": named})


def test_attributes(s3: Any, bucket: str) -> None:
    put = s3.put_object(Bucket=bucket, Key="k", Body=TEXT, ChecksumAlgorithm="SHA256")
    asked = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]
    answer = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=asked)
    assert answer["ETag"] == put["ETag"].strip('"')
    assert answer["ObjectSize"] == len(TEXT)
    assert answer["StorageClass"] == "STANDARD"
    assert answer["Checksum"]["ChecksumSHA256"] == put["ChecksumSHA256"]
    assert "ObjectParts" not in answer
    assert header(answer, "last-modified")


def test_only_the_attributes_asked_for(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=TEXT)
    answer = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["ObjectSize"])
    assert {"ETag", "Checksum", "StorageClass", "ObjectSize"} & answer.keys() == {"ObjectSize"}
    with refused(400, "InvalidArgument"):
        s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["Colour"])
    with refused(404, "NoSuchKey"):
        s3.get_object_attributes(Bucket=bucket, Key="none", ObjectAttributes=["ETag"])
