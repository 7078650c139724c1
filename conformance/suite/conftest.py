"""Clients and buckets for the suite. A bucket is emptied, versions and all, and removed when its test ends."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
import urllib3
from botocore.config import Config
from botocore.exceptions import ClientError

PREFIX = "conformance-"
MakeBucket = Callable[..., str]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--endpoint", metavar="URL")
    group.addoption("--access-key")
    group.addoption("--secret-key")
    group.addoption("--region", default="us-east-1")
    group.addoption("--day-s", type=int, help="seconds of a lifecycle day")


@pytest.fixture(scope="session")
def new_client(pytestconfig: pytest.Config) -> Iterator[Callable[..., Any]]:
    """`new_client(**configuration)`: one try for each request, so that no answer is hidden by a second one."""
    made: list[Any] = []

    def make(**configuration: Any) -> Any:
        told = {"s3": {"addressing_style": "path"}, "retries": {"total_max_attempts": 1}, **configuration}
        client = boto3.session.Session().client(
            "s3",
            endpoint_url=pytestconfig.getoption("--endpoint"),
            region_name=pytestconfig.getoption("--region"),
            aws_access_key_id=pytestconfig.getoption("--access-key"),
            aws_secret_access_key=pytestconfig.getoption("--secret-key"),
            config=Config(**told),
        )
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


@pytest.fixture(scope="session")
def s3(new_client: Callable[..., Any]) -> Any:
    return new_client()


@pytest.fixture(scope="session")
def plain_s3(new_client: Callable[..., Any]) -> Any:
    """A client that adds no checksum of its own to requests and checks none in answers."""
    return new_client(
        request_checksum_calculation="when_required", response_checksum_validation="when_required"
    )


@pytest.fixture(scope="session")
def signer(new_client: Callable[..., Any]) -> Any:
    """Presigns with version 4, also in regions where boto3 would take the old one."""
    return new_client(signature_version="s3v4")


@pytest.fixture(scope="session")
def web() -> Iterator[urllib3.PoolManager]:
    """For requests that no client of S3 would send, and for presigned URLs."""
    with urllib3.PoolManager(retries=False, timeout=30) as pool:
        yield pool


@pytest.fixture(scope="session")
def place(pytestconfig: pytest.Config) -> dict[str, Any]:
    """What CreateBucket must be told outside of us-east-1, which must not be told."""
    region = pytestconfig.getoption("--region")
    if region == "us-east-1":
        return {}
    return {"CreateBucketConfiguration": {"LocationConstraint": region}}


@pytest.fixture
def make_bucket(s3: Any, place: dict[str, Any]) -> Iterator[MakeBucket]:
    """`make_bucket(**what CreateBucket takes)`: the name of a new bucket."""
    made: list[str] = []

    def make(**arguments: Any) -> str:
        name = f"{PREFIX}{uuid.uuid4()}"
        s3.create_bucket(Bucket=name, **place, **arguments)
        made.append(name)
        return name

    yield make
    for name in made:
        remove_bucket(s3, name)


@pytest.fixture
def bucket(make_bucket: MakeBucket) -> str:
    return make_bucket()


@pytest.fixture
def versioned(make_bucket: MakeBucket, s3: Any) -> str:
    """A bucket with versioning enabled."""
    name = make_bucket()
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


@pytest.fixture
def lockable(make_bucket: MakeBucket) -> str:
    """A bucket with object lock, and so with versioning."""
    return make_bucket(ObjectLockEnabledForBucket=True)


@pytest.fixture
def day_s(pytestconfig: pytest.Config) -> int:
    length: int | None = pytestconfig.getoption("--day-s")
    if length is None:
        pytest.skip("a lifecycle day of the endpoint lasts a day: rules can't be watched at work")
    return length


def remove_bucket(s3: Any, name: str) -> None:
    """Nothing happens when the test has removed it."""
    try:
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=name):
            entries = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
            for entry in entries:
                _remove_version(s3, name, entry["Key"], entry["VersionId"])
        for upload in s3.list_multipart_uploads(Bucket=name).get("Uploads", ()):
            s3.abort_multipart_upload(Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])
        s3.delete_bucket(Bucket=name)
    except s3.exceptions.NoSuchBucket:
        return


def _remove_version(s3: Any, bucket: str, key: str, version: str) -> None:
    named = {"Bucket": bucket, "Key": key, "VersionId": version}
    try:
        s3.delete_object(**named)
    except ClientError:
        # A legal hold or a retention of the mode GOVERNANCE; the suite makes nothing else.
        s3.put_object_legal_hold(**named, LegalHold={"Status": "OFF"})
        s3.delete_object(**named, BypassGovernanceRetention=True)
