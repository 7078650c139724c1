"""Who may use the admin API: the root key and keys of the role admin, proved by the same signatures as for S3."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping

from s3front.admin.problem import Problem
from s3front.auth.payload import Payload
from s3front.auth.roles import may_administrate
from s3front.auth.sigv4 import Identity
from s3front.errors import S3Error
from s3front.services import FrontServices

_CHALLENGE = {"www-authenticate": 'AWS4-HMAC-SHA256 realm="trivet admin"'}


async def proved(
    services: FrontServices,
    *,
    method: str,
    raw_path: bytes,
    raw_query: bytes,
    headers: list[tuple[bytes, bytes]],
) -> Identity:
    """The caller, proved by a key that is good now and of the role admin. Raises Problem: 401 for who is not proved,
    403 for a key of another role, 400 for a signature that can't be read; CatalogErrors."""
    try:
        caller = await services.keys.authenticate(
            method=method,
            raw_path=raw_path,
            raw_query=raw_query,
            headers=headers,
            now=services.utc_now(),
            region=services.settings.region,
        )
    except S3Error as error:
        raise _problem(error) from None
    if caller is None:
        raise Problem(
            401,
            "signature-missing",
            "The admin API answers signed requests only",
            "sign the request with Signature Version 4 (service s3) and an access key of the role admin",
            headers=_CHALLENGE,
        )
    if not may_administrate(caller.role):
        raise Problem(
            403,
            "not-an-admin",
            "The key may not use the admin API",
            f"its role is {caller.role}; the admin API needs the root key or a key of the role admin",
        )
    return caller.identity


def check_payload_kind(identity: Identity, method: str, headers: Mapping[str, str]) -> None:
    """What changes something is signed by header, with its body: whoever sees a presigned URL must not be able to
    change the store with it. Raises Problem (400)."""
    if method == "GET":
        if identity.payload.is_chunked:
            raise _payload_problem("a request without a body has no chunks")
        return
    if "authorization" not in headers:
        raise Problem(
            401,
            "presigned",
            "Presigned URLs can only read",
            "sign this request in its Authorization header",
            headers=_CHALLENGE,
        )
    if identity.payload is not Payload.SHA256:
        raise _payload_problem("x-amz-content-sha256 must be the SHA-256 of the body, in hexadecimal digits")


def check_payload(identity: Identity, body: bytes) -> None:
    """Raises Problem (400) unless the body is the one that was signed."""
    if identity.payload_sha256 is None:
        return
    if not hmac.compare_digest(hashlib.sha256(body).hexdigest(), identity.payload_sha256):
        raise _payload_problem("x-amz-content-sha256 is not that of the body which arrived")


def _payload_problem(detail: str) -> Problem:
    return Problem(400, "payload-not-signed", "The signature does not cover the body", detail)


def _problem(error: S3Error) -> Problem:
    """What S3 calls forbidden is 401 here as long as it is not known who asks."""
    status = 401 if error.status == 403 else error.status
    return Problem(
        status,
        re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", error.code).lower(),
        "The signature is not valid",
        error.message,
        headers=_CHALLENGE if status == 401 else None,
    )
