"""What a process remembers of the catalog's configuration; `Catalog.configuration` proves it fresh (S16)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catalog.model import Bucket, Meta, NodeRow

if TYPE_CHECKING:
    from catalog.access_keys import AccessKey
    from catalog.encryption_keys import EncryptionKey

_BUCKETS_MAX = 10_000
_ACCESS_KEYS_MAX = 10_000


class Configuration:
    """True for one `config_generation`; replaced as a whole when that moves."""

    __slots__ = ("access_keys", "buckets", "encryption_keys", "meta", "nodes")

    def __init__(self, meta: Meta) -> None:
        self.meta = meta
        self.buckets: dict[str, Bucket] = {}
        self.nodes: tuple[NodeRow, ...] | None = None
        self.access_keys: dict[str, AccessKey] = {}
        self.encryption_keys: dict[str, EncryptionKey] = {}

    def remember(self, bucket: Bucket) -> None:
        """Keep a bucket that was read under this generation."""
        if len(self.buckets) >= _BUCKETS_MAX:
            self.buckets.clear()
        self.buckets[bucket.name] = bucket

    def remember_access_key(self, key: AccessKey) -> None:
        """Keep a key that was read under this generation."""
        if len(self.access_keys) >= _ACCESS_KEYS_MAX:
            self.access_keys.clear()
        self.access_keys[key.access_key] = key
