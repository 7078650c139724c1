"""The walk over a bucket whose rules have changed, which puts the keys that they concern into the queue.

A bucket to walk over has a row in the queue itself, with an empty key; how far the walk has come is kept beside it, so
that it goes on after a restart. It costs O(keys below the rules' prefixes).
"""

from __future__ import annotations

import sqlalchemy as sa

from catalog import buckets, lifecycle, progress, schema
from catalog.bucket_model import BucketActions
from catalog.listing import successor
from catalog.statement import Statement, constant, parameter
from catalog.transaction import Transaction

WALK_KEY = b""
"""In the queue in place of a key, which is never empty."""


def _first_key(table: sa.Table) -> Statement:
    query = sa.select(table.c.key).where(
        table.c.bucket_id == parameter("p_bucket"), table.c.key >= parameter("p_from")
    )
    ordered = query.order_by(table.c.key).limit(constant("1")).offset(constant("0"))
    return Statement(ordered, "p_bucket", "p_from")


_FIRST_KEYS = tuple(_first_key(table) for table in (schema.objects, schema.versions, schema.uploads))

_FORGET = Statement(sa.delete(schema.progress).where(schema.progress.c.name == parameter("p_name")), "p_name")


def begin(tx: Transaction, bucket_id: int) -> None:
    """The bucket's rules have changed, in this transaction: walk over it, from the beginning."""
    progress.write(tx, _name(bucket_id), b"")
    lifecycle.note(tx, bucket_id, WALK_KEY, 0)


def step(tx: Transaction, bucket_id: int, limit: int) -> bool:
    """Go on by up to `limit` keys; whether that was the end."""
    bucket = buckets.of_id(tx, bucket_id)
    at = progress.read(tx, _name(bucket_id)) or b""
    prefixes = [] if bucket is None else _prefixes(bucket.actions)
    for _ in range(limit):
        key = _next_key(tx, bucket_id, at, prefixes)
        if key is None or bucket is None:
            tx.execute(_FORGET, (_name(bucket_id),))
            lifecycle.looked_at(tx, bucket_id, WALK_KEY, None)
            return True
        lifecycle.noted_all(tx, bucket_id, key, bucket.actions)
        at = key + b"\0"
    progress.write(tx, _name(bucket_id), at)
    return False


def _name(bucket_id: int) -> str:
    return f"lifecycle walk {bucket_id}"


def _prefixes(actions: BucketActions) -> list[bytes]:
    return sorted({(rule.prefix or "").encode() for rule in actions.lifecycle if rule.enabled})


def _next_key(tx: Transaction, bucket_id: int, at: bytes, prefixes: list[bytes]) -> bytes | None:
    """The first key from `at` on that begins with one of the prefixes, which are ascending."""
    for prefix in prefixes:
        if at >= successor(prefix):
            continue
        rows = [tx.row(statement, (bucket_id, max(at, prefix))) for statement in _FIRST_KEYS]
        key: bytes | None = min((row[0] for row in rows if row is not None), default=None)
        if key is None:
            return None
        if key.startswith(prefix):
            return key
        at = key
    return None
