"""Lifecycle rules through boto3, in a store whose lifecycle days last a second."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.system.conftest import Store, until

SMALL = b"small"
LARGE = b"large enough to go elsewhere " * 10_000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    environment = {"TRIVET_LIFECYCLE_DAY_S": "1", "TRIVET_REDUCED_DATA_SHARDS": "1"}
    made = Store(tmp_path_factory.mktemp("lifecycle"), ("--fronts", "1"), environment)
    made.start()
    yield made
    made.stop()


def _rule(client: Any, bucket: str, **rule: Any) -> None:
    rule = {"ID": "the rule", "Status": "Enabled", "Filter": {}, **rule}
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})


def _versioned(client: Any, bucket: str) -> str:
    client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return bucket


def _keys(client: Any, bucket: str) -> list[str]:
    return [each["Key"] for each in client.list_objects_v2(Bucket=bucket).get("Contents", [])]


def _count(client: Any, bucket: str) -> tuple[int, int]:
    """Versions and delete markers."""
    page = client.list_object_versions(Bucket=bucket)
    return len(page.get("Versions", [])), len(page.get("DeleteMarkers", []))


def test_a_configuration_is_handed_back_as_it_was_put(store: Store) -> None:
    client = store.client()
    client.create_bucket(Bucket="configured")
    with pytest.raises(ClientError, match="NoSuchLifecycleConfiguration"):
        client.get_bucket_lifecycle_configuration(Bucket="configured")
    rules = [
        {
            "ID": "everything & more",
            "Status": "Disabled",
            "Filter": {
                "And": {
                    "Prefix": "a/",
                    "Tags": [{"Key": "k", "Value": ""}],
                    "ObjectSizeGreaterThan": 1,
                    "ObjectSizeLessThan": 1 << 40,
                }
            },
            "Expiration": {"Days": 100},
            "Transitions": [{"Days": 0, "StorageClass": "GLACIER"}],
            "NoncurrentVersionExpiration": {"NoncurrentDays": 9, "NewerNoncurrentVersions": 5},
            "NoncurrentVersionTransitions": [{"NoncurrentDays": 3, "StorageClass": "STANDARD_IA"}],
        },
        {"Status": "Enabled", "Prefix": "", "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}},
    ]
    client.put_bucket_lifecycle_configuration(
        Bucket="configured",
        LifecycleConfiguration={"Rules": rules},
        TransitionDefaultMinimumObjectSize="varies_by_storage_class",
    )
    answer = client.get_bucket_lifecycle_configuration(Bucket="configured")
    assert answer["TransitionDefaultMinimumObjectSize"] == "varies_by_storage_class"
    first, second = answer["Rules"]
    assert first == rules[0]
    assert second.pop("ID")
    assert second == rules[1]
    client.delete_bucket_lifecycle(Bucket="configured")
    with pytest.raises(ClientError, match="NoSuchLifecycleConfiguration"):
        client.get_bucket_lifecycle_configuration(Bucket="configured")


def test_what_was_there_before_the_rule_and_what_came_after_expires(store: Store) -> None:
    client = store.client()
    client.create_bucket(Bucket="expiring")
    for key in ("old/1", "kept"):
        client.put_object(Bucket="expiring", Key=key, Body=SMALL)
    _rule(client, "expiring", Filter={"Prefix": "old/"}, Expiration={"Days": 1})
    client.put_object(Bucket="expiring", Key="old/2", Body=SMALL)
    client.put_object(Bucket="expiring", Key="kept/2", Body=SMALL)
    until(lambda: _keys(client, "expiring") == ["kept", "kept/2"], "the keys below old/ are gone")


def test_a_tag_put_later_brings_an_object_under_a_rule(store: Store) -> None:
    client = store.client()
    client.create_bucket(Bucket="tagged")
    _rule(client, "tagged", Filter={"Tag": {"Key": "keep", "Value": "no"}}, Expiration={"Days": 1})
    for key, keep in (("a", "no"), ("b", "yes"), ("c", "yes")):
        client.put_object(Bucket="tagged", Key=key, Body=SMALL, Tagging=f"keep={keep}")
    client.put_object_tagging(Bucket="tagged", Key="b", Tagging={"TagSet": [{"Key": "keep", "Value": "no"}]})
    until(lambda: _keys(client, "tagged") == ["c"], "those tagged so are gone")


def test_noncurrent_versions_and_the_delete_marker_left_go(store: Store) -> None:
    """First those that no rule spares, then all of them, and at once the marker, which is left alone."""
    client = store.client()
    bucket = _versioned(client, "versioned")
    for _ in range(4):
        client.put_object(Bucket=bucket, Key="k", Body=SMALL)
    client.delete_object(Bucket=bucket, Key="k")
    _rule(client, bucket, NoncurrentVersionExpiration={"NoncurrentDays": 1, "NewerNoncurrentVersions": 2})
    until(lambda: _count(client, bucket) == (2, 1), "of four noncurrent versions two are spared")
    _rule(
        client,
        bucket,
        NoncurrentVersionExpiration={"NoncurrentDays": 1},
        Expiration={"ExpiredObjectDeleteMarker": True},
    )
    until(lambda: _count(client, bucket) == (0, 0), "nothing is left")
    client.delete_bucket(Bucket=bucket)


def test_a_locked_version_outlives_every_rule(store: Store) -> None:
    client = store.client()
    client.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
    held = client.put_object(Bucket="locked", Key="k", Body=SMALL, ObjectLockLegalHoldStatus="ON")[
        "VersionId"
    ]
    for key in ("k", "free"):
        client.put_object(Bucket="locked", Key=key, Body=SMALL)
        client.delete_object(Bucket="locked", Key=key)
    _rule(client, "locked", Expiration={"Days": 1}, NoncurrentVersionExpiration={"NoncurrentDays": 1})
    until(
        lambda: _count(client, "locked") == (1, 1), "all that is free is gone, and a delete marker left alone"
    )
    assert [each["VersionId"] for each in client.list_object_versions(Bucket="locked")["Versions"]] == [held]


def test_an_unfinished_upload_is_aborted(store: Store) -> None:
    client = store.client()
    client.create_bucket(Bucket="uploads")
    for key in ("a/1", "b"):
        client.create_multipart_upload(Bucket="uploads", Key=key)

    def left() -> list[str]:
        return [each["Key"] for each in client.list_multipart_uploads(Bucket="uploads").get("Uploads", [])]

    _rule(
        client, "uploads", AbortIncompleteMultipartUpload={"DaysAfterInitiation": 1}, Filter={"Prefix": "a"}
    )
    until(lambda: left() == ["b"], "the upload below the prefix is aborted")


def test_a_transition_codes_an_object_anew(store: Store) -> None:
    client = store.client()
    client.create_bucket(Bucket="moving")
    client.put_object(Bucket="moving", Key="large", Body=LARGE, Metadata={"kept": "yes"})
    client.put_object(Bucket="moving", Key="small", Body=SMALL)
    before = client.head_object(Bucket="moving", Key="large")
    _rule(client, "moving", Transitions=[{"Days": 1, "StorageClass": "REDUCED_REDUNDANCY"}])

    def classes() -> list[str]:
        return [each["StorageClass"] for each in client.list_objects_v2(Bucket="moving")["Contents"]]

    until(lambda: classes() == ["REDUCED_REDUNDANCY", "STANDARD"], "the large object has moved")
    after = client.get_object(Bucket="moving", Key="large")
    assert after["Body"].read() == LARGE
    assert (after["ETag"], after["LastModified"], after["Metadata"]) == (
        before["ETag"],
        before["LastModified"],
        {"kept": "yes"},
    )


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ({"ID": "i" * 256, "Expiration": {"Days": 1}}, "InvalidArgument"),
        ({"Expiration": {"Days": 0}}, "InvalidArgument"),
        ({"Expiration": {"Days": 1}, "Status": "enabled"}, "MalformedXML"),
        ({}, "InvalidRequest"),
    ],
)
def test_unfit_rules_are_refused(store: Store, rule: dict[str, Any], code: str) -> None:
    client = store.client()
    client.create_bucket(Bucket="unfit")  # again: it is ours, and stays as it is
    with pytest.raises(ClientError, match=code):
        _rule(client, "unfit", **rule)
