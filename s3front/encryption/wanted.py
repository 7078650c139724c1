"""What a request, or its bucket's default, asks for of the encryption of a new object: headers only, no keys yet."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from catalog.model import Bucket
from s3front.encryption.customer_keys import customer_key
from s3front.encryption.data_keys import SSE_C, SSE_KMS, SSE_S3
from s3front.encryption.key_service import DEFAULT_KMS_KEY, SSE_S3_KEY
from s3front.errors import AccessDenied, InvalidArgument
from s3front.request import Request

SSE_HEADER: Final = "x-amz-server-side-encryption"
KEY_ID_HEADER: Final = "x-amz-server-side-encryption-aws-kms-key-id"
CONTEXT_HEADER: Final = "x-amz-server-side-encryption-context"
BUCKET_KEY_HEADER: Final = "x-amz-server-side-encryption-bucket-key-enabled"

KEY_ID_CHARS_MAX: Final = 2048
CONTEXT_CHARS_MAX: Final = 8192


@dataclass(frozen=True, slots=True)
class Wanted:
    """`algorithm` and the rest as catalog.model.Encryption has them; `customer` is the key of SSE-C."""

    algorithm: str
    key_id: str = ""
    context: str = ""
    bucket_key: bool = False
    customer: bytes | None = field(default=None, repr=False)

    @property
    def belongs_to(self) -> bytes:
        """What the data key is bound to beside its wrapping key."""
        return belongs_to(self.algorithm, self.context)


def belongs_to(algorithm: str, context: str) -> bytes:
    """A data key that was wrapped for one algorithm and context opens for no other."""
    return f"{algorithm}\n{context}".encode()


def wanted_encryption(request: Request, bucket: Bucket) -> Wanted | None:
    """How a new object of the bucket is to be encrypted, None: not at all. Raises InvalidArgument,
    InvalidEncryptionAlgorithmError, and AccessDenied for a kind that the bucket blocks."""
    headers = request.headers
    algorithm = headers.get(SSE_HEADER)
    customer = customer_key(headers)
    default = bucket.actions.encryption
    if customer is not None:
        if algorithm is not None or KEY_ID_HEADER in headers or CONTEXT_HEADER in headers:
            raise InvalidArgument(
                "Server Side Encryption with Customer provided key is incompatible with the encryption method "
                "specified",
                ArgumentName=SSE_HEADER,
                ArgumentValue=algorithm,
            )
        if default is not None and SSE_C in default.blocked:
            raise AccessDenied(
                "Server Side Encryption with Customer provided keys is blocked in this bucket."
            )
        return Wanted(SSE_C, customer=customer)
    if algorithm is None and default is not None:
        return _by_default(headers, default.algorithm, default.key_id, bucket_key=default.bucket_key)
    return _by_headers(headers, algorithm)


def _by_default(
    headers: Mapping[str, str], algorithm: str, key_id: str | None, *, bucket_key: bool
) -> Wanted:
    if algorithm not in SSE_KMS:
        _refuse_kms_headers(headers, algorithm)
        return Wanted(SSE_S3, SSE_S3_KEY)
    _refuse_kms_headers(headers, None)
    return Wanted(algorithm, key_id or DEFAULT_KMS_KEY, "", _bucket_key(headers, default=bucket_key))


def _by_headers(headers: Mapping[str, str], algorithm: str | None) -> Wanted | None:
    if algorithm in SSE_KMS:
        key_id = headers.get(KEY_ID_HEADER) or DEFAULT_KMS_KEY
        if not is_key_id(key_id):
            raise InvalidArgument("Invalid KMS key id", ArgumentName=KEY_ID_HEADER)
        return Wanted(algorithm, key_id, _context(headers), _bucket_key(headers, default=False))
    if algorithm not in (None, SSE_S3):
        raise InvalidArgument(
            "The encryption method specified is not supported",
            ArgumentName=SSE_HEADER,
            ArgumentValue=algorithm,
        )
    _refuse_kms_headers(headers, algorithm)
    return None if algorithm is None else Wanted(SSE_S3, SSE_S3_KEY)


def is_key_id(text: str) -> bool:
    """Whether it can be the name of a key, so that a header can show it."""
    return 1 <= len(text) <= KEY_ID_CHARS_MAX and text.isascii() and text.isprintable()


def _refuse_kms_headers(headers: Mapping[str, str], algorithm: str | None) -> None:
    for name in (KEY_ID_HEADER, CONTEXT_HEADER):
        if name in headers:
            raise InvalidArgument(
                "Server Side Encryption with AWS KMS managed key requires HTTP header "
                "x-amz-server-side-encryption : aws:kms",
                ArgumentName=SSE_HEADER,
                ArgumentValue=algorithm or "null",
            )


def _bucket_key(headers: Mapping[str, str], *, default: bool) -> bool:
    value = headers.get(BUCKET_KEY_HEADER)
    if value is None:
        return default
    if value.lower() not in ("true", "false"):
        raise InvalidArgument(
            "The bucket key header must be true or false", ArgumentName=BUCKET_KEY_HEADER, ArgumentValue=value
        )
    return value.lower() == "true"


def _context(headers: Mapping[str, str]) -> str:
    """As it was sent: it is handed back like that."""
    value = headers.get(CONTEXT_HEADER, "")
    if value and not _is_context(value):
        raise InvalidArgument(
            f"The header '{CONTEXT_HEADER}' shall be Base64-encoded UTF-8 string holding JSON which represents a "
            "string-string map",
            ArgumentName=CONTEXT_HEADER,
        )
    return value


def _is_context(value: str) -> bool:
    if len(value) > CONTEXT_CHARS_MAX:
        return False
    try:
        msgspec.json.decode(base64.b64decode(value, validate=True), type=dict[str, str])
    except (binascii.Error, ValueError, msgspec.DecodeError):
        return False
    return True
