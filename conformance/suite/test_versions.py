"""Versions: enabled, suspended, null versions, delete markers, and the listing of all of them.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/Versioning.html
https://docs.aws.amazon.com/AmazonS3/latest/userguide/DeleteMarker.html
https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html
"""

from __future__ import annotations

from typing import Any

import pytest

from conformance.suite.expect import header, refused


def suspend(s3: Any, bucket: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})


def enable(s3: Any, bucket: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})


def put(s3: Any, bucket: str, key: str, text: str) -> str:
    """The version that was made. A suspended bucket may leave unsaid that it is the null one."""
    version: str = s3.put_object(Bucket=bucket, Key=key, Body=text.encode()).get("VersionId", "null")
    return version


def read(s3: Any, bucket: str, key: str, version: str | None = None) -> str:
    named = {"VersionId": version} if version is not None else {}
    text: str = s3.get_object(Bucket=bucket, Key=key, **named)["Body"].read().decode()
    return text


def all_versions(s3: Any, bucket: str, **arguments: Any) -> list[tuple[str, str, bool, str]]:
    """Key, version, whether it is the latest, and what it is; by key, the newest first within one."""
    found = []
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, **arguments):
        for kind in ("Versions", "DeleteMarkers"):
            for entry in page.get(kind, ()):
                order = (entry["Key"].encode(), not entry["IsLatest"], -entry["LastModified"].timestamp())
                told = (entry["Key"], entry["VersionId"], entry["IsLatest"], kind)
                found.append((order, told))
    return [told for _, told in sorted(found, key=lambda each: each[0])]


def test_a_new_bucket_keeps_no_versions(s3: Any, bucket: str) -> None:
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    answer = s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert header(answer, "x-amz-version-id") is None
    assert all_versions(s3, bucket) == [("k", "null", True, "Versions")]
    assert read(s3, bucket, "k", "null") == "x"


def test_the_state_is_told(s3: Any, bucket: str) -> None:
    enable(s3, bucket)
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    suspend(s3, bucket)
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Suspended"


def test_every_version_can_be_read(s3: Any, versioned: str) -> None:
    ids = [put(s3, versioned, "k", text) for text in ("one", "two", "three")]
    assert len(set(ids)) == 3
    assert read(s3, versioned, "k") == "three"
    assert [read(s3, versioned, "k", version) for version in ids] == ["one", "two", "three"]
    assert [told[1] for told in all_versions(s3, versioned)][:1] == ids[2:]
    answer = s3.head_object(Bucket=versioned, Key="k", VersionId=ids[0])
    assert (answer["VersionId"], answer["ContentLength"]) == (ids[0], 3)
    assert s3.head_object(Bucket=versioned, Key="k")["VersionId"] == ids[2]


def test_a_delete_marker_hides_the_versions(s3: Any, versioned: str) -> None:
    version = put(s3, versioned, "k", "one")
    marker = s3.delete_object(Bucket=versioned, Key="k")
    assert marker["DeleteMarker"] is True
    with refused(404, "NoSuchKey"):
        s3.get_object(Bucket=versioned, Key="k")
    assert "Contents" not in s3.list_objects_v2(Bucket=versioned)
    assert read(s3, versioned, "k", version) == "one"
    told = [("k", marker["VersionId"], True, "DeleteMarkers"), ("k", version, False, "Versions")]
    assert all_versions(s3, versioned) == told


def test_what_an_answer_says_of_a_delete_marker(s3: Any, versioned: str) -> None:
    put(s3, versioned, "k", "one")
    marker = s3.delete_object(Bucket=versioned, Key="k")["VersionId"]
    with pytest.raises(s3.exceptions.NoSuchKey) as caught:
        s3.get_object(Bucket=versioned, Key="k")
    assert header(caught.value.response, "x-amz-delete-marker") == "true"
    assert header(caught.value.response, "x-amz-version-id") == marker
    with refused(405, "MethodNotAllowed"):
        s3.get_object(Bucket=versioned, Key="k", VersionId=marker)
    with refused(405):
        s3.head_object(Bucket=versioned, Key="k", VersionId=marker)


def test_without_its_marker_a_key_is_there_again(s3: Any, versioned: str) -> None:
    put(s3, versioned, "k", "one")
    marker = s3.delete_object(Bucket=versioned, Key="k")["VersionId"]
    gone = s3.delete_object(Bucket=versioned, Key="k", VersionId=marker)
    assert (gone["DeleteMarker"], gone["VersionId"]) == (True, marker)
    assert read(s3, versioned, "k") == "one"


def test_a_deleted_version_is_gone_and_the_one_before_is_current(s3: Any, versioned: str) -> None:
    one, two = put(s3, versioned, "k", "one"), put(s3, versioned, "k", "two")
    gone = s3.delete_object(Bucket=versioned, Key="k", VersionId=two)
    assert gone["VersionId"] == two
    assert "DeleteMarker" not in gone
    assert read(s3, versioned, "k") == "one"
    with refused(404, "NoSuchVersion"):
        s3.get_object(Bucket=versioned, Key="k", VersionId=two)
    s3.delete_object(Bucket=versioned, Key="k", VersionId=two)
    s3.delete_object(Bucket=versioned, Key="k", VersionId=one)
    assert all_versions(s3, versioned) == []


