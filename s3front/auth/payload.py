"""What a signature says about the body: the values of x-amz-content-sha256."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from s3front.errors import InvalidArgument


class Payload(Enum):
    """How the body is covered; the value is what x-amz-content-sha256 says."""

    SHA256 = b""
    """The header is the digest that the body must have."""
    UNSIGNED = b"UNSIGNED-PAYLOAD"
    SIGNED_CHUNKS = b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    SIGNED_CHUNKS_TRAILER = b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
    UNSIGNED_CHUNKS_TRAILER = b"STREAMING-UNSIGNED-PAYLOAD-TRAILER"

    @property
    def is_chunked(self) -> bool:
        """Whether the body is framed as aws-chunked."""
        return self not in (Payload.SHA256, Payload.UNSIGNED)


class SignedPayload(NamedTuple):
    """x-amz-content-sha256, parsed."""

    line: bytes
    """As sent: the last line of the canonical request."""
    kind: Payload
    sha256: str | None
    """Lower-case hex that the body must hash to; None unless `kind` is SHA256."""


_KEYWORDS: dict[bytes, SignedPayload] = {
    kind.value: SignedPayload(kind.value, kind, None) for kind in Payload if kind is not Payload.SHA256
}

UNSIGNED = _KEYWORDS[Payload.UNSIGNED.value]


def parse_payload(value: bytes) -> SignedPayload:
    """Raises InvalidArgument for anything but a keyword that Trivet supports or 64 hex digits."""
    payload = _KEYWORDS.get(value)
    if payload is not None:
        return payload
    text = value.decode("latin-1")
    try:
        digest = bytes.fromhex(text) if len(text) == 64 else b""
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise InvalidArgument(
            "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, "
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 "
            "value.",
            ArgumentName="x-amz-content-sha256",
            ArgumentValue=text,
        )
    return SignedPayload(value, Payload.SHA256, digest.hex())
