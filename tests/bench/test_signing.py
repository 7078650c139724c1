"""The bench's own signatures against botocore's."""

from datetime import UTC, datetime
from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit

import botocore.auth
import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from conformance.bench.signing import EXPIRES_S, Signer, request_target

NOW = datetime(2026, 11, 22, 15, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize("path", ["/bucket/key", "/bucket/a b+c~d/é%/..", "/bucket"])
@pytest.mark.parametrize("query", [{}, {"uploads": ""}, {"list-type": "2", "continuation-token": "a/b= &é"}])
def test_the_signature_is_botocores(path: str, query: dict[str, str]) -> None:
    signer = Signer("AKID", "secret", "us-east-1", "127.0.0.1:9000", NOW)
    target = signer.presign("GET", path, query)
    bare, _, _ = target.partition("?")
    request = AWSRequest("GET", f"http://127.0.0.1:9000{bare}", params=query)
    auth = S3SigV4QueryAuth(Credentials("AKID", "secret"), "s3", "us-east-1", expires=EXPIRES_S)
    with patch.object(botocore.auth, "get_current_datetime", lambda: NOW.replace(tzinfo=None)):
        auth.add_auth(request)
    theirs = parse_qs(urlsplit(request.url).query)["X-Amz-Signature"]
    assert parse_qs(urlsplit(target).query)["X-Amz-Signature"] == theirs


@pytest.mark.parametrize(
    "headers", [{"Content-MD5": "AAECAwQFBgcICQoLDA0ODw=="}, {"X-Amz-Meta-B": "b", "Range": "a"}]
)
def test_headers_are_signed_with_a_presigned_request(headers: dict[str, str]) -> None:
    signer = Signer("AKID", "secret", "us-east-1", "127.0.0.1:9000", NOW)
    target = signer.presign("POST", "/bucket", {"delete": ""}, headers)
    url = "http://127.0.0.1:9000/bucket"
    request = AWSRequest("POST", url, params={"delete": ""}, headers=headers)
    auth = S3SigV4QueryAuth(Credentials("AKID", "secret"), "s3", "us-east-1", expires=EXPIRES_S)
    with patch.object(botocore.auth, "get_current_datetime", lambda: NOW.replace(tzinfo=None)):
        auth.add_auth(request)
    theirs, ours = parse_qs(urlsplit(request.url).query), parse_qs(urlsplit(target).query)
    assert ours["X-Amz-SignedHeaders"] == theirs["X-Amz-SignedHeaders"]
    assert ours["X-Amz-Signature"] == theirs["X-Amz-Signature"]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("query", [{}, {"to": "2026-11-22T15:04:05.000Z", "from": "1 2"}])
@pytest.mark.parametrize("body", [b"", b'{"lost": true}'])
def test_the_header_signature_is_botocores(method: str, query: dict[str, str], body: bytes) -> None:
    """As the admin API takes it: the body's hash is signed."""
    path = "/-/admin/v1/cluster/recovery/node 2"
    signer = Signer("AKID", "secret", "us-east-1", "127.0.0.1:9000", NOW)
    url = "http://127.0.0.1:9000" + request_target(path, query)
    request = AWSRequest(method, url, data=body)
    request.context["payload_signing_enabled"] = True
    auth = S3SigV4Auth(Credentials("AKID", "secret"), "s3", "us-east-1")
    with patch.object(botocore.auth, "get_current_datetime", lambda: NOW.replace(tzinfo=None)):
        auth.add_auth(request)
    ours = signer.headers(method, path, query, body)
    assert ours["authorization"] == request.headers["Authorization"]
    assert ours["x-amz-content-sha256"] == request.headers["X-Amz-Content-SHA256"]
