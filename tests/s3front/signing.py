"""The client's side of Signature Version 4: botocore signs, and what it would send becomes what a server sees."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple
from unittest.mock import patch
from urllib.parse import quote, urlencode, urlsplit

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from s3front.auth.sigv4 import Identity, authenticate

ACCESS_KEY = "TRIVETACCESSKEY00001"
SECRET_KEY = "a/Secret+Key=that%is&never shown"
REGION = "us-east-1"
NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
HOST = "127.0.0.1:9000"
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


class Wire(NamedTuple):
    """A request as it arrives."""

    method: str
    raw_path: bytes
    raw_query: bytes
    headers: dict[str, str]

    def with_header(self, name: str, value: str) -> Wire:
        return self._replace(headers={**self.headers, name: value})

    def without_header(self, name: str) -> Wire:
        return self._replace(headers={n: v for n, v in self.headers.items() if n != name})

    def with_query(self, old: str, new: str) -> Wire:
        assert old.encode() in self.raw_query
        return self._replace(raw_query=self.raw_query.replace(old.encode(), new.encode()))

    def verify(
        self, *, now: datetime = NOW, region: str = REGION, secrets: Mapping[str, str] | None = None
    ) -> Identity | None:
        """Ask Trivet who this is."""
        known = {ACCESS_KEY: SECRET_KEY} if secrets is None else secrets
        return authenticate(
            method=self.method,
            raw_path=self.raw_path,
            raw_query=self.raw_query,
            headers=[(n.encode(), v.encode("latin-1")) for n, v in self.headers.items()],
            secret_of=known.get,
            now=now,
            region=region,
        )


def _request(
    method: str, path: str, query: Mapping[str, str] | str, headers: Mapping[str, str] | None
) -> AWSRequest:
    text = query if isinstance(query, str) else urlencode(query, quote_via=quote, safe="-_.~")
    url = f"http://{HOST}{path}" + (f"?{text}" if text else "")
    return AWSRequest(method=method, url=url, headers=dict(headers or {}))


def _wire(request: AWSRequest) -> Wire:
    parts = urlsplit(request.url)
    headers = {"host": HOST, "user-agent": "Boto3/1"}
    headers |= {name.lower(): str(value) for name, value in request.headers.items()}
    return Wire(request.method, parts.path.encode(), parts.query.encode(), headers)


def signed_by_header(
    method: str = "GET",
    path: str = "/bucket/key",
    query: Mapping[str, str] | str = "",
    headers: Mapping[str, str] | None = None,
    *,
    at: datetime = NOW,
    region: str = REGION,
    service: str = "s3",
    access_key: str = ACCESS_KEY,
    secret_key: str = SECRET_KEY,
) -> Wire:
    """What boto3 would send, signed in the Authorization header."""
    request = _request(method, path, query, headers)
    with patch("botocore.auth.get_current_datetime", lambda: at):
        S3SigV4Auth(Credentials(access_key, secret_key), service, region).add_auth(request)
    return _wire(request)


def presigned(
    method: str = "GET",
    path: str = "/bucket/key",
    query: Mapping[str, str] | str = "",
    headers: Mapping[str, str] | None = None,
    *,
    at: datetime = NOW,
    expires: int = 3600,
    region: str = REGION,
    service: str = "s3",
) -> Wire:
    """What follows a URL made by generate_presigned_url."""
    request = _request(method, path, query, headers)
    with patch("botocore.auth.get_current_datetime", lambda: at):
        S3SigV4QueryAuth(Credentials(ACCESS_KEY, SECRET_KEY), service, region, expires).add_auth(request)
    return _wire(request)
