"""Data keys: each object has its own, kept with it encrypted under another key (a customer's, or one of a key service).

A wrapped data key::

    byte  0         version: 1
    bytes 1 to 16   salt, random
    bytes 17 to 48  the data key, encrypted by AES-256-GCM with what it belongs to as associated data
    bytes 49 to 64  GCM's tag

The AES key is HKDF-SHA256 (RFC 5869) of the wrapping key with the salt and the info ``trivet data key 1``, 32 bytes;
the nonce is zero, because each such key encrypts once. So one wrapping key may wrap far more than the 2**32 data keys
that random nonces of 96 bits would allow it.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from catalog.model import Encryption
from codec.sealing import DATA_KEY_BYTES, SEAL_BYTES, Sealer

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SSE_C: Final = "SSE-C"
SSE_S3: Final = "AES256"
SSE_KMS: Final = ("aws:kms", "aws:kms:dsse")

VERSION: Final = b"\x01"
SALT_BYTES: Final = 16
_NONCE: Final = bytes(12)
_INFO: Final = b"trivet data key 1"


class WrongKey(Exception):
    """Not wrapped under this key, or for something else, or damaged. Holds no key."""


def new_data_key(random: Callable[[int], bytes] = os.urandom) -> bytes:
    """A key that was never used."""
    return random(DATA_KEY_BYTES)


def wrap(
    wrapping_key: bytes, data_key: bytes, belongs_to: bytes, random: Callable[[int], bytes] = os.urandom
) -> bytes:
    """The data key as it may be kept; other bytes at each call. Only the same `belongs_to` unwraps it."""
    salt = random(SALT_BYTES)
    return VERSION + salt + _cipher(wrapping_key, salt).encrypt(_NONCE, data_key, belongs_to)


def unwrap(wrapping_key: bytes, wrapped: bytes, belongs_to: bytes) -> bytes:
    """The data key. Raises WrongKey."""
    from cryptography.exceptions import InvalidTag

    salt, text = wrapped[1 : 1 + SALT_BYTES], wrapped[1 + SALT_BYTES :]
    if wrapped[:1] != VERSION or len(salt) != SALT_BYTES:
        raise WrongKey("the form of a wrapped data key is not known here")
    try:
        return _cipher(wrapping_key, salt).decrypt(_NONCE, text, belongs_to)
    except InvalidTag:
        raise WrongKey("a data key does not unwrap") from None


def _cipher(wrapping_key: bytes, salt: bytes) -> AESGCM:
    # Late: the library takes 9 MiB and 20 ms, and a store without encryption needs none of it.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return AESGCM(HKDF(SHA256(), DATA_KEY_BYTES, salt, _INFO).derive(wrapping_key))


@dataclass(frozen=True, slots=True)
class Sealing:
    """How new bytes of an object are to be encrypted: what is kept with the object, and the data key itself."""

    encryption: Encryption
    data_key: bytes = field(repr=False)

    def etag(self, shown: str) -> str:
        """The ETag of bytes whose ETag would be `shown` in the clear, their MD5 or that of a multipart object.

        With SSE-S3 it is that. Otherwise it must not tell whoever lacks the key what the bytes are ("Common Response
        Headers": with SSE-C and SSE-KMS an ETag is no MD5).
        """
        if self.encryption.algorithm == SSE_S3:
            return shown
        digest, dash, parts = shown.partition("-")
        return hmac.digest(self.data_key, digest.encode(), "sha256")[:16].hex() + dash + parts

    def sealer(self, plain_bytes: int, random: Callable[[int], bytes] = os.urandom) -> tuple[bytes, Sealer]:
        """A fresh seal and what seals one blob with it."""
        seal = random(SEAL_BYTES)
        return seal, Sealer(self.data_key, seal, plain_bytes)
