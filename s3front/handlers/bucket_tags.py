"""A bucket's tags among its documents: PutBucketTagging writes them, and CreateBucket."""

from __future__ import annotations

import msgspec

from catalog import documents
from catalog.statement import Reader
from catalog.transaction import Transaction

KIND = "tagging"

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(dict[str, str])


def stored(reader: Reader, bucket_id: int) -> dict[str, str] | None:
    """The tags as they were put; None when there are none."""
    packed = documents.get(reader, bucket_id, KIND)
    return None if packed is None else _decoder.decode(packed)


def store(tx: Transaction, bucket_id: int, tags: dict[str, str]) -> None:
    """Put these tags, at least one, in the place of those there are. Raises NoSuchBucket."""
    documents.put(tx, bucket_id, KIND, _encoder.encode(tags))


def drop(tx: Transaction, bucket_id: int) -> None:
    """Let the bucket have none."""
    documents.delete(tx, bucket_id, KIND)
