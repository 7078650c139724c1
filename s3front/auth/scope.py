"""Credential scopes, signing keys and request times of Signature Version 4 (sans-I/O)."""

from __future__ import annotations

import hmac
from calendar import timegm
from time import gmtime
from typing import NamedTuple

SERVICE = b"s3"
TERMINAL = b"aws4_request"

CACHED_KEYS_MAX = 4096
CACHED_DAYS_MAX = 64


class ScopeFault(Exception):
    """What AWS says is wrong with a credential; `region` is the right one when the region was wrong."""

    def __init__(self, message: str, region: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.region = region


class Scope(NamedTuple):
    """A credential taken apart: who, and what the signature is good for."""

    access_key: str
    date: bytes
    """Eight digits."""
    text: bytes
    """``20130524/us-east-1/s3/aws4_request``"""


def parse_credential(credential: bytes, region: str) -> Scope:
    """Take ``KEY/DATE/REGION/s3/aws4_request`` apart.

    Raises ScopeFault, its faults in the order in which AWS finds them.
    """
    parts = credential.split(b"/")
    if len(parts) != 5:
        raise ScopeFault(
            'the Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".'
        )
    access_key, date, given_region, service, terminal = (part.decode("utf-8", "replace") for part in parts)
    if len(parts[1]) != 8 or _midnight(parts[1]) is None:
        raise ScopeFault(
            f'incorrect date format "{date}". This date in the credential must be in the format "yyyyMMdd".'
        )
    if not given_region:
        raise ScopeFault("a non-empty region must be provided in the credential.")
    if given_region != region:
        raise ScopeFault(f"the region '{given_region}' is wrong; expecting '{region}'", region)
    if parts[3] != SERVICE:
        raise ScopeFault(f'incorrect service "{service}". This endpoint belongs to "s3".')
    if parts[4] != TERMINAL:
        raise ScopeFault(f'incorrect terminal "{terminal}". This endpoint uses "aws4_request".')
    return Scope(access_key, parts[1], b"/".join(parts[1:]))


def derive_signing_key(secret: str, scope_text: bytes) -> bytes:
    """The key that signs for one day, region and service ("Signature calculations", task 3)."""
    key = b"AWS4" + secret.encode()
    for part in scope_text.split(b"/"):
        key = hmac.digest(key, part, "sha256")
    return key


class SigningKey(NamedTuple):
    """The key that signs for one scope, and the secret it was made from."""

    scope: Scope
    secret: str
    key: bytes

    def __repr__(self) -> str:
        return f"SigningKey({self.scope!r})"  # never the secret


class SigningKeys:
    """Signing keys already worked out, by the credential as it was spelt; the oldest is dropped first (P8).

    Only keys that have verified a signature may be remembered, so that strangers can't drive out the others.
    """

    def __init__(self, entries_max: int = CACHED_KEYS_MAX) -> None:
        self._entries_max = entries_max
        self._entries: dict[tuple[bytes, str], SigningKey] = {}

    def get(self, credential: bytes, region: str) -> SigningKey | None:
        """The key used before with this credential; its secret may have changed since."""
        return self._entries.get((credential, region))

    def remember(self, credential: bytes, region: str, key: SigningKey) -> None:
        """Keep a key for the next request with this credential."""
        if len(self._entries) >= self._entries_max and (credential, region) not in self._entries:
            del self._entries[next(iter(self._entries))]
        self._entries[credential, region] = key

    def forget(self, access_key: str) -> None:
        """Drop all keys of one access key."""
        for spelling, key in list(self._entries.items()):
            if key.scope.access_key == access_key:
                del self._entries[spelling]

    def __len__(self) -> int:
        return len(self._entries)


_midnights: dict[bytes, int] = {}


def _midnight(date: bytes) -> int | None:
    """Seconds since 1970 at which the day ``YYYYMMDD`` begins; None when there is no such day."""
    known = _midnights.get(date)
    if known is not None:
        return known
    if len(date) != 8 or not date.isdigit():
        return None
    day = (int(date[:4]), int(date[4:6]), int(date[6:]))
    if day[0] < 1970 or not 1 <= day[1] <= 12:
        return None
    second = timegm((*day, 0, 0, 0))
    if gmtime(second)[:3] != day:
        return None
    if len(_midnights) >= CACHED_DAYS_MAX:
        _midnights.clear()
    _midnights[date] = second
    return second


def parse_amz_date(value: bytes) -> int | None:
    """Seconds since 1970 of ``YYYYMMDDTHHMMSSZ``; None when it is anything else."""
    if len(value) != 16 or value[8] != 0x54 or value[15] != 0x5A:
        return None
    clock = value[9:15]
    midnight = _midnight(value[:8])
    if midnight is None or not clock.isdigit():
        return None
    number = int(clock)
    hour, minute, second = number // 10_000, number // 100 % 100, number % 100
    if hour > 23 or minute > 59 or second > 59:
        return None
    return midnight + hour * 3600 + minute * 60 + second
