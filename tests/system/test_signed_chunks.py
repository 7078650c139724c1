"""aws-chunked bodies with a signature for each chunk, over the wire: plain, and with a signed trailer."""

from __future__ import annotations

import base64
import hashlib
import hmac
import zlib
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.system.conftest import Store

BUCKET = "signed-chunks"
PLAIN = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
WITH_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
EMPTY = hashlib.sha256().hexdigest()
CHUNK = 64 << 10


@pytest.fixture(scope="module")
def s3(store: Store) -> Iterator[Any]:
    client = store.client()
    client.create_bucket(Bucket=BUCKET)
    yield client
    client.delete_object(Bucket=BUCKET, Key="k")
    client.delete_bucket(Bucket=BUCKET)


def signing_key(secret: str, scope: str) -> bytes:
    key = b"AWS4" + secret.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


class SignedStream:
    """A PUT of `body` in signed chunks, made as "Signature calculations for the Authorization header" describes."""

    def __init__(self, store: Store, mode: str, body: bytes) -> None:
        self.parts = urlsplit(store.endpoint)
        trailer = {"X-Amz-Trailer": "x-amz-checksum-crc32"} if mode == WITH_TRAILER else {}
        headers = {
            "Host": self.parts.netloc,
            "Content-Encoding": "aws-chunked",
            "X-Amz-Decoded-Content-Length": str(len(body)),
            "X-Amz-Content-SHA256": mode,
            **trailer,
        }
        request = AWSRequest(method="PUT", url=f"{store.endpoint}/{BUCKET}/k", headers=headers)

        class Signer(S3SigV4Auth):  # type: ignore[misc]
            def payload(self, request: Any) -> str:
                return mode

        Signer(Credentials(store.access_key, store.secret_key), "s3", "us-east-1").add_auth(request)
        self.headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
        authorization = self.headers["Authorization"]
        self.signature: str = authorization.rpartition("Signature=")[2]
        self.date = self.headers["X-Amz-Date"]
        self.scope = f"{self.date[:8]}/us-east-1/s3/aws4_request"
        self.key = signing_key(store.secret_key, self.scope)
        pieces = [body[at : at + CHUNK] for at in range(0, len(body), CHUNK)] + [b""]
        self.framed = b"".join(self._chunk(piece, last=not piece, mode=mode) for piece in pieces)
        if mode == WITH_TRAILER:
            self.framed += self._trailer(body)

    def _sign(self, kind: str, *lines: str) -> str:
        text = "\n".join((kind, self.date, self.scope, self.signature, *lines))
        self.signature = hmac.new(self.key, text.encode(), "sha256").hexdigest()
        return self.signature

    def _chunk(self, piece: bytes, *, last: bool, mode: str) -> bytes:
        digest = hashlib.sha256(piece).hexdigest()
        signature = self._sign("AWS4-HMAC-SHA256-PAYLOAD", EMPTY, digest)
        end = b"" if last and mode == WITH_TRAILER else b"\r\n"
        return f"{len(piece):x};chunk-signature={signature}\r\n".encode() + piece + end

    def _trailer(self, body: bytes) -> bytes:
        line = f"x-amz-checksum-crc32:{base64.b64encode(zlib.crc32(body).to_bytes(4, 'big')).decode()}"
        digest = hashlib.sha256(f"{line}\n".encode()).hexdigest()
        signature = self._sign("AWS4-HMAC-SHA256-TRAILER", digest)
        return f"{line}\r\nx-amz-trailer-signature:{signature}\r\n\r\n".encode()

    def send(self, framed: bytes | None = None) -> tuple[int, str]:
        """Status and error code."""
        connection = HTTPConnection(self.parts.netloc, timeout=30)
        try:
            connection.request("PUT", f"/{BUCKET}/k", body=framed or self.framed, headers=self.headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        return answer.status, ElementTree.fromstring(content).findtext("Code") or "" if content else ""


@pytest.mark.parametrize("mode", [PLAIN, WITH_TRAILER])
@pytest.mark.parametrize("size", [0, 1, CHUNK, 3 * CHUNK + 7, 2 << 20])
def test_signed_chunks_are_stored_without_their_framing(store: Store, s3: Any, mode: str, size: int) -> None:
    body = hashlib.shake_128(str(size).encode()).digest(size)
    assert SignedStream(store, mode, body).send() == (200, "")
    answer = s3.get_object(Bucket=BUCKET, Key="k")
    assert answer["Body"].read() == body
    assert answer["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    assert "ContentEncoding" not in answer


@pytest.mark.parametrize("mode", [PLAIN, WITH_TRAILER])
@pytest.mark.parametrize("size", [3 * CHUNK, 2 << 20])
def test_a_changed_byte_in_any_chunk_stores_nothing(store: Store, s3: Any, mode: str, size: int) -> None:
    """Small bodies are verified before their shards leave, large ones before their row is committed."""
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"before")
    stream = SignedStream(store, mode, bytes(size))
    for at in (200, len(stream.framed) // 2, len(stream.framed) - 300):
        changed = bytearray(stream.framed)
        changed[at] ^= 1
        status, code = stream.send(bytes(changed))
        assert (status, code) in [(403, "SignatureDoesNotMatch"), (400, "IncompleteBody")], at
    assert s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"before"
