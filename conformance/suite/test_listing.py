"""Listings of current objects, compared with a naive model of what they must show.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html (API_ListObjects)
https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-prefixes.html
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from conformance.suite.conftest import PREFIX, remove_bucket
from conformance.suite.expect import refused

KEYS = (
    *("a", "a/", "a/1", "a/2", "a/b/1", "a/b/2", "a0", "b", "b/1", "b//1", "b|1", "c d/1", "c+d/1", "c%20d"),
    *("z/ü", "z/日本", "z/🦒", "z/\uffee", "Z", "~", "!", "dir/one/two/three", "dir/one/x"),
)
SHAPES = [
    *(
        ("", ""),
        ("", "/"),
        ("a", ""),
        ("a", "/"),
        ("a/", "/"),
        ("a/b", "/"),
        ("b", "|"),
        ("c", " "),
        ("", "one"),
    ),
    *(("z/", ""), ("z/", "/"), ("none", "/"), ("", "🦒"), ("dir/", "/"), ("dir/one/", "/"), ("", "//")),
]


@pytest.fixture(scope="module")
def full(s3: Any, place: dict[str, Any]) -> Iterator[str]:
    name = f"{PREFIX}listing-{id(s3):x}"
    s3.create_bucket(Bucket=name, **place)
    for key in KEYS:
        s3.put_object(Bucket=name, Key=key, Body=key.encode())
    yield name
    remove_bucket(s3, name)


def model(prefix: str, delimiter: str) -> list[str]:
    """Keys and common prefixes together, in the order of their UTF-8."""
    shown = set()
    for key in KEYS:
        if key.startswith(prefix):
            head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
            shown.add(prefix + head + delimiter if found else key)
    return sorted(shown, key=str.encode)


def shown(page: dict[str, Any]) -> list[str]:
    keys = [entry["Key"] for entry in page.get("Contents", ())]
    prefixes = [entry["Prefix"] for entry in page.get("CommonPrefixes", ())]
    assert keys == sorted(keys, key=str.encode)
    assert prefixes == sorted(prefixes, key=str.encode)
    return sorted(keys + prefixes, key=str.encode)


@pytest.mark.parametrize(("prefix", "delimiter"), SHAPES)
def test_one_page(s3: Any, full: str, prefix: str, delimiter: str) -> None:
    for call in (s3.list_objects, s3.list_objects_v2):
        page = call(Bucket=full, Prefix=prefix, Delimiter=delimiter)
        assert shown(page) == model(prefix, delimiter)
        assert page["IsTruncated"] is False
    assert page["KeyCount"] == len(model(prefix, delimiter))


@pytest.mark.parametrize("limit", [1, 2, 5])
@pytest.mark.parametrize(("prefix", "delimiter"), SHAPES)
def test_pages_show_everything_once(s3: Any, full: str, prefix: str, delimiter: str, limit: int) -> None:
    for name in ("list_objects", "list_objects_v2"):
        seen: list[str] = []
        pages = s3.get_paginator(name).paginate(
            Bucket=full, Prefix=prefix, Delimiter=delimiter, PaginationConfig={"PageSize": limit}
        )
        for page in pages:
            on_page = shown(page)
            assert len(on_page) <= limit
            seen += on_page
        assert seen == model(prefix, delimiter), name


def test_an_entry_tells_of_the_object(s3: Any, full: str) -> None:
    head = s3.head_object(Bucket=full, Key="dir/one/x")
    (entry,) = s3.list_objects_v2(Bucket=full, Prefix="dir/one/x", FetchOwner=True)["Contents"]
    assert (entry["ETag"], entry["Size"], entry["StorageClass"]) == (head["ETag"], 9, "STANDARD")
    assert entry["LastModified"].replace(microsecond=0) == head["LastModified"]
    assert entry["Owner"]["ID"] == s3.list_buckets(Prefix=full)["Owner"]["ID"]


def test_the_owner_is_told_when_asked_for(s3: Any, full: str) -> None:
    assert "Owner" not in s3.list_objects_v2(Bucket=full)["Contents"][0]
    assert "Owner" in s3.list_objects(Bucket=full)["Contents"][0]


def test_a_listing_may_begin_after_a_key(s3: Any, full: str) -> None:
    after = [key for key in model("", "") if key.encode() > b"b"]
    assert shown(s3.list_objects_v2(Bucket=full, StartAfter="b")) == after
    assert shown(s3.list_objects(Bucket=full, Marker="b")) == after
    assert shown(s3.list_objects_v2(Bucket=full, StartAfter="bb")) == [
        key for key in model("", "") if key.encode() > b"bb"
    ]


def test_a_token_counts_more_than_where_to_begin(s3: Any, full: str) -> None:
    first = s3.list_objects_v2(Bucket=full, MaxKeys=3, StartAfter="a")
    second = s3.list_objects_v2(
        Bucket=full, MaxKeys=3, StartAfter="a", ContinuationToken=first["NextContinuationToken"]
    )
    after = [key for key in model("", "") if key.encode() > b"a"]
    assert shown(first) + shown(second) == after[:6]
    assert second["ContinuationToken"] == first["NextContinuationToken"]


def test_no_keys_at_all(s3: Any, full: str) -> None:
    for call in (s3.list_objects, s3.list_objects_v2):
        page = call(Bucket=full, MaxKeys=0)
        assert "Contents" not in page
        assert page["IsTruncated"] is False


def test_more_than_a_thousand_may_be_asked_for(s3: Any, full: str) -> None:
    assert s3.list_objects_v2(Bucket=full, MaxKeys=5000)["MaxKeys"] in (1000, 5000)
    with refused(400, "InvalidArgument"):
        s3.list_objects_v2(Bucket=full, MaxKeys=-1)


def test_keys_in_the_encoding_of_urls(s3: Any, full: str) -> None:
    """boto3 decodes only what it has asked for itself."""
    page = s3.list_objects_v2(Bucket=full, Prefix="c", Delimiter="/", EncodingType="url")
    assert page["EncodingType"] == "url"
    assert [entry["Key"] for entry in page["Contents"]] == ["c%2520d"]
    space, plus = [entry["Prefix"] for entry in page["CommonPrefixes"]]
    assert space in ("c%20d/", "c+d/")
    assert plus == "c%2Bd/"


def test_an_encoding_that_is_none(s3: Any, full: str) -> None:
    with refused(400, "InvalidArgument"):
        s3.list_objects_v2(Bucket=full, EncodingType="rot13")


def test_a_token_that_is_none(s3: Any, full: str) -> None:
    with refused(400, "InvalidArgument"):
        s3.list_objects_v2(Bucket=full, ContinuationToken="no such token")
