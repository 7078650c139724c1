"""What a careless or hostile client sends: the S3 error of AWS, nothing stored, and the next request is fine (P10)."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.system.conftest import Store

BUCKET = "bad-input"


@pytest.fixture(scope="module")
def bucket(store: Store) -> Iterator[str]:
    store.client().create_bucket(Bucket=BUCKET)
    yield BUCKET
    listed = store.client().list_objects_v2(Bucket=BUCKET).get("Contents", [])
    for entry in listed:
        store.client().delete_object(Bucket=BUCKET, Key=entry["Key"])
    store.client().delete_bucket(Bucket=BUCKET)


def signed_headers(
    store: Store, method: str, path: str, body: bytes, extra: dict[str, str]
) -> dict[str, str]:
    """Headers that a correct client would sign for this request (content-length not among them)."""
    host = urlsplit(store.endpoint).netloc
    request = AWSRequest(
        method=method, url=f"http://{host}{path}", data=body, headers={"Host": host, **extra}
    )
    request.context["client_config"] = None
    request.headers["X-Amz-Content-SHA256"] = hashlib.sha256(body).hexdigest()
    S3SigV4Auth(Credentials(store.access_key, store.secret_key), "s3", "us-east-1").add_auth(request)
    return dict(request.headers.items())


@contextmanager
def connection(store: Store) -> Iterator[socket.socket]:
    parts = urlsplit(store.endpoint)
    assert parts.hostname is not None
    with socket.create_connection((parts.hostname, parts.port or 80), timeout=20) as sock:
        yield sock


def exchange(store: Store, head: bytes, body: bytes = b"") -> tuple[int, str]:
    """Send raw bytes; the status and the S3 error code ("" if there is none) of the first answer."""
    with connection(store) as sock:
        sock.sendall(head + body)
        sock.shutdown(socket.SHUT_WR) if not head else None
        answer = b""
        while b"\r\n\r\n" not in answer:
            piece = sock.recv(65536)
            if not piece:
                break
            answer += piece
        header, _, rest = answer.partition(b"\r\n\r\n")
        status = int(header.split(b" ", 2)[1])
        length = next(
            int(line.split(b":")[1])
            for line in header.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        while len(rest) < length:
            rest += sock.recv(65536)
    return status, ElementTree.fromstring(rest).findtext("Code") or "" if rest.startswith(b"<?xml") else ""


def request(
    store: Store, method: str, path: str, body: bytes = b"", /, *, length: str | None = "", **extra: str
) -> tuple[int, str]:
    """A correctly signed request whose Content-Length may lie: "" is the true one, None leaves it out."""
    named = {name.replace("_", "-"): value for name, value in extra.items()}
    headers = signed_headers(store, method, path, body, named)
    if length is not None:
        headers["Content-Length"] = length or str(len(body))
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return exchange(store, f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1"), body)


def keys_of(store: Store) -> list[str]:
    return [entry["Key"] for entry in store.client().list_objects_v2(Bucket=BUCKET).get("Contents", [])]


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (b"", "MissingRequestBodyError"),
        (b"not xml", "MalformedXML"),
        (b"<Delete><Object>", "MalformedXML"),
        (b"<Wrong/>", "MalformedXML"),
        (b"<Delete></Delete>", "MalformedXML"),
        (
            b'<!DOCTYPE Delete SYSTEM "file:///etc/passwd"><Delete><Object><Key>a</Key></Object></Delete>',
            "MalformedXML",
        ),
        (
            b'<!DOCTYPE d [<!ENTITY x "a">]><Delete><Object><Key>&x;</Key></Object></Delete>',
            "MalformedXML",
        ),
        (b"<Delete>" + b"<Object><Key>a</Key></Object>" * 1001 + b"</Delete>", "MalformedXML"),
        (b"<Delete>" + b" " * (3 << 20) + b"</Delete>", "MaxMessageLengthExceeded"),
    ],
)
def test_bad_xml(store: Store, bucket: str, document: bytes, code: str) -> None:
    assert request(store, "POST", f"/{bucket}?delete=", document) == (400, code)


def test_oversized_headers(store: Store, bucket: str) -> None:
    many = {f"x-amz-meta-{number}": "v" * 1000 for number in range(40)}
    assert request(store, "GET", f"/{bucket}", b"", length="", **many) == (
        400,
        "RequestHeaderSectionTooLarge",
    )


@pytest.mark.parametrize("length", ["-1", "1e3", "0x10", "99999999999999999999999999"])
def test_impossible_content_length(store: Store, bucket: str, length: str) -> None:
    status, code = request(store, "PUT", f"/{bucket}/k", length=length)
    assert (status, code) in [(400, "BadRequest"), (400, "InvalidArgument")]
    assert keys_of(store) == []


def test_object_of_more_than_five_gib(store: Store, bucket: str) -> None:
    assert request(store, "PUT", f"/{bucket}/k", length=str((5 << 30) + 1)) == (400, "EntityTooLarge")


def test_missing_content_length(store: Store, bucket: str) -> None:
    assert request(store, "PUT", f"/{bucket}/k", length=None) == (411, "MissingContentLength")


def test_bad_utf8_in_key(store: Store, bucket: str) -> None:
    assert request(store, "PUT", f"/{bucket}/%ff%fe") == (400, "InvalidURI")


def test_key_lengths(store: Store, bucket: str) -> None:
    longest = "k" * 1024
    assert request(store, "PUT", f"/{bucket}/{longest}", b"x") == (200, "")
    assert request(store, "PUT", f"/{bucket}/{longest}k", b"x") == (400, "KeyTooLongError")
    assert request(store, "PUT", f"/{bucket}/{'ä' * 513}".replace("ä", "%C3%A4"), b"x") == (
        400,
        "KeyTooLongError",
    )
    assert keys_of(store) == [longest]
    store.client().delete_object(Bucket=bucket, Key=longest)


@pytest.mark.parametrize("path", ["../other/k", "a/../../k", "%2e%2e/k", "a/%2E./../k"])
def test_keys_never_climb_out_of_the_bucket(store: Store, bucket: str, path: str) -> None:
    assert request(store, "PUT", f"/{bucket}/{path}", b"x") == (400, "InvalidURI")
    assert keys_of(store) == []


@pytest.mark.parametrize("key", ["a//b", "//", "a/../b", ".", "a\x00b", "tab\there", "\x7f"])
def test_odd_keys_are_kept_as_they_are(store: Store, bucket: str, key: str) -> None:
    client = store.client()
    client.put_object(Bucket=bucket, Key=key, Body=b"odd")
    assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == b"odd"
    assert keys_of(store) == [key]
    client.delete_object(Bucket=bucket, Key=key)


@pytest.mark.parametrize(
    ("digest", "code"),
    [("AAAAAAAAAAAAAAAAAAAAAA==", "BadDigest"), ("AAAA", "InvalidDigest"), ("%", "InvalidDigest")],
)
def test_content_md5(store: Store, bucket: str, digest: str, code: str) -> None:
    assert request(store, "PUT", f"/{bucket}/k", b"body", Content_MD5=digest) == (400, code)
    assert keys_of(store) == []


def test_wrong_payload_hash(store: Store, bucket: str) -> None:
    headers = signed_headers(store, "PUT", f"/{bucket}/k", b"what was signed", {})
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    body = b"what was sent.."
    head = f"PUT /{bucket}/k HTTP/1.1\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode()
    assert exchange(store, head, body) == (400, "XAmzContentSHA256Mismatch")
    assert keys_of(store) == []


@pytest.mark.parametrize("sent", [0, 1, 100_000, 3_000_000])
def test_client_that_stops_half_way(store: Store, bucket: str, sent: int) -> None:
    body = bytes(4_000_000)
    headers = signed_headers(store, "PUT", f"/{bucket}/k", body, {})
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with connection(store) as sock:
        sock.sendall(f"PUT /{bucket}/k HTTP/1.1\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode())
        sock.sendall(body[:sent])
    store.client().put_object(Bucket=bucket, Key="next", Body=b"fine")
    assert keys_of(store) == ["next"]
    store.client().delete_object(Bucket=bucket, Key="next")


def test_garbage_instead_of_http(store: Store, bucket: str) -> None:
    assert exchange(store, b"\x16\x03\x01 this is not HTTP\r\n\r\n") == (400, "BadRequest")


def test_anonymous_requests_are_refused(store: Store, bucket: str) -> None:
    head = f"GET /{bucket} HTTP/1.1\r\nHost: {urlsplit(store.endpoint).netloc}\r\n\r\n".encode()
    assert exchange(store, head) == (403, "AccessDenied")
    assert exchange(store, head.replace(b"GET", b"PUT")) == (403, "AccessDenied")


def test_unknown_method_and_unsupported_subresource(store: Store, bucket: str) -> None:
    assert request(store, "PATCH", f"/{bucket}/k") == (405, "MethodNotAllowed")
    assert request(store, "GET", f"/{bucket}?session=") == (501, "NotImplemented")
