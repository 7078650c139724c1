"""What a process remembers of the catalog's configuration; `Catalog.configuration` proves it fresh (S16)."""

from __future__ import annotations

from catalog.model import Bucket, Meta, NodeRow

_BUCKETS_MAX = 10_000


class Configuration:
    """True for one `config_generation`; replaced as a whole when that moves."""

    __slots__ = ("buckets", "meta", "nodes")

    def __init__(self, meta: Meta) -> None:
        self.meta = meta
        self.buckets: dict[str, Bucket] = {}
        self.nodes: tuple[NodeRow, ...] | None = None

    def remember(self, bucket: Bucket) -> None:
        """Keep a bucket that was read under this generation."""
        if len(self.buckets) >= _BUCKETS_MAX:
            self.buckets.clear()
        self.buckets[bucket.name] = bucket
