"""Who holds which secret and may do what: the root key from the settings, all others from the catalog.

Each request proves its key fresh (S16): one that was disabled or deleted on another front is refused by the next
request. The root key needs no proof and no catalog: it works when the catalog holds no key, or none that unseals.
"""

from __future__ import annotations

import base64
import logging
import os
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from catalog import access_keys
from catalog.access_keys import AccessKey
from catalog.engine import Catalog
from s3front.auth import sigv4
from s3front.auth.roles import ADMIN
from s3front.auth.sealing import Sealer, Unsealable
from s3front.auth.sigv4 import Identity

log = logging.getLogger("trivet.s3front")

ACCESS_KEY_PATTERN = r"^[A-Za-z0-9._-]{3,128}$"
"""No slash and no comma: they separate the parts of a SigV4 credential. As compose.credentials has it for root."""
SECRET_KEY_PATTERN = r"^[!-~]{8,128}$"  # noqa: S105 (the form of a secret)
SECRET_LENGTH = 40

_OPENED_MAX = 10_000


class KeyRefused(Exception):
    """A new key can't be as it was asked for; `field` says what of it. Holds no secret."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class NewKey(NamedTuple):
    """A key that is not in the catalog yet."""

    access_key: str
    secret_key: str

    def __repr__(self) -> str:
        return f"NewKey({self.access_key!r})"  # never the secret


def new_key(
    access_key: str | None = None,
    secret_key: str | None = None,
    *,
    root_access_key: str | None,
    random: Callable[[int], bytes] = os.urandom,
) -> NewKey:
    """The key as given, what is not given made at random: 90 bits of name, 240 bits of secret. Raises KeyRefused."""
    if access_key is None:
        access_key = "TK" + base64.b32encode(random(15)).decode()[:18]
    elif not re.fullmatch(ACCESS_KEY_PATTERN, access_key):
        raise KeyRefused("access_key", "must have 3 to 128 letters, digits, dots, dashes or underscores")
    elif access_key == root_access_key:
        raise KeyRefused("access_key", "is that of the root key")
    if secret_key is None:
        secret_key = base64.urlsafe_b64encode(random(SECRET_LENGTH * 6 // 8)).decode()
    elif not re.fullmatch(SECRET_KEY_PATTERN, secret_key):
        raise KeyRefused("secret_key", "must have 8 to 128 printable ASCII characters without spaces")
    return NewKey(access_key, secret_key)


class Holder(NamedTuple):
    """What a key that may be used now stands for."""

    secret: str
    role: str

    def __repr__(self) -> str:
        return f"Holder({self.role})"  # never the secret


class Caller(NamedTuple):
    """Who sent a request, proved, and the role of their key at that moment."""

    identity: Identity
    role: str


class KeyRing:
    """The keys that are good now, for the pipeline and for the admin API."""

    def __init__(
        self, catalog: Catalog, sealer: Sealer, *, root_access_key: str, root_secret_key: str
    ) -> None:
        self._catalog = catalog
        self.root_access_key = root_access_key
        self._root = Holder(root_secret_key, ADMIN)
        self.sealer = sealer
        """For new keys."""
        self._opened: dict[str, tuple[AccessKey, Holder | None]] = {}

    async def authenticate(
        self,
        *,
        method: str,
        raw_path: bytes,
        raw_query: bytes,
        headers: Sequence[tuple[bytes, bytes]],
        now: datetime,
        region: str,
    ) -> Caller | None:
        """Who asks; None for a request without credentials. Arguments and S3Errors as of `sigv4.authenticate`; also
        raises CatalogErrors."""
        signed = sigv4.read_claim(
            method=method, raw_path=raw_path, raw_query=raw_query, headers=headers, now=now, region=region
        )
        if signed is None:
            return None
        access_key = signed.claim.scope.access_key
        holder = self._root if access_key == self.root_access_key else await self.holder(access_key)
        if holder is None:
            raise sigv4.unknown_key(access_key)
        return Caller(sigv4.verify(signed, holder.secret), holder.role)

    async def holder(self, access_key: str) -> Holder | None:
        """What the key stands for as of now; None when there is no such key, or it is disabled, or can't be unsealed.
        Raises CatalogErrors."""
        if access_key == self.root_access_key:
            return self._root
        row = await access_keys.find(self._catalog, access_key)
        known = self._opened.get(access_key)
        if known is not None and known[0] is row:
            return known[1]
        return self._open(access_key, row)

    def _open(self, access_key: str, row: AccessKey | None) -> Holder | None:
        """The holder by a row that was read anew. A sealed text is unsealed, and found to be bad, once only."""
        known = self._opened.pop(access_key, None)
        if row is None or not row.enabled:
            holder = None
        elif known is not None and known[0].enabled and known[0].sealed_secret == row.sealed_secret:
            holder = known[1] and Holder(known[1].secret, row.role)
        else:
            holder = self._unsealed(row)
        if known is not None and (holder is None or holder.secret != (known[1] and known[1].secret)):
            # Nothing that was worked out from a secret outlives it.
            sigv4.forget_signing_keys(access_key)
        if row is not None:
            if len(self._opened) >= _OPENED_MAX:
                self._opened.clear()
            self._opened[access_key] = (row, holder)
        return holder

    def _unsealed(self, row: AccessKey) -> Holder | None:
        try:
            return Holder(self.sealer.unseal(row.access_key, row.sealed_secret), row.role)
        except Unsealable as fault:
            log.error(  # noqa: TRY400 - what was raised where says nothing more
                "access key %s is refused: %s; if the catalog was restored, bring back the file cluster.secret "
                "that belongs to it, or delete the key and create another",
                row.access_key,
                fault,
            )
            return None
