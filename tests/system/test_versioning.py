"""Versions over boto3 against the real store: what answers say of them, conditions on them, copies and renames.

What S3 promises of versions in general is in conformance/suite/test_versions.py, which runs against this store too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from tests.system.conftest import Store
from tests.system.test_where import admin

PART = 5 << 20
LONG_AGO = datetime(2001, 2, 3, tzinfo=UTC)
PAST_TOMORROW = datetime.now(UTC) + timedelta(days=2)
EVERYTHING = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]


@pytest.fixture(scope="module")
def s3(store: Store) -> Any:
    return store.client()


@pytest.fixture
def plain(s3: Any) -> str:
    """A bucket that never had versioning."""
    name = f"plain-{uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def bucket(s3: Any, plain: str) -> str:
    """A bucket with versioning."""
    state(s3, plain, "Enabled")
    return plain


def state(s3: Any, bucket: str, status: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})


def put(s3: Any, bucket: str, key: str, body: bytes, **extra: Any) -> str:
    return str(s3.put_object(Bucket=bucket, Key=key, Body=body, **extra)["VersionId"])


def read(s3: Any, bucket: str, key: str, **extra: Any) -> bytes:
    body: bytes = s3.get_object(Bucket=bucket, Key=key, **extra)["Body"].read()
    return body


@contextmanager
def refused(status: int, code: str) -> Iterator[dict[str, str]]:
    """The headers of the refusal, once it has come. HEAD has no body and so no code but its status."""
    headers: dict[str, str] = {}
    with pytest.raises(ClientError) as caught:
        yield headers
    answer = caught.value.response
    assert (answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]) == (status, code)
    headers.update(answer["ResponseMetadata"]["HTTPHeaders"])


def versions(s3: Any, bucket: str, **extra: Any) -> list[tuple[str, str]]:
    """Key and version id of all versions and markers of a page."""
    page = s3.list_object_versions(Bucket=bucket, **extra)
    entries = page.get("Versions", []) + page.get("DeleteMarkers", [])
    return [(entry["Key"], entry["VersionId"]) for entry in entries]


# -- delete markers and null versions ------------------------------------------------------------------------


def test_what_answers_say_of_a_delete_marker(s3: Any, bucket: str) -> None:
    """Red when the 404 of a hidden key did not name its marker, and when a marker named by its id was a 404."""
    put(s3, bucket, "key", b"1")
    marker = s3.delete_object(Bucket=bucket, Key="key")
    assert marker["DeleteMarker"] is True
    told = {"x-amz-delete-marker": "true", "x-amz-version-id": marker["VersionId"]}
    with refused(404, "NoSuchKey") as headers:
        s3.get_object(Bucket=bucket, Key="key")
    assert told.items() <= headers.items()
    with refused(404, "404") as headers:
        s3.head_object(Bucket=bucket, Key="key")
    assert told.items() <= headers.items()
    with refused(405, "MethodNotAllowed") as headers:
        s3.get_object(Bucket=bucket, Key="key", VersionId=marker["VersionId"])
    assert {**told, "allow": "DELETE"}.items() <= headers.items()
    assert "last-modified" in headers
    with refused(404, "NoSuchKey"):
        s3.get_object_attributes(Bucket=bucket, Key="key", ObjectAttributes=EVERYTHING)


def test_a_null_version_gives_way_to_a_null_marker(s3: Any, bucket: str) -> None:
    """Red when the marker of a suspended bucket got a version id of its own."""
    kept = put(s3, bucket, "key", b"kept")
    state(s3, bucket, "Suspended")
    s3.put_object(Bucket=bucket, Key="key", Body=b"null")
    assert read(s3, bucket, "key", VersionId="null") == b"null"
    deleted = s3.delete_object(Bucket=bucket, Key="key")
    assert (deleted["DeleteMarker"], deleted["VersionId"]) == (True, "null")
    assert sorted(versions(s3, bucket)) == sorted([("key", kept), ("key", "null")])
    removed = s3.delete_object(Bucket=bucket, Key="key", VersionId="null")
    assert (removed["DeleteMarker"], removed["VersionId"]) == (True, "null")
    assert read(s3, bucket, "key") == b"kept"


def test_a_bucket_is_emptied_page_by_page(s3: Any, bucket: str) -> None:
    """As tools do it: the markers of the next page name versions that are gone by then. Red when a null version was
    named by ``null`` alone, whose place nobody knows once it is deleted: the versions before it stayed."""
    made = {("b", put(s3, bucket, "b", b"older than the null version")), ("b", "null")}
    state(s3, bucket, "Suspended")
    s3.put_object(Bucket=bucket, Key="b", Body=b"null")
    state(s3, bucket, "Enabled")
    for key in "abc":
        made |= {(key, put(s3, bucket, key, b"x")) for _ in range(3)}
        made.add((key, s3.delete_object(Bucket=bucket, Key=key)["VersionId"]))
    seen: list[tuple[str, str]] = []
    markers: dict[str, str] = {}
    while True:
        page = s3.list_object_versions(Bucket=bucket, MaxKeys=1, **markers)
        entries = page.get("Versions", []) + page.get("DeleteMarkers", [])
        found = [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in entries]
        answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": found})
        assert "Errors" not in answer
        seen += [(entry["Key"], entry["VersionId"]) for entry in answer["Deleted"]]
        if not page["IsTruncated"]:
            break
        markers = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}
    assert len(seen) == len(made)
    assert set(seen) == made
    s3.delete_bucket(Bucket=bucket)


def test_when_a_rule_will_remove_the_current_version(s3: Any, bucket: str) -> None:
    """Told of the key, not of a version that is named. Red when GET and HEAD said nothing of it."""
    version = put(s3, bucket, "logs/1", b"1")
    put(s3, bucket, "other", b"1")
    rule = {"ID": "old logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 3}}
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})
    for told in (s3.get_object(Bucket=bucket, Key="logs/1"), s3.head_object(Bucket=bucket, Key="logs/1")):
        assert told["Expiration"].endswith('GMT", rule-id="old%20logs"')
    assert "Expiration" not in s3.head_object(Bucket=bucket, Key="logs/1", VersionId=version)
    assert "Expiration" not in s3.head_object(Bucket=bucket, Key="other")


# -- conditions ----------------------------------------------------------------------------------------------


def test_conditions_on_a_delete_are_those_of_the_version_named(s3: Any, bucket: str) -> None:
    """Red when DELETE with a version id did not look at its conditions."""
    old = put(s3, bucket, "key", b"old")
    put(s3, bucket, "key", b"newer")
    of_old = {"Bucket": bucket, "Key": "key", "VersionId": old}
    etag = s3.head_object(**of_old)["ETag"]
    for wrong in ({"IfMatch": '"other"'}, {"IfMatchSize": 5}, {"IfMatchLastModifiedTime": LONG_AGO}):
        with refused(412, "PreconditionFailed"):
            s3.delete_object(**of_old, **wrong)
    with refused(412, "PreconditionFailed"):
        s3.delete_object(Bucket=bucket, Key="key", IfMatch=etag)
    modified = s3.head_object(**of_old)["LastModified"]
    s3.delete_object(**of_old, IfMatch=etag, IfMatchSize=3, IfMatchLastModifiedTime=modified)
    assert [version for _, version in versions(s3, bucket)] == [
        s3.head_object(Bucket=bucket, Key="key")["VersionId"]
    ]


def test_one_refused_delete_leaves_the_others_whole(s3: Any, bucket: str) -> None:
    """Deletes share a transaction; red when the first refusal took the whole of it back."""
    first, other = put(s3, bucket, "a", b"1"), put(s3, bucket, "b", b"2")
    marker = s3.delete_object(Bucket=bucket, Key="c")["VersionId"]
    listed = [
        {"Key": "a", "VersionId": first},
        {"Key": "b", "ETag": '"other"'},
        {"Key": "b", "Size": 1},
        {"Key": "c", "VersionId": marker},
        {"Key": "d", "VersionId": "never-was"},
        {"Key": "e/../../e"},
    ]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": listed})
    refusals = [(entry["Key"], entry["Code"]) for entry in answer["Errors"]]
    assert refusals == [("b", "PreconditionFailed"), ("e/../../e", "InvalidURI")]
    deleted = {entry["Key"]: entry for entry in answer["Deleted"]}
    assert deleted["a"] == {"Key": "a", "VersionId": first}
    assert deleted["b"]["DeleteMarker"] is True
    assert deleted["c"] == {
        "Key": "c", "VersionId": marker, "DeleteMarker": True, "DeleteMarkerVersionId": marker,
    }  # fmt: skip
    assert deleted["d"] == {"Key": "d", "VersionId": "never-was"}
    assert sorted(versions(s3, bucket)) == sorted(
        [("b", other), ("b", deleted["b"]["DeleteMarkerVersionId"])]
    )


# -- copies and renames --------------------------------------------------------------------------------------


def blob_of(store: Store, bucket: str, key: str) -> str:
    """The id of the blob that holds an object, as the admin API names it."""
    return str(admin(store, f"/objects/{bucket}/{key}")["blob"]["blob"])


def test_copies_and_renames_of_any_size_move_no_bytes(store: Store, s3: Any, bucket: str) -> None:
    """They share the blob by reference (P9). Red when a copy read its source and stored it again."""
    version = put(s3, bucket, "source", os.urandom(PART))
    blob = blob_of(store, bucket, "source")
    put(s3, bucket, "source", b"newer")
    source = {"Bucket": bucket, "Key": "source", "VersionId": version}
    copied = s3.copy_object(Bucket=bucket, Key="copy", CopySource=source)
    assert copied["CopySourceVersionId"] == version
    assert blob_of(store, bucket, "copy") == blob
    s3.rename_object(Bucket=bucket, Key="renamed", RenameSource="copy")
    assert blob_of(store, bucket, "renamed") == blob


def test_what_a_copy_takes_along(s3: Any, bucket: str) -> None:
    """Metadata and tags follow their directives, a redirect only the request. Red when the source's redirect was
    copied, and when tags without the directive REPLACE took the place of the source's."""
    put(s3, bucket, "source", b"1", Metadata={"m": "1"}, Tagging="a=b", WebsiteRedirectLocation="/there")
    source = {"Bucket": bucket, "Key": "source"}
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=source, Tagging="c=d")
    got = s3.head_object(Bucket=bucket, Key="copy")
    assert (got["Metadata"], "WebsiteRedirectLocation" in got) == ({"m": "1"}, False)
    assert s3.get_object_tagging(Bucket=bucket, Key="copy")["TagSet"] == [{"Key": "a", "Value": "b"}]
    s3.copy_object(
        Bucket=bucket, Key="copy", CopySource=source, Tagging="c=d", TaggingDirective="REPLACE",
        WebsiteRedirectLocation="/elsewhere",
    )  # fmt: skip
    got = s3.head_object(Bucket=bucket, Key="copy")
    assert (got["Metadata"], got["WebsiteRedirectLocation"]) == ({"m": "1"}, "/elsewhere")
    assert s3.get_object_tagging(Bucket=bucket, Key="copy")["TagSet"] == [{"Key": "c", "Value": "d"}]


