"""The local key ring: keys that the data keys of objects are encrypted under, by name, each in versions.

The highest version encrypts, all decrypt. The catalog keeps keys sealed (see s3front.encryption.ring_sealing) and does
not know what they are sealed with. A key is never deleted: objects would be lost with it. Reads of one key are cached
and proved fresh at each use (S16, P4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from msgspec import Struct

from catalog import schema, work
from catalog.errors import EncryptionKeyExists, NoSuchEncryptionKey, TooManyEncryptionKeys
from catalog.statement import Reader, Row, Statement, parameter
from catalog.transaction import Transaction

if TYPE_CHECKING:
    from catalog.engine import Catalog

NAMES_MAX = 1000
VERSIONS_MAX = 1000

_keys = schema.encryption_keys
_COLUMNS = (_keys.c.name, _keys.c.version, _keys.c.sealed_key, _keys.c.enabled, _keys.c.created_ms)
_BY_NAME = Statement(
    sa.select(*_COLUMNS).where(_keys.c.name == parameter("p_name")).order_by(_keys.c.version), "p_name"
)
_LIST = Statement(sa.select(*_COLUMNS).order_by(_keys.c.name, _keys.c.version))
_COUNT = Statement(sa.select(sa.func.count(sa.distinct(_keys.c.name))))
_INSERT = Statement(sa.insert(_keys), "name", "version", "sealed_key", "enabled", "created_ms")
_ENABLE = Statement(
    sa.update(_keys).values(enabled=parameter("n_enabled")).where(_keys.c.name == parameter("p_name")),
    "n_enabled",
    "p_name",
)


class KeyVersion(Struct, frozen=True):
    """One version of a key; versions count from 1."""

    number: int
    sealed_key: bytes
    created_ms: int

    def __repr__(self) -> str:
        return f"KeyVersion({self.number})"  # this gets logged


class EncryptionKey(Struct, frozen=True):
    """A key with all its versions, ascending. While it is not enabled it neither encrypts nor decrypts."""

    name: str
    enabled: bool
    versions: tuple[KeyVersion, ...]

    @property
    def current(self) -> KeyVersion:
        """What encrypts."""
        return self.versions[-1]

    def version(self, number: int) -> KeyVersion | None:
        """That version; None when there is none."""
        return self.versions[number - 1] if 1 <= number <= len(self.versions) else None


def _key(rows: list[Row]) -> EncryptionKey:
    versions = tuple(KeyVersion(row[1], row[2], row[4]) for row in rows)
    assert [version.number for version in versions] == list(range(1, len(rows) + 1)), "versions have no gap"
    return EncryptionKey(rows[0][0], bool(rows[0][3]), versions)


async def find(catalog: Catalog, name: str) -> EncryptionKey | None:
    """The key as of now, or None. From memory unless some process has changed configuration."""
    cache = await catalog.configuration()
    known = cache.encryption_keys.get(name)
    if known is None:
        rows = await catalog.point(_BY_NAME, (name,))
        if not rows:
            return None  # not kept: strangers could fill the memory with names that they make up
        known = cache.encryption_keys[name] = _key(rows)
    return known


def list_keys(reader: Reader) -> list[EncryptionKey]:
    """All keys by name."""
    found: dict[str, list[Row]] = {}
    for row in reader.rows(_LIST):
        found.setdefault(row[0], []).append(row)
    return [_key(rows) for rows in found.values()]


def get(reader: Reader, name: str) -> EncryptionKey:
    """Raises NoSuchEncryptionKey."""
    rows = reader.rows(_BY_NAME, (name,))
    if not rows:
        raise NoSuchEncryptionKey(name)
    return _key(rows)


def create(tx: Transaction, name: str, sealed_key: bytes) -> EncryptionKey:
    """Add a key with one version, enabled; `sealed_key` is sealed for this name and version 1. Raises
    EncryptionKeyExists, TooManyEncryptionKeys."""
    if tx.row(_BY_NAME, (name,)) is not None:
        raise EncryptionKeyExists(name)
    count = tx.row(_COUNT)
    assert count is not None
    if count[0] >= NAMES_MAX:
        raise TooManyEncryptionKeys(NAMES_MAX)
    return _add_version(tx, name, 1, sealed_key, enabled=True, event="encryption-key-created")


def rotate(tx: Transaction, before: EncryptionKey, sealed_key: bytes) -> EncryptionKey:
    """Add a version, which encrypts from now on; `sealed_key` is sealed for the version after those of `before`. Raises
    NoSuchEncryptionKey, EncryptionKeyExists when somebody else was first, TooManyEncryptionKeys."""
    now = get(tx, before.name)
    if len(now.versions) != len(before.versions):
        raise EncryptionKeyExists(before.name)
    if len(now.versions) >= VERSIONS_MAX:
        raise TooManyEncryptionKeys(VERSIONS_MAX)
    number = now.current.number + 1
    return _add_version(tx, now.name, number, sealed_key, enabled=now.enabled, event="encryption-key-rotated")


def _add_version(
    tx: Transaction, name: str, number: int, sealed_key: bytes, *, enabled: bool, event: str
) -> EncryptionKey:
    tx.execute(_INSERT, (name, number, sealed_key, int(enabled), tx.now_ms))
    work.record_event(tx, event, detail=name if number == 1 else f"{name}, version {number}")
    tx.touch_configuration()
    return get(tx, name)


def set_enabled(tx: Transaction, name: str, *, enabled: bool) -> EncryptionKey:
    """Take a key out of use with all its versions, or into use again. Raises NoSuchEncryptionKey."""
    before = get(tx, name)
    if before.enabled != enabled:
        tx.execute(_ENABLE, (int(enabled), name))
        event = "encryption-key-enabled" if enabled else "encryption-key-disabled"
        work.record_event(tx, event, detail=name)
        tx.touch_configuration()
    return get(tx, name)
