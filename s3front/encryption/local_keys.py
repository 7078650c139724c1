"""The key service of a store that has no other: a ring of keys in its own catalog.

Each use proves its key fresh (S16): one that was rotated or disabled on another front is so at the next request.
"""

from __future__ import annotations

import logging
import re

from catalog import encryption_keys
from catalog.encryption_keys import EncryptionKey, KeyVersion
from catalog.engine import Catalog
from catalog.errors import EncryptionKeyExists
from s3front.encryption import data_keys
from s3front.encryption.data_keys import WrongKey
from s3front.encryption.key_service import (
    DEFAULT_KMS_KEY,
    SSE_S3_KEY,
    DataKey,
    KeyDisabled,
    KeyUnusable,
    UnknownKey,
    WrappedKey,
)
from s3front.encryption.ring_sealing import RingSealer, Unsealable

log = logging.getLogger("trivet.s3front")

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}"
MADE_AT_FIRST_USE = (SSE_S3_KEY, DEFAULT_KMS_KEY)

_ARN = re.compile(r"arn:[a-z0-9-]+:kms:[a-z0-9-]*:[0-9]*:(?:key/|(?=alias/))(.+)")
_OPENED_MAX = 1000


def name_of(key_id: str) -> str:
    """The name of the ring's key that a client means by a name, ``alias/NAME`` or the ARN of either."""
    found = _ARN.fullmatch(key_id)
    return (found.group(1) if found else key_id).removeprefix("alias/")


class LocalKeys:
    """A KeyService over the catalog's key ring."""

    def __init__(self, catalog: Catalog, sealer: RingSealer) -> None:
        self._catalog = catalog
        self._sealer = sealer
        self._opened: dict[
            bytes, bytes
        ] = {}  # by sealed bytes, which are other ones for each version of each key

    def __repr__(self) -> str:
        return "LocalKeys(…)"  # never the keys that are open

    async def new_data_key(self, key_id: str, context: bytes) -> DataKey:
        plain = data_keys.new_data_key()
        return DataKey(plain, *await self.wrap_data_key(key_id, context, plain))

    async def wrap_data_key(self, key_id: str, context: bytes, plain: bytes) -> WrappedKey:
        key = await self._usable(key_id, make=True)
        sealed = data_keys.wrap(self._open(key, key.current), plain, context)
        return WrappedKey(sealed, key.current.number)

    async def open_data_key(self, key_id: str, version: int, context: bytes, sealed: bytes) -> bytes:
        key = await self._usable(key_id, make=False)
        found = key.version(version)
        if found is None:
            raise KeyUnusable(f"encryption key {key.name} has no version {version}")
        try:
            return data_keys.unwrap(self._open(key, found), sealed, context)
        except WrongKey:
            raise KeyUnusable(f"a data key does not open under encryption key {key.name}") from None

    async def _usable(self, key_id: str, *, make: bool) -> EncryptionKey:
        """Raises UnknownKey and KeyDisabled. `make`: those that need not be there before are made."""
        name = name_of(key_id)
        key = await encryption_keys.find(self._catalog, name)
        if key is None and make and name in MADE_AT_FIRST_USE:
            key = await self._made(name)
        if key is None:
            raise UnknownKey(name)
        if not key.enabled:
            raise KeyDisabled(name)
        return key

    async def _made(self, name: str) -> EncryptionKey | None:
        sealed = self._sealer.new_key(name, 1)
        try:
            return await self._catalog.write(lambda tx: encryption_keys.create(tx, name, sealed))
        except EncryptionKeyExists:  # another front was first
            return await encryption_keys.find(self._catalog, name)

    def _open(self, key: EncryptionKey, version: KeyVersion) -> bytes:
        known = self._opened.get(version.sealed_key)
        if known is not None:
            return known
        try:
            opened = self._sealer.unseal(key.name, version.number, version.sealed_key)
        except Unsealable as fault:
            log.error(  # noqa: TRY400 - what was raised where says nothing more
                "encryption key %s, version %d, can't be used: %s; if the catalog was restored, bring back the file "
                "cluster.secret that belongs to it: without it nothing that was encrypted under the key can be read",
                key.name,
                version.number,
                fault,
            )
            raise KeyUnusable(f"encryption key {key.name} does not open") from None
        if len(self._opened) >= _OPENED_MAX:
            self._opened.clear()
        self._opened[version.sealed_key] = opened
        return opened