def test_a_rename_leaves_a_marker_and_keeps_every_version(s3: Any, bucket: str) -> None:
    """Red when the source's versions went with it."""
    old, new = put(s3, bucket, "a b+é", b"old"), put(s3, bucket, "a b+é", b"new", Metadata={"m": "1"})
    put(s3, bucket, "to", b"before")
    s3.rename_object(Bucket=bucket, Key="to", RenameSource="a%20b%2B%C3%A9")
    got = s3.get_object(Bucket=bucket, Key="to")
    assert (got["Body"].read(), got["Metadata"]) == (b"new", {"m": "1"})
    with refused(404, "404") as headers:
        s3.head_object(Bucket=bucket, Key="a b+é")
    assert headers["x-amz-delete-marker"] == "true"
    assert [read(s3, bucket, "a b+é", VersionId=version) for version in (old, new)] == [b"old", b"new"]
    assert len(versions(s3, bucket, Prefix="to")) == 2


@pytest.mark.parametrize(
    ("conditions", "status"),
    [
        ({}, 200),
        ({"DestinationIfNoneMatch": "*"}, 412),
        ({"DestinationIfMatch": '"other"'}, 412),
        ({"DestinationIfUnmodifiedSince": LONG_AGO}, 412),
        ({"DestinationIfUnmodifiedSince": PAST_TOMORROW}, 200),
        ({"DestinationIfModifiedSince": LONG_AGO}, 200),
        ({"DestinationIfModifiedSince": PAST_TOMORROW}, 412),
        ({"SourceIfMatch": '"other"'}, 412),
        ({"SourceIfNoneMatch": "*"}, 412),
        ({"SourceIfModifiedSince": PAST_TOMORROW}, 412),
        ({"SourceIfUnmodifiedSince": LONG_AGO}, 412),
    ],
)
def test_a_rename_replaces_only_what_its_conditions_allow(
    s3: Any, plain: str, conditions: dict[str, Any], status: int
) -> None:
    """Red when the dates of the target were not looked at: the rename replaced it."""
    s3.put_object(Bucket=plain, Key="from", Body=b"source")
    s3.put_object(Bucket=plain, Key="to", Body=b"target")
    if status == 200:
        s3.rename_object(Bucket=plain, Key="to", RenameSource="from", **conditions)
    else:
        with refused(status, "PreconditionFailed"):
            s3.rename_object(Bucket=plain, Key="to", RenameSource="from", **conditions)
    listed = [entry["Key"] for entry in s3.list_objects_v2(Bucket=plain)["Contents"]]
    assert listed == (["to"] if status == 200 else ["from", "to"])
    assert read(s3, plain, "to") == (b"source" if status == 200 else b"target")


