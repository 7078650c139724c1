"""SSE-C: the customer's key in three headers, and what AWS says of those that can't be
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/ServerSideEncryptionCustomerKeys.html).

Over plain HTTP whoever listens learns the key, as they learn the bytes; AWS refuses that, a store without TLS can't.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

from codec.sealing import DATA_KEY_BYTES
from s3front.errors import InvalidArgument, InvalidEncryptionAlgorithmError

PREFIX: Final = "x-amz-server-side-encryption-customer-"
SOURCE_PREFIX: Final = "x-amz-copy-source-server-side-encryption-customer-"
ALGORITHM: Final = "AES256"

_REQUESTS: Final = "Requests specifying Server Side Encryption with Customer provided keys must provide "


def customer_key(headers: Mapping[str, str], prefix: str = PREFIX) -> bytes | None:
    """The key in the headers of that prefix; None where there are none. Raises InvalidArgument,
    InvalidEncryptionAlgorithmError. The key is in no error's text or elements: they are logged."""
    algorithm = headers.get(prefix + "algorithm")
    encoded = headers.get(prefix + "key")
    digest = headers.get(prefix + "key-md5")
    if algorithm is None and encoded is None and digest is None:
        return None
    if algorithm is None:
        raise InvalidArgument(
            _REQUESTS + "a valid encryption algorithm.",
            ArgumentName=prefix + "algorithm",
            ArgumentValue="null",
        )
    if algorithm != ALGORITHM:
        raise InvalidEncryptionAlgorithmError(ArgumentName=prefix + "algorithm", ArgumentValue=algorithm)
    if encoded is None:
        raise InvalidArgument(_REQUESTS + "an appropriate secret key.", ArgumentName=prefix + "key")
    key = _decoded(encoded)
    if key is None or len(key) != DATA_KEY_BYTES:
        raise InvalidArgument(
            "The secret key was invalid for the specified algorithm.", ArgumentName=prefix + "key"
        )
    if digest is None:
        raise InvalidArgument(
            _REQUESTS + "the client calculated MD5 of the secret key.", ArgumentName=prefix + "key-MD5"
        )
    computed = hashlib.md5(key, usedforsecurity=False).digest()
    if not hmac.compare_digest(_decoded(digest) or b"", computed):
        raise InvalidArgument(
            "The calculated MD5 hash of the key did not match the hash that was provided.",
            ArgumentName=prefix + "key-MD5",
        )
    return key


def _decoded(encoded: str) -> bytes | None:
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
