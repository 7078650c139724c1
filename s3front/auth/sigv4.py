"""Signature Version 4 as S3 checks it: Authorization header and presigned URLs (sans-I/O).

Bytes of the request and the time come in, an ``Identity`` or the ``S3Error`` that AWS would answer comes out. A
signature proves who asks; it never allows anything (pipeline.authorise does).
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

from s3front.auth.canonical import (
    SIGNATURE_PARAMETER,
    RequestLine,
    canonical_request,
    equivalent_requests,
    join_headers,
    split_query,
)
from s3front.auth.claim import (
    ALGORITHM,
    Claim,
    Verifier,
    header_claim,
    query_claim,
    refuse_other_versions,
    refuse_two_mechanisms,
)
from s3front.auth.payload import Payload
from s3front.auth.scope import SigningKey, SigningKeys, derive_signing_key
from s3front.errors import InvalidAccessKeyId, InvalidToken, SignatureDoesNotMatch

SecretOf = Callable[[str], str | None]
"""Access key to secret key; None for an unknown one."""


class Identity(NamedTuple):
    """Who asks, proved, and what is needed to check the body."""

    access_key: str
    payload: Payload
    payload_sha256: str | None
    """Lower-case hex that the body must hash to; None unless `payload` is SHA256."""
    timestamp: bytes
    """The request's time as it was signed."""
    scope: bytes
    """``20130524/us-east-1/s3/aws4_request``"""
    signature: bytes
    """Hex; the first link of the chain of chunk signatures."""
    signing_key: bytes

    def __repr__(self) -> str:
        return (
            f"Identity({self.access_key!r}, {self.payload.name})"  # never the signing key: this gets logged
        )


class Signed(NamedTuple):
    """A request and what it claims about its signature, between reading and verifying."""

    line: RequestLine
    headers: Mapping[bytes, bytes]
    claim: Claim
    verifier: Verifier
    has_token: bool


_signing_keys = SigningKeys()


def forget_signing_keys(access_key: str) -> None:
    """Drop what was worked out from the secret of a key that is gone or has another secret now."""
    _signing_keys.forget(access_key)


def unknown_key(access_key: str) -> InvalidAccessKeyId:
    """What a key that does not exist, or may not be used, is answered with."""
    return InvalidAccessKeyId(AWSAccessKeyId=access_key)


def authenticate(
    *,
    method: str,
    raw_path: bytes,
    raw_query: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    secret_of: SecretOf,
    now: datetime,
    region: str,
) -> Identity | None:
    """Who asks; None for a request without any credentials, which the pipeline must refuse.

    `raw_path` and `raw_query` are as on the wire; header names are lower-case, values raw, Host as received, so
    that proxies which keep Host work (FIELD 8). Raises the S3Error that AWS answers for each flaw; there is
    never a secret in it.
    """
    signed = read_claim(
        method=method, raw_path=raw_path, raw_query=raw_query, headers=headers, now=now, region=region
    )
    if signed is None:
        return None
    access_key = signed.claim.scope.access_key
    secret = secret_of(access_key)
    if secret is None:
        raise unknown_key(access_key)
    return verify(signed, secret)


def read_claim(
    *,
    method: str,
    raw_path: bytes,
    raw_query: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    now: datetime,
    region: str,
) -> Signed | None:
    """The first half of `authenticate`, for a caller that must look the secret up in between: everything but the
    signature is checked, and nothing may be believed yet. None for a request without any credentials."""
    by_name = join_headers(headers)
    authorization = by_name.get(b"authorization")
    if authorization is None and not raw_query:
        return None
    pairs = split_query(raw_query)
    names = {name for name, _, _ in pairs}
    verifier = Verifier(now.timestamp(), region, _signing_keys)
    if authorization is not None:
        if b"X-Amz-Algorithm" in names or b"Signature" in names:
            refuse_two_mechanisms(authorization)
        claim = header_claim(authorization, by_name, verifier)
    elif b"X-Amz-Algorithm" in names:
        if b"Signature" in names:
            refuse_two_mechanisms(None)
        claim = query_claim(pairs, by_name, verifier)
        pairs = [pair for pair in pairs if pair[0] != SIGNATURE_PARAMETER]
    elif b"Signature" in names and b"AWSAccessKeyId" in names:
        refuse_other_versions()
    else:
        return None
    has_token = b"x-amz-security-token" in by_name or b"X-Amz-Security-Token" in names
    return Signed(RequestLine(method.encode(), raw_path, pairs), by_name, claim, verifier, has_token)


def verify(signed: Signed, secret: str) -> Identity:
    """The second half of `authenticate`: the caller, who signed with `secret`. Raises SignatureDoesNotMatch,
    InvalidToken."""
    identity = _verify(signed.line, signed.headers, signed.claim, secret, signed.verifier)
    if signed.has_token:
        raise InvalidToken  # Trivet issues no temporary credentials
    return identity


def _verify(
    line: RequestLine, headers: Mapping[bytes, bytes], claim: Claim, secret: str, verifier: Verifier
) -> Identity:
    """Raises SignatureDoesNotMatch."""
    if claim.known is not None and claim.known.secret == secret:
        key = claim.known.key
    else:
        key = derive_signing_key(secret, claim.scope.text)
        claim = claim._replace(known=None)
    timestamp = claim.timestamps[0]
    canonical = canonical_request(line, headers, claim.signed_names, claim.payload.line)
    to_sign = _string_to_sign(timestamp, claim, canonical)
    if not _is_signature(claim.signature, key, to_sign):
        signed = _find_signed(line, headers, claim, key)
        if signed is None:
            raise _mismatch(claim, to_sign, canonical)
        timestamp = signed
    if claim.known is None:
        verifier.keys.remember(claim.credential, verifier.region, SigningKey(claim.scope, secret, key))
    _, kind, digest = claim.payload
    return Identity(claim.scope.access_key, kind, digest, timestamp, claim.scope.text, claim.signature, key)


def _find_signed(line: RequestLine, headers: Mapping[bytes, bytes], claim: Claim, key: bytes) -> bytes | None:
    """The spelling of the time that was signed, if some other form of this same request was; else None."""
    for canonical in equivalent_requests(line, headers, claim.signed_names, claim.payload.line):
        for timestamp in claim.timestamps:
            if _is_signature(claim.signature, key, _string_to_sign(timestamp, claim, canonical)):
                return timestamp
    return None


def _string_to_sign(timestamp: bytes, claim: Claim, canonical: bytes) -> bytes:
    return b"\n".join((ALGORITHM, timestamp, claim.scope.text, sha256(canonical).hexdigest().encode()))


def _is_signature(signature: bytes, key: bytes, to_sign: bytes) -> bool:
    return hmac.compare_digest(hmac.digest(key, to_sign, "sha256").hex().encode(), signature)


def _mismatch(claim: Claim, to_sign: bytes, canonical: bytes) -> SignatureDoesNotMatch:
    """What AWS tells the client to compare with; nothing in it depends on the secret."""
    return SignatureDoesNotMatch(
        AWSAccessKeyId=claim.scope.access_key,
        StringToSign=to_sign.decode("utf-8", "replace"),
        SignatureProvided=claim.signature.decode("utf-8", "replace"),
        StringToSignBytes=to_sign.hex(" "),
        CanonicalRequest=canonical.decode("utf-8", "replace"),
        CanonicalRequestBytes=canonical.hex(" "),
    )
