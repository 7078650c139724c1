"""Settings of a node process, read once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """Units are in the names. fsync is not a setting (STYLE 19)."""

    directory: Path
    cluster_id: bytes
    secret: bytes = field(repr=False)
    node_id: bytes | None = None  # refuse the directory of another node than this
    segment_bytes: int = 64 << 20  # a segment is sealed before it grows beyond this
    index_flush_s: float = 1.0  # recent index entries reach the index file this often
    index_map_bytes: int = 64 << 30  # address space, not memory: upper limit of the index file
    index_recent_max: int = 200_000  # entries waiting for the index file; above that puts are refused
    reserve_bytes: int = 256 << 20  # free disk space that puts may not use (deletes and compaction may)
    batch_bytes_max: int = 8 << 20  # appended by one pwritev group
    batch_records_max: int = 512
    unsynced_bytes_max: int = 64 << 20  # appended but not synced; then a sync is made unasked
    connection_queue_bytes_max: int = 16 << 20  # received, not yet answered, of one connection
    queue_bytes_max: int = 64 << 20  # the same of all connections
    reply_bytes_max: int = 1 << 20  # answered, not yet taken by one peer; then it is not read any more
    connections_max: int = 256
    handshake_timeout_s: float = 5.0
    read_threads: int = 4  # reads that have to wait for the disk
    open_segments_max: int = 64
    compact_share: float = 0.6  # a segment with less alive in it than this is rewritten
    compact_bytes_per_s: int = 32 << 20  # rewritten, unless space is running out; then as the disk takes it
    scrub_bytes_per_s: int = 8 << 20  # read by the scrub, 0 = no scrub
    scrub_pause_s: float = 600.0  # between the end of one pass over all blocks and the next

    def __post_init__(self) -> None:
        if not 1 << 16 <= self.segment_bytes <= 1 << 31:
            raise ValueError("segment_bytes must be between 64 KiB and 2 GiB")
        if not 0 <= self.compact_share < 1 or self.compact_bytes_per_s <= 0:
            raise ValueError("compact_share must be below 1, compact_bytes_per_s above 0")
        if self.node_id is not None and len(self.node_id) != 16:
            raise ValueError("a node id has 16 bytes")
        if len(self.cluster_id) != 16 or len(self.secret) < 16:
            raise ValueError("a cluster id has 16 bytes, a secret at least 16")
