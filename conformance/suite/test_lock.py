"""Object lock. Nothing here takes the mode COMPLIANCE for longer than a few seconds: the bucket must be removable.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html
https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectLockConfiguration.html (API_PutObjectRetention,
API_PutObjectLegalHold)
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from conformance.suite.expect import refused, until

COMPLIANCE_S = 2


def in_time(**length: int) -> datetime:
    return (datetime.now(UTC) + timedelta(**length)).replace(microsecond=0)


def governed(until_then: datetime) -> dict[str, Any]:
    return {"Mode": "GOVERNANCE", "RetainUntilDate": until_then}


@pytest.fixture
def version(s3: Any, lockable: str) -> dict[str, str]:
    """An object of a bucket with object lock, not locked yet."""
    told = s3.put_object(Bucket=lockable, Key="k", Body=b"x")["VersionId"]
    return {"Bucket": lockable, "Key": "k", "VersionId": told}


def test_such_a_bucket_keeps_versions(s3: Any, lockable: str) -> None:
    assert s3.get_bucket_versioning(Bucket=lockable)["Status"] == "Enabled"
    told = s3.get_object_lock_configuration(Bucket=lockable)["ObjectLockConfiguration"]
    assert told == {"ObjectLockEnabled": "Enabled"}
    with refused(409, "InvalidBucketState"):
        s3.put_bucket_versioning(Bucket=lockable, VersioningConfiguration={"Status": "Suspended"})


def test_a_bucket_without_it(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    with refused(404, "ObjectLockConfigurationNotFoundError"):
        s3.get_object_lock_configuration(Bucket=bucket)
    with refused(400, "InvalidRequest"):
        s3.put_object_retention(Bucket=bucket, Key="k", Retention=governed(in_time(days=1)))
    with refused(400, "InvalidRequest"):
        s3.put_object_legal_hold(Bucket=bucket, Key="k", LegalHold={"Status": "ON"})
    with refused(400, "InvalidRequest"):
        s3.put_object(Bucket=bucket, Key="k", Body=b"y", ObjectLockLegalHoldStatus="ON")
    with refused(409, "InvalidBucketState"):
        s3.put_object_lock_configuration(
            Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"}
        )


def test_it_may_be_enabled_later(s3: Any, versioned: str) -> None:
    s3.put_object_lock_configuration(
        Bucket=versioned, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"}
    )
    told = s3.get_object_lock_configuration(Bucket=versioned)["ObjectLockConfiguration"]
    assert told == {"ObjectLockEnabled": "Enabled"}


def test_the_default_retention(s3: Any, lockable: str) -> None:
    wanted = {
        "ObjectLockEnabled": "Enabled",
        "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 2}},
    }
    s3.put_object_lock_configuration(Bucket=lockable, ObjectLockConfiguration=wanted)
    assert s3.get_object_lock_configuration(Bucket=lockable)["ObjectLockConfiguration"] == wanted
    s3.put_object(Bucket=lockable, Key="k", Body=b"x")
    head = s3.head_object(Bucket=lockable, Key="k")
    assert head["ObjectLockMode"] == "GOVERNANCE"
    assert abs(head["ObjectLockRetainUntilDate"] - in_time(days=2)) < timedelta(minutes=5)


def test_a_retention_of_its_own_counts_more_than_the_default(s3: Any, lockable: str) -> None:
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 2}}
    s3.put_object_lock_configuration(
        Bucket=lockable, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    end = in_time(days=9)
    s3.put_object(
        Bucket=lockable, Key="k", Body=b"x", ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=end
    )
    assert s3.get_object_retention(Bucket=lockable, Key="k")["Retention"] == governed(end)


@pytest.mark.parametrize(
    "default",
    [
        {"Mode": "GOVERNANCE"},
        {"Mode": "GOVERNANCE", "Days": 1, "Years": 1},
        {"Mode": "GOVERNANCE", "Days": 0},
        {"Mode": "GOVERNANCE", "Years": -1},
        {"Mode": "KEEP", "Days": 1},
        {"Days": 1},
    ],
)
def test_defaults_that_are_refused(s3: Any, lockable: str, default: dict[str, Any]) -> None:
    wanted = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": default}}
    with refused(400, "MalformedXML", "InvalidArgument", "InvalidRetentionPeriod"):
        s3.put_object_lock_configuration(Bucket=lockable, ObjectLockConfiguration=wanted)


def test_a_locked_version_stays(s3: Any, version: dict[str, str]) -> None:
    s3.put_object_retention(**version, Retention=governed(in_time(days=1)))
    with refused(403, "AccessDenied"):
        s3.delete_object(**version)
    named = [{"Key": version["Key"], "VersionId": version["VersionId"]}]
    answer = s3.delete_objects(Bucket=version["Bucket"], Delete={"Objects": named})
    assert [error["Code"] for error in answer["Errors"]] == ["AccessDenied"]
    assert s3.get_object(**version)["Body"].read() == b"x"


def test_a_lock_hinders_neither_markers_nor_new_versions(s3: Any, version: dict[str, str]) -> None:
    s3.put_object_retention(**version, Retention=governed(in_time(days=1)))
    s3.put_object(Bucket=version["Bucket"], Key="k", Body=b"new")
    marker = s3.delete_object(Bucket=version["Bucket"], Key="k")
    assert marker["DeleteMarker"] is True
    s3.delete_object(Bucket=version["Bucket"], Key="k", VersionId=marker["VersionId"])
    assert s3.get_object(**version)["Body"].read() == b"x"


def test_who_may_bypass_governance_says_so(s3: Any, version: dict[str, str]) -> None:
    end = in_time(days=2)
    s3.put_object_retention(**version, Retention=governed(end))
    with refused(403, "AccessDenied"):
        s3.put_object_retention(**version, Retention=governed(end - timedelta(days=1)))
    s3.put_object_retention(**version, Retention=governed(end + timedelta(days=1)))
    s3.put_object_retention(**version, Retention=governed(end), BypassGovernanceRetention=True)
    assert s3.get_object_retention(**version)["Retention"] == governed(end)
    s3.delete_object(**version, BypassGovernanceRetention=True)
    with refused(404, "NoSuchVersion"):
        s3.get_object(**version)


def test_nobody_bypasses_compliance(s3: Any, version: dict[str, str]) -> None:
    end = in_time(seconds=COMPLIANCE_S)
    s3.put_object_retention(**version, Retention={"Mode": "COMPLIANCE", "RetainUntilDate": end})
    with refused(403, "AccessDenied"):
        s3.delete_object(**version, BypassGovernanceRetention=True)
    with refused(403, "AccessDenied"):
        s3.put_object_retention(
            **version, Retention=governed(in_time(days=1)), BypassGovernanceRetention=True
        )

    def is_gone() -> bool:
        try:
            s3.delete_object(**version)
        except s3.exceptions.ClientError as caught:
            if caught.response["Error"]["Code"] != "AccessDenied":
                raise
            return False
        return True

    until(is_gone, "the retention ends", wait_s=COMPLIANCE_S + 30)
    assert datetime.now(UTC) >= end


def test_a_legal_hold(s3: Any, version: dict[str, str]) -> None:
    with refused(404, "NoSuchObjectLockConfiguration"):
        s3.get_object_legal_hold(**version)
    s3.put_object_legal_hold(**version, LegalHold={"Status": "ON"})
    assert s3.get_object_legal_hold(**version)["LegalHold"] == {"Status": "ON"}
    assert s3.head_object(**version)["ObjectLockLegalHoldStatus"] == "ON"
    with refused(403, "AccessDenied"):
        s3.delete_object(**version, BypassGovernanceRetention=True)
    s3.put_object_legal_hold(**version, LegalHold={"Status": "OFF"})
    assert s3.get_object_legal_hold(**version)["LegalHold"] == {"Status": "OFF"}
    s3.delete_object(**version)


def test_a_lock_is_given_with_the_object(s3: Any, lockable: str) -> None:
    end = in_time(days=1)
    locked = {
        "ObjectLockMode": "GOVERNANCE",
        "ObjectLockRetainUntilDate": end,
        "ObjectLockLegalHoldStatus": "ON",
    }
    s3.put_object(Bucket=lockable, Key="k", Body=b"x", **locked)
    head = s3.head_object(Bucket=lockable, Key="k")
    assert {name: head[name] for name in locked} == locked
    s3.copy_object(Bucket=lockable, Key="copy", CopySource={"Bucket": lockable, "Key": "k"})
    assert "ObjectLockMode" not in s3.head_object(Bucket=lockable, Key="copy")


def test_locks_that_are_refused(s3: Any, version: dict[str, str]) -> None:
    bucket = version["Bucket"]
    with refused(400, "InvalidArgument"):
        s3.put_object_retention(**version, Retention=governed(in_time(days=-1)))
    with refused(400, "MalformedXML"):
        s3.put_object_retention(**version, Retention={"Mode": "KEEP", "RetainUntilDate": in_time(days=1)})
    with refused(400, "MalformedXML"):
        s3.put_object_legal_hold(**version, LegalHold={"Status": "PERHAPS"})
    with refused(400, "InvalidArgument"):
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", ObjectLockMode="GOVERNANCE")
    with refused(400, "InvalidArgument"):
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", ObjectLockRetainUntilDate=in_time(days=1))
    with refused(404, "NoSuchObjectLockConfiguration"):
        s3.get_object_retention(**version)