def test_a_rename_to_where_nothing_is(s3: Any, plain: str) -> None:
    """Nothing was never modified: the date decides only whether there must be an object."""
    s3.put_object(Bucket=plain, Key="from", Body=b"source")
    with refused(412, "PreconditionFailed"):
        s3.rename_object(Bucket=plain, Key="to", RenameSource="from", DestinationIfModifiedSince=LONG_AGO)
    with refused(404, "NoSuchKey"):
        s3.rename_object(Bucket=plain, Key="to", RenameSource="from", DestinationIfMatch="*")
    s3.rename_object(Bucket=plain, Key="to", RenameSource="from", DestinationIfUnmodifiedSince=LONG_AGO)
    assert read(s3, plain, "to") == b"source"
    with refused(404, "NoSuchKey"):
        s3.rename_object(Bucket=plain, Key="other", RenameSource="from")
    with refused(400, "InvalidRequest"):
        s3.rename_object(Bucket=plain, Key="to", RenameSource="to")


# -- attributes ----------------------------------------------------------------------------------------------


def test_attributes_of_an_object_in_parts(s3: Any, bucket: str) -> None:
    """Red when the page of parts began with the one that its marker names."""
    name = {"Bucket": bucket, "Key": "parts"}
    upload = s3.create_multipart_upload(**name, ChecksumAlgorithm="SHA256")["UploadId"]
    parts = []
    for number, data in ((1, bytes(PART)), (3, b"end")):
        answer = s3.upload_part(
            **name, UploadId=upload, PartNumber=number, Body=data, ChecksumAlgorithm="SHA256"
        )
        checksum = {"ChecksumSHA256": answer["ChecksumSHA256"]}
        parts.append({"PartNumber": number, "ETag": answer["ETag"], **checksum})
    done = s3.complete_multipart_upload(**name, UploadId=upload, MultipartUpload={"Parts": parts})
    told = s3.get_object_attributes(**name, ObjectAttributes=EVERYTHING)
    assert (told["ETag"], told["VersionId"]) == (done["ETag"].strip('"'), done["VersionId"])
    assert (told["ObjectSize"], told["StorageClass"]) == (PART + 3, "STANDARD")
    assert told["Checksum"]["ChecksumType"] == "COMPOSITE"
    assert [(part["PartNumber"], part["Size"]) for part in told["ObjectParts"]["Parts"]] == [
        (1, PART),
        (3, 3),
    ]
    assert told["ObjectParts"]["Parts"][1]["ChecksumSHA256"] == parts[1]["ChecksumSHA256"]
    page = s3.get_object_attributes(**name, ObjectAttributes=["ObjectParts"], MaxParts=1)
    assert (page["ObjectParts"]["IsTruncated"], page["ObjectParts"]["NextPartNumberMarker"]) == (True, 1)
    assert set(page) - {"ResponseMetadata"} == {"LastModified", "VersionId", "ObjectParts"}
    page = s3.get_object_attributes(**name, ObjectAttributes=["ObjectParts"], MaxParts=1, PartNumberMarker=1)
    assert [part["PartNumber"] for part in page["ObjectParts"]["Parts"]] == [3]
    assert (page["ObjectParts"]["IsTruncated"], page["ObjectParts"]["TotalPartsCount"]) == (False, 2)


def test_attributes_must_be_named(s3: Any, plain: str) -> None:
    s3.put_object(Bucket=plain, Key="key", Body=b"")
    for names in (["Colour"], ["ETag", "Colour"]):
        with refused(400, "InvalidArgument"):
            s3.get_object_attributes(Bucket=plain, Key="key", ObjectAttributes=names)
    told = s3.get_object_attributes(Bucket=plain, Key="key", ObjectAttributes=EVERYTHING)
    assert (told["ObjectSize"], "ObjectParts" in told, "VersionId" in told) == (0, False, False)
