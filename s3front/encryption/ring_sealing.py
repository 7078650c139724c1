"""How the keys of the key ring lie in the catalog: encrypted under a key that is not in the catalog.

A copy of the catalog does not give the keys away without the cluster secret; without the cluster secret nobody reads
what was encrypted under them. A sealed key::

    byte  0         version: 1
    bytes 1 to 12   nonce, random
    bytes 13 to 44  the key, encrypted by AES-256-GCM with its name, ``/`` and its version as associated data
    bytes 45 to 60  GCM's tag

The AES key is HKDF-SHA256 (RFC 5869) of the cluster secret: no salt, info ``trivet encryption key v1``, 32 bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from codec.sealing import DATA_KEY_BYTES

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VERSION = b"\x01"
NONCE_BYTES = 12
_INFO = b"trivet encryption key v1"


class Unsealable(Exception):
    """Not sealed for this name and version under this cluster secret, or damaged. Holds no key."""


class RingSealer:
    """Seals and unseals keys of the ring under one cluster secret."""

    def __init__(self, cluster_secret: bytes, random: Callable[[int], bytes] = os.urandom) -> None:
        self._cluster_secret = cluster_secret
        self._random = random

    def __repr__(self) -> str:
        return "RingSealer(…)"  # never the cluster secret

    def new_key(self, name: str, version: int) -> bytes:
        """A new key, sealed: nobody has seen it."""
        return self.seal(name, version, self._random(DATA_KEY_BYTES))

    def seal(self, name: str, version: int, key: bytes) -> bytes:
        """The key as the catalog may keep it."""
        nonce = self._random(NONCE_BYTES)
        return VERSION + nonce + self._cipher.encrypt(nonce, key, _belongs_to(name, version))

    def unseal(self, name: str, version: int, sealed: bytes) -> bytes:
        """The key. Raises Unsealable."""
        from cryptography.exceptions import InvalidTag

        if sealed[:1] != VERSION:
            raise Unsealable(
                f"sealed in a form (version {sealed[:1].hex() or 'none'}) that is not known here"
            )
        nonce, text = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, text, _belongs_to(name, version))
        except (InvalidTag, ValueError):
            raise Unsealable("sealed under another cluster secret, for another key, or damaged") from None

    @cached_property
    def _cipher(self) -> AESGCM:
        # Late: the library takes 9 MiB and 20 ms, and a store without encryption needs none of it.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        return AESGCM(HKDF(SHA256(), DATA_KEY_BYTES, None, _INFO).derive(self._cluster_secret))


def _belongs_to(name: str, version: int) -> bytes:
    return f"{name}/{version}".encode()
