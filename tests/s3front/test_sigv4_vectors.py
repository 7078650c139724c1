"""AWS's published examples of Signature Version 4 for S3 ("Authenticating Requests", S3 API reference)."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256

import pytest

from s3front.auth.aws_chunked import ChunkedDecoder
from s3front.auth.payload import Payload
from s3front.auth.sigv4 import Identity, authenticate
from s3front.errors import SignatureDoesNotMatch
from s3front.wire.checksums import ALGORITHMS, value_of

ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"
SECRETS = {ACCESS_KEY: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}
AT = datetime(2013, 5, 24, tzinfo=UTC)
TIMESTAMP = "20130524T000000Z"
CREDENTIAL = f"{ACCESS_KEY}/20130524/us-east-1/s3/aws4_request"
EMPTY_SHA256 = sha256(b"").hexdigest()
VIRTUAL_HOST = "examplebucket.s3.amazonaws.com"

CHUNKED_HEADERS = {
    "host": "s3.amazonaws.com",
    "x-amz-date": TIMESTAMP,
    "x-amz-storage-class": "REDUCED_REDUNDANCY",
    "content-encoding": "aws-chunked",
    "x-amz-decoded-content-length": "66560",
}


def authorization(signed: str, signature: str) -> str:
    return f"AWS4-HMAC-SHA256 Credential={CREDENTIAL},SignedHeaders={signed},Signature={signature}"


def check(
    method: str, path: str, query: str, headers: dict[str, str], *, signed: str = "", signature: str = ""
) -> Identity:
    if signature:
        headers = {**headers, "authorization": authorization(signed, signature)}
    identity = authenticate(
        method=method,
        raw_path=path.encode(),
        raw_query=query.encode(),
        headers=[(name.encode(), value.encode()) for name, value in headers.items()],
        secret_of=SECRETS.get,
        now=AT,
        region="us-east-1",
    )
    assert identity is not None
    return identity


def test_get_object_with_range() -> None:
    identity = check(
        "GET",
        "/test.txt",
        "",
        {
            "host": VIRTUAL_HOST,
            "range": "bytes=0-9",
            "x-amz-content-sha256": EMPTY_SHA256,
            "x-amz-date": TIMESTAMP,
        },
        signed="host;range;x-amz-content-sha256;x-amz-date",
        signature="f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    )
    assert identity.access_key == ACCESS_KEY
    assert identity.payload is Payload.SHA256
    assert identity.payload_sha256 == EMPTY_SHA256


@pytest.mark.parametrize("path", ["/test$file.text", "/test%24file.text"])
def test_put_object_however_the_client_encodes_its_path(path: str) -> None:
    check(
        "PUT",
        path,
        "",
        {
            "host": VIRTUAL_HOST,
            "date": "Fri, 24 May 2013 00:00:00 GMT",
            "x-amz-content-sha256": "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
            "x-amz-date": TIMESTAMP,
            "x-amz-storage-class": "REDUCED_REDUNDANCY",
        },
        signed="date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
        signature="98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    )


@pytest.mark.parametrize(
    ("query", "signature"),
    [
        ("lifecycle", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        ("max-keys=2&prefix=J", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
        ("prefix=J&max-keys=2", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    ],
)
def test_bucket_requests(query: str, signature: str) -> None:
    check(
        "GET",
        "/",
        query,
        {"host": VIRTUAL_HOST, "x-amz-content-sha256": EMPTY_SHA256, "x-amz-date": TIMESTAMP},
        signed="host;x-amz-content-sha256;x-amz-date",
        signature=signature,
    )


def test_presigned_url() -> None:
    identity = check(
        "GET",
        "/test.txt",
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2F"
        f"aws4_request&X-Amz-Date={TIMESTAMP}&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
        {"host": VIRTUAL_HOST},
    )
    assert identity.payload is Payload.UNSIGNED


CHUNK_SIGNATURES = (
    "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
    "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
    "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
)
TRAILER_CHUNK_SIGNATURES = (
    "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
    "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
    "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
)
TRAILER_SIGNATURE = "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435"


def chunked_body(signatures: tuple[str, str, str], end: bytes) -> bytes:
    first, second, last = (signature.encode() for signature in signatures)
    return b"".join(
        (
            b"10000;chunk-signature=" + first + b"\r\n" + b"a" * 65536 + b"\r\n",
            b"400;chunk-signature=" + second + b"\r\n" + b"a" * 1024 + b"\r\n",
            b"0;chunk-signature=" + last + b"\r\n" + end,
        )
    )


def chunked_identity() -> Identity:
    return check(
        "PUT",
        "/examplebucket/chunkObject.txt",
        "",
        {
            **CHUNKED_HEADERS,
            "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
            "content-length": "66824",
        },
        signed="content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;"
        "x-amz-decoded-content-length;x-amz-storage-class",
        signature="4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
    )


def test_chunked_upload() -> None:
    body = chunked_body(CHUNK_SIGNATURES, b"\r\n")
    assert len(body) == 66824
    decoder = ChunkedDecoder(chunked_identity(), CHUNKED_HEADERS)
    assert b"".join(decoder.feed(body)) == b"a" * 66560
    decoder.finish()


def test_chunked_upload_with_one_byte_changed() -> None:
    body = bytearray(chunked_body(CHUNK_SIGNATURES, b"\r\n"))
    body[66_000] ^= 1
    decoder = ChunkedDecoder(chunked_identity(), CHUNKED_HEADERS)
    with pytest.raises(SignatureDoesNotMatch) as refusal:
        decoder.feed(bytes(body))
    assert "AWS4-HMAC-SHA256-PAYLOAD" in str(refusal.value.elements["StringToSign"])


def test_chunked_upload_with_trailer() -> None:
    headers = {
        **CHUNKED_HEADERS,
        "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        "x-amz-trailer": "x-amz-checksum-crc32c",
    }
    identity = check(
        "PUT",
        "/examplebucket/chunkObject.txt",
        "",
        headers,
        signed="content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;"
        "x-amz-storage-class;x-amz-trailer",
        signature="106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
    )
    assert identity.payload is Payload.SIGNED_CHUNKS_TRAILER
    end = (
        b"x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:"
        + TRAILER_SIGNATURE.encode()
        + b"\r\n\r\n"
    )
    decoder = ChunkedDecoder(identity, headers)
    data = b"".join(decoder.feed(chunked_body(TRAILER_CHUNK_SIGNATURES, end)))
    decoder.finish()
    hasher = ALGORITHMS["CRC32C"].new()
    hasher.update(data)
    assert decoder.trailers == {"x-amz-checksum-crc32c": value_of(hasher)}
