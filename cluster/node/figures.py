"""What a node counts of its own work since its process started, for NodeStatus."""

from __future__ import annotations

from codec.histogram import bucket_of


class NodeFigures:
    """Counting costs a fraction of a microsecond and no lock: `appended` and `synced` belong to the writer thread,
    `sent` to the event loop; any thread may look. Histograms are by bucket, as codec.histogram has them.

    `stored_bytes` are of payloads, of repairs too; `read_bytes` of what was sent for reads, with the block headers.
    """

    __slots__ = ("group_writes", "read_blocks", "read_bytes", "stored_blocks", "stored_bytes", "sync_us")

    def __init__(self) -> None:
        self.sync_us: dict[int, int] = {}
        self.group_writes: dict[int, int] = {}
        self.stored_blocks = 0
        self.stored_bytes = 0
        self.read_blocks = 0
        self.read_bytes = 0

    def appended(self, writes: int, blocks: int, nbytes: int) -> None:
        """One append served so many requests, and stored blocks of so many payload bytes in all."""
        self.stored_blocks += blocks
        self.stored_bytes += nbytes
        bucket = bucket_of(writes)
        self.group_writes[bucket] = self.group_writes.get(bucket, 0) + 1

    def synced(self, seconds: float) -> None:
        """One sync of the log took so long."""
        bucket = bucket_of(max(0, int(seconds * 1_000_000)))
        self.sync_us[bucket] = self.sync_us.get(bucket, 0) + 1

    def sent(self, nbytes: int) -> None:
        """One block, or part of one, was read for a peer."""
        self.read_blocks += 1
        self.read_bytes += nbytes
