"""The bench's own presigned URLs against botocore's."""

from datetime import UTC, datetime
from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit

import botocore.auth
import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from conformance.bench.signing import EXPIRES_S, Signer

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
