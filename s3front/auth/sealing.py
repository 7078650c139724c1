"""How the secrets of access keys lie in the catalog: encrypted under a key that is not in the catalog.

A copy of the catalog (a backup, a disk that was thrown away) does not give the secrets away without the cluster secret,
and a sealed secret is good only for the access key that it was sealed for. The catalog has to be able to give the
secret back, because SigV4 needs it in the clear; a hash would not do.

A sealed secret::

    byte  0         version: 1
    bytes 1 to 12   nonce, random
    bytes 13 to …   the secret in ASCII, encrypted by AES-256-GCM with the access key as associated data; as long as
                    the secret
    last 16 bytes   GCM's tag

The AES key is HKDF-SHA256 (RFC 5869) of the cluster secret: no salt, info ``trivet access key secret v1``, 32 bytes.
With random nonces one cluster secret may seal 2**32 secrets; the catalog takes 10,000 keys at a time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VERSION = b"\x01"
NONCE_BYTES = 12
_INFO = b"trivet access key secret v1"


class Unsealable(Exception):
    """Not sealed for this access key under this cluster secret, or not by this version. Holds no secret."""


class Sealer:
    """Seals and unseals under one cluster secret."""

    def __init__(self, cluster_secret: bytes, random: Callable[[int], bytes] = os.urandom) -> None:
        self._cluster_secret = cluster_secret
        self._random = random

    def __repr__(self) -> str:
        return "Sealer(…)"  # never the cluster secret

    def seal(self, access_key: str, secret: str) -> bytes:
        """The secret as the catalog may keep it; another text at each call."""
        nonce = self._random(NONCE_BYTES)
        return VERSION + nonce + self._cipher.encrypt(nonce, secret.encode("ascii"), access_key.encode())

    def unseal(self, access_key: str, sealed: bytes) -> str:
        """The secret. Raises Unsealable."""
        from cryptography.exceptions import InvalidTag

        if sealed[:1] != VERSION:
            raise Unsealable(
                f"sealed in a format (version {sealed[:1].hex() or 'none'}) that is not known here"
            )
        nonce, text = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, text, access_key.encode()).decode("ascii")
        except (InvalidTag, ValueError):
            raise Unsealable("sealed under another cluster secret, for another key, or damaged") from None

    @cached_property
    def _cipher(self) -> AESGCM:
        # Late: the library takes 9 MiB and 20 ms, and a store without access keys needs none of it.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        return AESGCM(HKDF(SHA256(), 32, None, _INFO).derive(self._cluster_secret))
