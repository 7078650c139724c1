"""Access keys beside the root key, which is no row. Reads of one key are cached and proved fresh at each use (S16, P4):
a key that another process disables or deletes is refused by the next request.

The catalog keeps secrets sealed (see s3front.auth.sealing) and does not know the key they are sealed with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from msgspec import Struct

from catalog import schema, work
from catalog.errors import AccessKeyExists, NoSuchAccessKey, TooManyAccessKeys
from catalog.statement import Reader, Row, Statement, page, parameter
from catalog.transaction import Transaction

if TYPE_CHECKING:
    from catalog.engine import Catalog

KEYS_MAX = 10_000

_keys = schema.access_keys
_COLUMNS = (
    _keys.c.access_key,
    _keys.c.sealed_secret,
    _keys.c.role,
    _keys.c.enabled,
    _keys.c.description,
    _keys.c.created_ms,
)
_BY_NAME = Statement(sa.select(*_COLUMNS).where(_keys.c.access_key == parameter("p_key")), "p_key")
_LIST = Statement(
    page(sa.select(*_COLUMNS).where(_keys.c.access_key > parameter("p_after")).order_by(_keys.c.access_key)),
    "p_after",
    "limit",
)
_COUNT = Statement(sa.select(sa.func.count()).select_from(_keys))
_INSERT = Statement(
    sa.insert(_keys), "access_key", "sealed_secret", "role", "enabled", "description", "created_ms"
)
_UPDATE = Statement(
    sa.update(_keys)
    .values(
        role=sa.func.coalesce(parameter("n_role"), _keys.c.role),
        enabled=sa.func.coalesce(parameter("n_enabled"), _keys.c.enabled),
        description=sa.func.coalesce(parameter("n_description"), _keys.c.description),
    )
    .where(_keys.c.access_key == parameter("p_key")),
    "n_role",
    "n_enabled",
    "n_description",
    "p_key",
)
_DELETE = Statement(sa.delete(_keys).where(_keys.c.access_key == parameter("p_key")), "p_key")


class AccessKey(Struct, frozen=True):
    """One key. What `role` allows is decided in s3front.auth.roles; one that is not known there allows nothing."""

    access_key: str
    sealed_secret: bytes
    role: str
    enabled: bool
    description: str
    created_ms: int

    def __repr__(self) -> str:
        return f"AccessKey({self.access_key!r}, {self.role}, enabled={self.enabled})"  # this gets logged


def _access_key(row: Row) -> AccessKey:
    return AccessKey(row[0], row[1], row[2], bool(row[3]), row[4], row[5])


async def find(catalog: Catalog, access_key: str) -> AccessKey | None:
    """The key as of now, or None. From memory unless some process has changed configuration."""
    cache = await catalog.configuration()
    known = cache.access_keys.get(access_key)
    if known is None:
        rows = await catalog.point(_BY_NAME, (access_key,))
        if not rows:
            return None  # not kept: strangers could fill the memory with names that they make up
        known = _access_key(rows[0])
        cache.remember_access_key(known)
    return known


def get(reader: Reader, access_key: str) -> AccessKey:
    """Raises NoSuchAccessKey."""
    row = reader.row(_BY_NAME, (access_key,))
    if row is None:
        raise NoSuchAccessKey(access_key)
    return _access_key(row)


def list_keys(reader: Reader, *, after: str = "", limit: int = KEYS_MAX) -> list[AccessKey]:
    """Keys by name from `after` on (exclusive)."""
    return [_access_key(row) for row in reader.rows(_LIST, (after, limit))]


def create(
    tx: Transaction, *, access_key: str, sealed_secret: bytes, role: str, description: str = ""
) -> AccessKey:
    """Add a key, enabled; the caller has checked its form and that it is not the root key's. Raises AccessKeyExists,
    TooManyAccessKeys."""
    if tx.row(_BY_NAME, (access_key,)) is not None:
        raise AccessKeyExists(access_key)
    count = tx.row(_COUNT)
    assert count is not None
    if count[0] >= KEYS_MAX:
        raise TooManyAccessKeys(KEYS_MAX)
    tx.execute(_INSERT, (access_key, sealed_secret, role, 1, description, tx.now_ms))
    work.record_event(tx, "key-created", detail=f"{access_key}, {role}")
    tx.touch_configuration()
    return AccessKey(access_key, sealed_secret, role, True, description, tx.now_ms)


def update(
    tx: Transaction,
    access_key: str,
    *,
    enabled: bool | None = None,
    role: str | None = None,
    description: str | None = None,
) -> AccessKey:
    """Change what is given, keep the rest; the key as it is then. Raises NoSuchAccessKey."""
    before = get(tx, access_key)
    tx.execute(_UPDATE, (role, None if enabled is None else int(enabled), description, access_key))
    after = get(tx, access_key)
    if after.enabled != before.enabled:
        work.record_event(tx, "key-enabled" if after.enabled else "key-disabled", detail=access_key)
    if after.role != before.role:
        work.record_event(tx, "key-role-changed", detail=f"{access_key}: {before.role} to {after.role}")
    tx.touch_configuration()
    return after


def delete(tx: Transaction, access_key: str) -> None:
    """Forget a key and its secret for good. Raises NoSuchAccessKey."""
    if tx.execute(_DELETE, (access_key,)) != 1:
        raise NoSuchAccessKey(access_key)
    work.record_event(tx, "key-deleted", detail=access_key)
    tx.touch_configuration()
