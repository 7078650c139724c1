"""Which keys the rules of a bucket's lifecycle concern, and when to look at them."""

from __future__ import annotations

from catalog.model import BucketActions
from catalog.transaction import Transaction


def noted(tx: Transaction, bucket_id: int, key: bytes, actions: BucketActions) -> None:
    """See to it that the key is looked at when the first of the rules may concern one of its versions."""
