"""The headers of encryption: what is taken, and every error that AWS has for what is not."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.bucket_model import BucketActions, DefaultEncryption
from catalog.model import Bucket
from s3front.encryption.customer_keys import PREFIX, customer_key
from s3front.encryption.wanted import Wanted, wanted_encryption
from s3front.errors import AccessDenied, InvalidArgument, InvalidEncryptionAlgorithmError, S3Error
from s3front.request import Request

KEY = bytes(range(32))
SSE = "x-amz-server-side-encryption"
KMS_KEY, CONTEXT, BUCKET_KEY = f"{SSE}-aws-kms-key-id", f"{SSE}-context", f"{SSE}-bucket-key-enabled"


def customer_headers(key: bytes = KEY) -> dict[str, str]:
    digest = base64.b64encode(hashlib.md5(key, usedforsecurity=False).digest()).decode()
    return {
        f"{PREFIX}algorithm": "AES256",
        f"{PREFIX}key": base64.b64encode(key).decode(),
        f"{PREFIX}key-md5": digest,
    }


def wanted(headers: dict[str, str], default: DefaultEncryption | None = None) -> Wanted | None:
    async def receive() -> dict[str, object]:
        raise AssertionError("headers only")

    scope = {
        "method": "PUT",
        "raw_path": b"/bucket/key",
        "query_string": b"",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
    }
    request = Request(scope, receive, "R1", ("localhost",))
    bucket = Bucket(1, "bucket", "owner", "us-east-1", 0, actions=BucketActions(encryption=default))
    return wanted_encryption(request, bucket)


def test_nothing_asked_is_nothing_done() -> None:
    assert wanted({}) is None
    assert customer_key({}) is None


def test_a_customers_key_is_taken_and_not_shown() -> None:
    found = wanted(customer_headers())
    assert found is not None
    assert (found.algorithm, found.customer) == ("SSE-C", KEY)
    assert repr(KEY)[2:-1] not in repr(found)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"algorithm": None}, InvalidArgument),
        ({"algorithm": "AES128"}, InvalidEncryptionAlgorithmError),
        ({"key": None}, InvalidArgument),
        ({"key": base64.b64encode(KEY[:31]).decode()}, InvalidArgument),
        ({"key": base64.b64encode(KEY + b"x").decode()}, InvalidArgument),
        ({"key": "not base64"}, InvalidArgument),
        ({"key-md5": None}, InvalidArgument),
        ({"key-md5": "AAAAAAAAAAAAAAAAAAAAAA=="}, InvalidArgument),
        ({"key-md5": "?"}, InvalidArgument),
        ({"algorithm": None, "key": None}, InvalidArgument),
    ],
)
def test_a_customers_key_that_cannot_be_is_refused(
    change: dict[str, str | None], error: type[S3Error]
) -> None:
    """Each header alone missing or wrong. And the error does not tell the key: it goes into logs."""
    headers = customer_headers()
    for name, value in change.items():
        headers.pop(PREFIX + name)
        if value is not None:
            headers[PREFIX + name] = value
    with pytest.raises(error) as caught:
        wanted(headers)
    assert caught.value.status == 400
    given_key = headers.get(f"{PREFIX}key", "no key")
    assert given_key not in f"{caught.value!r} {caught.value}"


@given(st.dictionaries(st.sampled_from(["algorithm", "key", "key-md5"]), st.text(max_size=60)))
def test_no_headers_break_the_parser(values: dict[str, str]) -> None:
    """Whatever is sent is a key of 32 bytes, nothing, or an error of S3's."""
    try:
        key = customer_key({PREFIX + name: value for name, value in values.items()})
    except S3Error:
        return
    assert key is None or len(key) == 32


def test_sse_s3_and_kms_are_taken_as_asked() -> None:
    assert wanted({SSE: "AES256"}) == Wanted("AES256", "sse-s3")
    assert wanted({SSE: "aws:kms"}) == Wanted("aws:kms", "aws/s3")
    context = base64.b64encode(b'{"a": "b"}').decode()
    headers = {SSE: "aws:kms:dsse", KMS_KEY: "key-1", CONTEXT: context, BUCKET_KEY: "true"}
    assert wanted(headers) == Wanted("aws:kms:dsse", "key-1", context, True)


@pytest.mark.parametrize(
    "headers",
    [
        {SSE: "aes:kms"},
        {SSE: "AES128"},
        {SSE: "AES256", KMS_KEY: "key"},
        {SSE: "AES256", CONTEXT: "e30="},
        {KMS_KEY: "key"},
        {SSE: "aws:kms", CONTEXT: "not base64!"},
        {SSE: "aws:kms", CONTEXT: base64.b64encode(b"[]").decode()},
        {SSE: "aws:kms", CONTEXT: base64.b64encode(b'{"a": 1}').decode()},
        {SSE: "aws:kms", CONTEXT: base64.b64encode(b"[" * 5000).decode()},
        {SSE: "aws:kms", CONTEXT: base64.b64encode(b"\xff").decode()},
        {SSE: "aws:kms", BUCKET_KEY: "yes"},
        {SSE: "aws:kms", KMS_KEY: "x" * 2049},
        {SSE: "AES256", **customer_headers()},
        {SSE: "aws:kms", **customer_headers()},
        {KMS_KEY: "key", **customer_headers()},
    ],
    ids=str,
)
def test_what_does_not_go_together_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument):
        wanted(headers)


def test_the_buckets_default_holds_where_the_request_says_nothing() -> None:
    """And only there."""
    kms = DefaultEncryption("aws:kms", "key-1", bucket_key=True)
    assert wanted({}, kms) == Wanted("aws:kms", "key-1", "", True)
    assert wanted({BUCKET_KEY: "false"}, kms) == Wanted("aws:kms", "key-1", "", False)
    assert wanted({SSE: "AES256"}, kms) == Wanted("AES256", "sse-s3")
    assert wanted({}, DefaultEncryption("AES256")) == Wanted("AES256", "sse-s3")
    assert wanted({}, DefaultEncryption("aws:kms")) == Wanted("aws:kms", "aws/s3")
    found = wanted(customer_headers(), kms)
    assert found is not None
    assert found.algorithm == "SSE-C"
    with pytest.raises(InvalidArgument):
        wanted({KMS_KEY: "key-2"}, kms)


def test_a_bucket_may_refuse_customers_keys() -> None:
    blocking = DefaultEncryption("AES256", blocked=("SSE-C",))
    with pytest.raises(AccessDenied):
        wanted(customer_headers(), blocking)
    assert wanted({}, blocking) == Wanted("AES256", "sse-s3")