def test_a_version_that_never_was(s3: Any, versioned: str) -> None:
    version = put(s3, versioned, "k", "one")
    put(s3, versioned, "other", "x")
    with refused(404, "NoSuchVersion"):
        s3.get_object(Bucket=versioned, Key="other", VersionId=version)


def test_what_was_there_before_versioning_is_the_null_version(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    enable(s3, bucket)
    assert s3.head_object(Bucket=bucket, Key="k")["VersionId"] == "null"
    new = put(s3, bucket, "k", "new")
    assert new != "null"
    assert [each[1] for each in all_versions(s3, bucket)] == [new, "null"]
    assert read(s3, bucket, "k", "null") == "old"
    s3.delete_object(Bucket=bucket, Key="k", VersionId="null")
    assert [each[1] for each in all_versions(s3, bucket)] == [new]


def test_suspended_only_the_null_version_is_replaced(s3: Any, versioned: str) -> None:
    kept = put(s3, versioned, "k", "kept")
    suspend(s3, versioned)
    assert put(s3, versioned, "k", "null one") == "null"
    assert put(s3, versioned, "k", "null two") == "null"
    assert [each[1] for each in all_versions(s3, versioned)] == ["null", kept]
    assert read(s3, versioned, "k") == "null two"
    assert read(s3, versioned, "k", kept) == "kept"


def test_suspended_a_delete_leaves_a_null_marker(s3: Any, versioned: str) -> None:
    kept = put(s3, versioned, "k", "kept")
    suspend(s3, versioned)
    put(s3, versioned, "k", "null one")
    marker = s3.delete_object(Bucket=versioned, Key="k")
    assert (marker["DeleteMarker"], marker["VersionId"]) == (True, "null")
    told = [("k", "null", True, "DeleteMarkers"), ("k", kept, False, "Versions")]
    assert all_versions(s3, versioned) == told
    s3.delete_object(Bucket=versioned, Key="k", VersionId="null")
    assert read(s3, versioned, "k") == "kept"


def test_many_versions_are_deleted_at_once(s3: Any, versioned: str) -> None:
    ids = [put(s3, versioned, "k", text) for text in ("one", "two")]
    named = [{"Key": "k", "VersionId": ids[0]}, {"Key": "k"}]
    answer = s3.delete_objects(Bucket=versioned, Delete={"Objects": named})
    by_version = {entry.get("VersionId"): entry for entry in answer["Deleted"]}
    assert "DeleteMarker" not in by_version[ids[0]]
    made = by_version[None]
    assert made["DeleteMarker"] is True
    assert [each[1] for each in all_versions(s3, versioned)] == [made["DeleteMarkerVersionId"], ids[1]]


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
def test_pages_show_every_version_once(s3: Any, versioned: str, limit: int) -> None:
    for key in ("a", "b/1", "b/2", "c"):
        for text in ("one", "two"):
            put(s3, versioned, key, text)
    s3.delete_object(Bucket=versioned, Key="a")
    s3.delete_object(Bucket=versioned, Key="b/1")
    everything = all_versions(s3, versioned)
    assert len(everything) == 10
    paged = all_versions(s3, versioned, PaginationConfig={"PageSize": limit})
    assert sorted(paged) == sorted(everything)
    assert all_versions(s3, versioned, Prefix="b/") == [
        each for each in everything if each[0].startswith("b/")
    ]


def test_common_prefixes_of_versions(s3: Any, versioned: str) -> None:
    for key in ("a", "b/1", "b/2", "c/1"):
        put(s3, versioned, key, "x")
    s3.delete_object(Bucket=versioned, Key="c/1")
    page = s3.list_object_versions(Bucket=versioned, Delimiter="/")
    assert [entry["Key"] for entry in page["Versions"]] == ["a"]
    assert [entry["Prefix"] for entry in page["CommonPrefixes"]] == ["b/", "c/"]
    first = s3.list_object_versions(Bucket=versioned, Delimiter="/", MaxKeys=2)
    assert first["NextKeyMarker"] == "b/"
    rest = s3.list_object_versions(Bucket=versioned, Delimiter="/", KeyMarker="b/")
    assert [entry["Prefix"] for entry in rest["CommonPrefixes"]] == ["c/"]


def test_a_listing_may_begin_after_a_version(s3: Any, versioned: str) -> None:
    ids = [put(s3, versioned, "k", text) for text in ("one", "two", "three")]
    page = s3.list_object_versions(Bucket=versioned, KeyMarker="k", VersionIdMarker=ids[2])
    assert [entry["VersionId"] for entry in page["Versions"]] == [ids[1], ids[0]]
    assert "Versions" not in s3.list_object_versions(Bucket=versioned, KeyMarker="k")
    with refused(400, "InvalidArgument"):
        s3.list_object_versions(Bucket=versioned, VersionIdMarker=ids[2])


def test_an_entry_tells_of_the_version(s3: Any, versioned: str) -> None:
    version = put(s3, versioned, "k", "text")
    (entry,) = s3.list_object_versions(Bucket=versioned)["Versions"]
    head = s3.head_object(Bucket=versioned, Key="k", VersionId=version)
    assert (entry["ETag"], entry["Size"], entry["StorageClass"]) == (head["ETag"], 4, "STANDARD")
    assert entry["Owner"]["ID"]


def test_a_state_that_is_none(s3: Any, bucket: str) -> None:
    with refused(400, "MalformedXML", "IllegalVersioningConfigurationException"):
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Perhaps"})
