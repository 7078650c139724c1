"""Signatures over the wire: boto3 as the honest client, and the ways in which a request may be wrong."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock
from urllib.parse import urlsplit
from xml.etree import ElementTree

import boto3
import pytest
from botocore import auth as botocore_auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.crt import auth as botocore_crt_auth
from botocore.exceptions import ClientError

from tests.system.conftest import Store

BUCKET = "authentication"


@pytest.fixture(scope="module")
def s3(store: Store) -> Iterator[Any]:
    client = store.client()
    client.create_bucket(Bucket=BUCKET)
    client.put_object(Bucket=BUCKET, Key="k", Body=b"body")
    yield client
    client.delete_object(Bucket=BUCKET, Key="k")
    client.delete_bucket(Bucket=BUCKET)


def presign(store: Store, operation: str, key: str = "k") -> str:
    """A URL that boto3 signs with Signature Version 4, valid for a minute."""
    client = store.client(config=Config(signature_version="s3v4"))
    url: str = client.generate_presigned_url(operation, Params={"Bucket": BUCKET, "Key": key}, ExpiresIn=60)
    return url


@contextmanager
def client_clock(offset: timedelta) -> Iterator[None]:
    """boto3 signs with its own signer or, where awscrt is installed, with that; both get a clock that is wrong."""

    def now(remove_tzinfo: bool = True) -> datetime:
        wrong = datetime.now(UTC) + offset
        return wrong.replace(tzinfo=None) if remove_tzinfo else wrong

    with (
        mock.patch.object(botocore_auth, "get_current_datetime", now),
        mock.patch.object(botocore_crt_auth, "get_current_datetime", now),
    ):
        yield


def refused(store: Store, **changes: Any) -> tuple[int, str]:
    """Status and code of a GET by a client that differs in `changes` from the honest one."""
    options: dict[str, Any] = {
        "aws_access_key_id": store.access_key,
        "aws_secret_access_key": store.secret_key,
        "region_name": "us-east-1",
        **changes,
    }
    client = boto3.client("s3", endpoint_url=store.endpoint, **options)
    with pytest.raises(ClientError) as caught:
        client.get_object(Bucket=BUCKET, Key="k")
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def open_url(
    url: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, str, bytes]:
    """Status, error code and body of a plain request."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, body, named, method=method), timeout=20
        ) as answer:
            return answer.status, "", answer.read()
    except urllib.error.HTTPError as error:
        with error:
            content = error.read()
        return error.code, ElementTree.fromstring(content).findtext("Code") or "", content


def test_wrong_secret(store: Store, s3: Any) -> None:
    assert refused(store, aws_secret_access_key="x" * 40) == (403, "SignatureDoesNotMatch")


def test_unknown_key(store: Store, s3: Any) -> None:
    assert refused(store, aws_access_key_id="AKIANOBODY") == (403, "InvalidAccessKeyId")


def test_wrong_region(store: Store, s3: Any) -> None:
    """boto3 learns the right region from the answer and tries again; a presigned URL shows the refusal itself."""
    client = boto3.client(
        "s3",
        endpoint_url=store.endpoint,
        aws_access_key_id=store.access_key,
        aws_secret_access_key=store.secret_key,
        region_name="eu-west-1",
        config=Config(signature_version="s3v4"),
    )
    assert client.get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"body"
    url = presign(store, "get_object").replace("us-east-1", "eu-west-1")
    assert open_url(url)[:2] == (400, "AuthorizationQueryParametersError")


def test_session_token_of_another_world(store: Store, s3: Any) -> None:
    assert refused(store, aws_session_token="token") == (400, "InvalidToken")


@pytest.mark.parametrize("minutes", [-16, 16])
def test_clock_skew(store: Store, s3: Any, minutes: int) -> None:
    with client_clock(timedelta(minutes=minutes)):
        assert refused(store) == (403, "RequestTimeTooSkewed")


def test_presigned_get_and_put(store: Store, s3: Any) -> None:
    get = presign(store, "get_object")
    assert open_url(get) == (200, "", b"body")
    put = presign(store, "put_object")
    assert open_url(put, "PUT", b"body by URL")[0] == 200
    assert open_url(get)[2] == b"body by URL"


