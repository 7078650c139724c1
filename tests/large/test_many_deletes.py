"""DeleteObjects with the 1,000 keys it may name, and not one more."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from botocore.exceptions import ClientError

from catalog import objects, usage
from catalog.model import Attributes
from catalog.transaction import Transaction
from catalog.usage_changes import Usage
from tests.catalog.making import new_blob
from tests.large.conftest import Front

MANY = 1000
KEYS = [f"key-{number:04d}" for number in range(MANY)]


def _put_all(tx: Transaction, bucket_id: int) -> None:
    for key in KEYS:
        objects.put(
            tx,
            bucket_id=bucket_id,
            key=key.encode(),
            blob=new_blob(),
            etag="e",
            content_type="a/b",
            attributes=Attributes(),
        )


def _named(keys: list[dict[str, str]]) -> dict[str, Any]:
    return {"Objects": keys, "Quiet": False}


def _lies_in(front: Front, name: str) -> Usage:
    report = front.run(front.catalog.read(lambda reader: usage.of_bucket(reader, name)))
    return report.usage


def test_a_thousand_keys(front: Front) -> None:
    """Each is answered, gone, and garbage; not in one transaction, which would keep other writers waiting."""
    bucket_id = front.bucket("deletes")
    front.run(front.catalog.write(partial(_put_all, bucket_id=bucket_id)))
    assert _lies_in(front, "deletes") == Usage(MANY, MANY, MANY * 4096)
    named = _named([{"Key": key} for key in KEYS])
    answer, statements = front.traced(lambda: front.s3.delete_objects(Bucket="deletes", Delete=named))
    assert [one["Key"] for one in answer["Deleted"]] == KEYS
    assert "Errors" not in answer
    assert "Contents" not in front.s3.list_objects_v2(Bucket="deletes")
    assert _lies_in(front, "deletes") == Usage(0, 0, 0)
    assert 10 <= sum(text == "COMMIT" for text in statements) <= 100
    named = _named([{"Key": key} for key in [*KEYS, "one-more"]])
    with pytest.raises(ClientError) as caught:
        front.s3.delete_objects(Bucket="deletes", Delete=named)
    assert caught.value.response["Error"]["Code"] == "MalformedXML"


def test_a_thousand_keys_with_versions(front: Front) -> None:
    """Delete markers first, then both versions of each key by their ids."""
    name = "deletes-versioned"
    bucket_id = front.bucket(name)
    front.s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    front.run(front.catalog.write(partial(_put_all, bucket_id=bucket_id)))
    answer = front.s3.delete_objects(Bucket=name, Delete=_named([{"Key": key} for key in KEYS]))
    markers = {one["Key"]: one["DeleteMarkerVersionId"] for one in answer["Deleted"]}
    assert list(markers) == KEYS
    assert _lies_in(front, name) == Usage(0, 2 * MANY, MANY * 4096)
    pages = front.s3.get_paginator("list_object_versions").paginate(Bucket=name)
    versions = [one for page in pages for one in page.get("Versions", [])]
    for named in (
        [{"Key": key, "VersionId": marker} for key, marker in markers.items()],
        [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in versions],
    ):
        answer = front.s3.delete_objects(Bucket=name, Delete=_named(named))
        assert len(answer["Deleted"]) == MANY
    assert _lies_in(front, name) == Usage(0, 0, 0)
    front.s3.delete_bucket(Bucket=name)
