"""Object lock over boto3 against the real store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.system.conftest import Store

KEY = "locked"
FAR = datetime(2090, 1, 1, tzinfo=UTC)
FARTHER = datetime(2091, 1, 1, 0, 0, 0, 123_000, tzinfo=UTC)


@pytest.fixture(scope="module")
def s3(store: Store) -> Any:
    return store.client()


@pytest.fixture(scope="module")
def bucket(s3: Any) -> str:
    """What is locked in it stays, and so does the bucket."""
    s3.create_bucket(Bucket="with-lock", ObjectLockEnabledForBucket=True)
    return "with-lock"


@pytest.fixture(scope="module")
def plain(s3: Any) -> str:
    s3.create_bucket(Bucket="without-lock")
    s3.put_object(Bucket="without-lock", Key=KEY, Body=b"x")
    return "without-lock"


def _refusal(call: Callable[..., Any], **arguments: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def _put(s3: Any, bucket: str, key: str = KEY, **lock: Any) -> str:
    return str(s3.put_object(Bucket=bucket, Key=key, Body=b"kept", **lock)["VersionId"])


def _retained(s3: Any, mode: str, bucket: str, until: datetime = FAR) -> dict[str, Any]:
    """Names a version that is retained in that mode."""
    version_id = _put(s3, bucket, ObjectLockMode=mode, ObjectLockRetainUntilDate=until)
    return {"Bucket": bucket, "Key": KEY, "VersionId": version_id}


def _retention(mode: str, until: datetime) -> dict[str, Any]:
    return {"Retention": {"Mode": mode, "RetainUntilDate": until}}


DENIED = (403, "AccessDenied")


def test_a_bucket_is_made_with_lock_and_versioning(s3: Any, bucket: str, plain: str) -> None:
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    assert s3.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"] == {
        "ObjectLockEnabled": "Enabled"
    }
    assert _refusal(
        s3.put_bucket_versioning, Bucket=bucket, VersioningConfiguration={"Status": "Suspended"}
    ) == (409, "InvalidBucketState")
    assert _refusal(s3.get_object_lock_configuration, Bucket=plain) == (
        404,
        "ObjectLockConfigurationNotFoundError",
    )


def test_lock_is_enabled_where_versioning_is(s3: Any) -> None:
    s3.create_bucket(Bucket="lock-later")
    lock = {
        "ObjectLockEnabled": "Enabled",
        "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 3}},
    }
    put = {"Bucket": "lock-later", "ObjectLockConfiguration": lock}
    assert _refusal(s3.put_object_lock_configuration, **put) == (409, "InvalidBucketState")
    s3.put_bucket_versioning(Bucket="lock-later", VersioningConfiguration={"Status": "Enabled"})
    s3.put_object_lock_configuration(**put)
    assert s3.get_object_lock_configuration(Bucket="lock-later")["ObjectLockConfiguration"] == lock
    version_id = _put(s3, "lock-later")
    head = s3.head_object(Bucket="lock-later", Key=KEY, VersionId=version_id)
    assert head["ObjectLockMode"] == "GOVERNANCE"
    left = head["ObjectLockRetainUntilDate"] - datetime.now(UTC)
    assert timedelta(days=3) - left < timedelta(minutes=1)
    name = {"Bucket": "lock-later", "Key": KEY, "VersionId": version_id}
    assert _refusal(s3.delete_object, **name) == DENIED
    # One of its own overrides the default.
    s3.put_object_retention(**name, **_retention("GOVERNANCE", FAR))
    s3.delete_object(**name, BypassGovernanceRetention=True)
    s3.delete_bucket(Bucket="lock-later")


def test_governance_yields_to_a_bypass_only(s3: Any, bucket: str) -> None:
    """Red when the bypass header was taken for granted, and when it did nothing."""
    name = _retained(s3, "GOVERNANCE", bucket)
    assert _refusal(s3.delete_object, **name) == DENIED
    assert _refusal(s3.delete_object, **name, BypassGovernanceRetention=False) == DENIED
    s3.put_object_retention(**name, **_retention("GOVERNANCE", FARTHER))
    got = s3.get_object_retention(**name)["Retention"]
    assert got == {"Mode": "GOVERNANCE", "RetainUntilDate": FARTHER}
    s3.put_object_retention(**name, Retention=got)
    ways: list[dict[str, Any]] = [
        _retention("GOVERNANCE", FAR),
        _retention("COMPLIANCE", FARTHER),
        {"Retention": {}},
    ]
    for less in ways:
        assert _refusal(s3.put_object_retention, **name, **less) == DENIED
    s3.put_object_retention(**name, **_retention("GOVERNANCE", FAR), BypassGovernanceRetention=True)
    s3.put_object_retention(**name, Retention={}, BypassGovernanceRetention=True)
    assert _refusal(s3.get_object_retention, **name) == (404, "NoSuchObjectLockConfiguration")
    s3.delete_object(**name)


def test_compliance_yields_to_nothing(s3: Any, bucket: str, store: Store) -> None:
    """Every request, and every command, that might."""
    name = _retained(s3, "COMPLIANCE", bucket)
    version_id = name["VersionId"]
    for bypass in (False, True):
        assert _refusal(s3.delete_object, **name, BypassGovernanceRetention=bypass) == DENIED
        many = s3.delete_objects(
            Bucket=bucket,
            Delete={"Objects": [{"Key": KEY, "VersionId": version_id}]},
            BypassGovernanceRetention=bypass,
        )
        assert [error["Code"] for error in many["Errors"]] == ["AccessDenied"]
        ways: list[dict[str, Any]] = [
            _retention("COMPLIANCE", FAR - timedelta(seconds=1)),
            _retention("GOVERNANCE", FARTHER),
            {"Retention": {}},
        ]
        for less in ways:
            assert (
                _refusal(s3.put_object_retention, **name, **less, BypassGovernanceRetention=bypass) == DENIED
            )
    s3.copy_object(
        Bucket=bucket,
        Key=KEY,
        CopySource={"Bucket": bucket, "Key": KEY},
        MetadataDirective="REPLACE",
        Metadata={"a": "b"},
    )
    _put(s3, bucket)
    s3.delete_object(Bucket=bucket, Key=KEY)
    assert _refusal(s3.delete_bucket, Bucket=bucket) == (409, "BucketNotEmpty")
    moved = store.trivet("lock-clock", "confirm", "--yes")
    assert moved.returncode == 0, moved.stderr
    assert s3.get_object(**name)["Body"].read() == b"kept"
    assert _refusal(s3.delete_object, **name, BypassGovernanceRetention=True) == DENIED
    s3.put_object_retention(**name, **_retention("COMPLIANCE", FARTHER))
    assert s3.get_object_retention(**name)["Retention"]["RetainUntilDate"] == FARTHER


def test_legal_hold(s3: Any, bucket: str) -> None:
    name = {"Bucket": bucket, "Key": "held", "VersionId": _put(s3, bucket, "held")}
    assert _refusal(s3.get_object_legal_hold, **name) == (404, "NoSuchObjectLockConfiguration")
    s3.put_object_legal_hold(**name, LegalHold={"Status": "ON"})
    assert s3.get_object_legal_hold(**name)["LegalHold"] == {"Status": "ON"}
    assert s3.head_object(**name)["ObjectLockLegalHoldStatus"] == "ON"
    assert _refusal(s3.delete_object, **name, BypassGovernanceRetention=True) == DENIED
    s3.put_object_legal_hold(**name, LegalHold={"Status": "OFF"})
    assert s3.get_object_legal_hold(**name)["LegalHold"] == {"Status": "OFF"}
    s3.delete_object(**name)


def test_a_multipart_upload_brings_its_lock(s3: Any, bucket: str) -> None:
    begun = s3.create_multipart_upload(
        Bucket=bucket,
        Key="parts",
        ObjectLockMode="GOVERNANCE",
        ObjectLockRetainUntilDate=FAR,
        ObjectLockLegalHoldStatus="ON",
    )
    part = {"Bucket": bucket, "Key": "parts", "UploadId": begun["UploadId"]}
    etag = s3.upload_part(**part, PartNumber=1, Body=b"x")["ETag"]
    done = s3.complete_multipart_upload(**part, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]})
    name = {"Bucket": bucket, "Key": "parts", "VersionId": done["VersionId"]}
    head = s3.head_object(**name)
    assert (head["ObjectLockMode"], head["ObjectLockRetainUntilDate"]) == ("GOVERNANCE", FAR)
    s3.put_object_retention(**name, Retention={}, BypassGovernanceRetention=True)
    assert _refusal(s3.delete_object, **name) == DENIED, "it is held"
    s3.put_object_legal_hold(**name, LegalHold={"Status": "OFF"})
    s3.delete_object(**name)


def test_what_is_refused(s3: Any, bucket: str, plain: str) -> None:
    past = datetime(2020, 1, 1, tzinfo=UTC)
    on = {"LegalHold": {"Status": "ON"}}
    kept = {"Bucket": plain, "Key": KEY}
    for call, more in (
        (s3.put_object_retention, _retention("GOVERNANCE", FAR)),
        (s3.get_object_retention, {}),
        (s3.put_object_legal_hold, on),
        (s3.get_object_legal_hold, {}),
        (s3.put_object, {"Body": b"", "ObjectLockLegalHoldStatus": "ON"}),
    ):
        assert _refusal(call, **kept, **more) == (400, "InvalidRequest")
    name = {"Bucket": bucket, "Key": "refused", "VersionId": _put(s3, bucket, "refused")}
    assert _refusal(s3.put_object_retention, **name, **_retention("GOVERNANCE", past)) == (
        400,
        "InvalidArgument",
    )
    missing = {"Bucket": bucket, "Key": "missing"}
    assert _refusal(s3.put_object_legal_hold, **missing, **on) == (404, "NoSuchKey")
    assert _refusal(s3.get_object_retention, **missing) == (404, "NoSuchKey")
    other = {**name, "VersionId": "0" * 32}
    assert _refusal(s3.put_object_legal_hold, **other, **on) == (404, "NoSuchVersion")
    marker = s3.delete_object(Bucket=bucket, Key="refused")["VersionId"]
    for marked in ({"Bucket": bucket, "Key": "refused"}, {**name, "VersionId": marker}):
        assert _refusal(s3.put_object_legal_hold, **marked, **on) == (405, "MethodNotAllowed")
        assert _refusal(s3.get_object_retention, **marked) == (405, "MethodNotAllowed")
    assert _refusal(s3.put_object_retention, **name, Retention={"Mode": "GOVERNANCE"}) == (
        400,
        "MalformedXML",
    )