def test_presigned_url_for_something_else(store: Store, s3: Any) -> None:
    get = presign(store, "get_object")
    assert open_url(get.replace("/k?", "/other?"))[:2] == (403, "SignatureDoesNotMatch")
    assert open_url(get, "DELETE")[:2] == (403, "SignatureDoesNotMatch")
    assert open_url(get + "&response-content-type=text/html")[:2] == (403, "SignatureDoesNotMatch")


def test_presigned_put_with_an_unsigned_copy_source(store: Store, s3: Any) -> None:
    put = presign(store, "put_object", "copy")
    answer = open_url(put, "PUT", b"", x_amz_copy_source=f"/{BUCKET}/k")
    assert answer[:2] == (403, "AccessDenied")
    with pytest.raises(ClientError):
        s3.head_object(Bucket=BUCKET, Key="copy")


def test_expired_presigned_url(store: Store, s3: Any) -> None:
    with client_clock(timedelta(minutes=-5)):
        url = presign(store, "get_object")
    status, code, content = open_url(url)
    assert (status, code) == (403, "AccessDenied")
    assert b"Request has expired" in content


def test_anonymous_requests(store: Store, s3: Any) -> None:
    assert open_url(f"{store.endpoint}/{BUCKET}/k")[:2] == (403, "AccessDenied")
    assert open_url(f"{store.endpoint}/")[:2] == (403, "AccessDenied")
    # That a bucket is not there is told to anybody, as on AWS.
    assert open_url(f"{store.endpoint}/no-such-bucket/k")[:2] == (404, "NoSuchBucket")


def test_errors_never_show_the_secret(store: Store, s3: Any) -> None:
    get = presign(store, "get_object")
    content = open_url(get + "x")[2]
    assert b"SignatureDoesNotMatch" in content
    assert store.secret_key.encode() not in content


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_checksums_by_header_and_by_trailer(store: Store, s3: Any, algorithm: str) -> None:
    """A seekable body's checksum travels in a header, a stream's in a trailer of an aws-chunked body."""
    field = f"Checksum{algorithm}"
    kept = s3.put_object(Bucket=BUCKET, Key="k", Body=b"sum" * 1000, ChecksumAlgorithm=algorithm)[field]
    assert s3.head_object(Bucket=BUCKET, Key="k", ChecksumMode="ENABLED")[field] == kept
    got = s3.get_object(Bucket=BUCKET, Key="k", ChecksumMode="ENABLED")
    assert (got["Body"].read(), got[field], got["ChecksumType"]) == (b"sum" * 1000, kept, "FULL_OBJECT")
    assert put_with_trailer(store, algorithm, b"sum" * 1000, kept)[0] == 200
    assert s3.head_object(Bucket=BUCKET, Key="k", ChecksumMode="ENABLED")[field] == kept
    assert put_with_trailer(store, algorithm, b"sun" * 1000, kept)[:2] == (400, "BadDigest")
    assert s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"sum" * 1000


def put_with_trailer(store: Store, algorithm: str, body: bytes, checksum: str) -> tuple[int, str, bytes]:
    """An aws-chunked PUT in two unsigned chunks whose checksum comes in the trailer."""
    mode = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    middle = len(body) // 2
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (body[:middle], body[middle:]))
    framed += f"0\r\nx-amz-checksum-{algorithm.lower()}:{checksum}\r\n\r\n".encode()
    url = f"{store.endpoint}/{BUCKET}/k"
    headers = {
        "Host": urlsplit(url).netloc,
        "Content-Encoding": "aws-chunked",
        "X-Amz-Decoded-Content-Length": str(len(body)),
        "X-Amz-Content-SHA256": mode,
        "X-Amz-Trailer": f"x-amz-checksum-{algorithm.lower()}",
    }
    request = AWSRequest(method="PUT", url=url, headers=headers)

    class Signer(botocore_auth.S3SigV4Auth):  # type: ignore[misc]
        def payload(self, request: Any) -> str:
            return mode

    Signer(Credentials(store.access_key, store.secret_key), "s3", "us-east-1").add_auth(request)
    signed = {name: value for name, value in request.headers.items() if name.lower() != "host"}
    return open_url(url, "PUT", framed, **{name.replace("-", "_"): value for name, value in signed.items()})
