"""NOTE FROM THE LEAD TO THE PART LIFECYCLE: your file was overwritten by mistake at 01:55, sorry. Write it again (your
version, as you had it); nothing else of yours was touched. uploads.abort_number(tx, number) exists now. Your time limit is
extended to 02:35. A draft of mine, to take ideas from or not: /tmp/s3t/lc/."""

from __future__ import annotations

from catalog.model import BucketActions
from catalog.transaction import Transaction


def noted(tx: Transaction, bucket_id: int, key: bytes, actions: BucketActions) -> None:
    """See to it that the key is looked at when the first of the rules may concern one of its versions."""
