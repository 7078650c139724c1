"""The node's log: one active segment at a time, the position behind it, and how much of it is durable.

Knows bytes and syncs; what may be answered when is the store's business. Used by the writer thread only.
"""

from __future__ import annotations

import logging
from pathlib import Path

from cluster.node.files import FileLayer
from cluster.node.identity import NodeIdentity
from cluster.node.recovery import Recovered
from cluster.node.segment import SegmentWriter, position

log = logging.getLogger("trivet.node")


class NodeLog:
    """Goes on where recovery found the end. Segments are begun when something is to be appended."""

    def __init__(
        self, files: FileLayer, directory: Path, identity: NodeIdentity, found: Recovered, segment_bytes: int
    ) -> None:
        self._files = files
        self._directory = directory
        self._identity = identity
        self._segment_bytes = segment_bytes
        self._next_segment = found.next_segment
        self._sizes = found.sizes
        self.active: SegmentWriter | None = None
        self.synced = found.position  # everything before it is durable, or does not count
        self.next_sequence = found.sequence

    @property
    def active_number(self) -> int:
        """Number of the active segment, 0 when there is none. May be asked by any thread."""
        active = self.active
        return 0 if active is None else active.number

    @property
    def end(self) -> int:
        """The position behind everything appended."""
        active = self.active
        return self.synced if active is None else position(active.number, active.end)

    @property
    def total_bytes(self) -> int:
        """Size of all segments. May be asked by any thread."""
        active = self.active
        return sum(list(self._sizes.values())) + (0 if active is None else active.end)

    @property
    def segments(self) -> int:
        """Number of segment files. May be asked by any thread."""
        return len(self._sizes) + (self.active is not None)

    @property
    def newest(self) -> int:
        """The highest number of a segment file, 0 when there is none."""
        return self.active_number or max(list(self._sizes), default=0)

    def size_of(self, number: int) -> int:
        """Size of a segment that is not written to any more; 0 when its file is missing."""
        return self._sizes.get(number, 0)

    def forget(self, number: int) -> int:
        """The file of a segment is gone; returns the bytes it had. May be called by any thread."""
        return self._sizes.pop(number, 0)

    def take_sequence(self) -> int:
        """The next sequence (S3)."""
        self.next_sequence += 1
        return self.next_sequence - 1

    def is_full(self, nbytes: int) -> bool:
        """Whether the active segment must be sealed before so many more bytes."""
        return self.active is not None and self.active.end + nbytes > self._segment_bytes

    def begin(self) -> None:
        """Start the next segment, durably. Its header says that what counts of the one before ends at
        `synced` (S2). Raises OSError."""
        assert self.active is None
        number = self._next_segment
        self._next_segment += 1
        active = SegmentWriter.create(
            self._files,
            self._directory,
            number,
            self._identity,
            sequence=self.take_sequence(),
            synced_position=self.synced,
        )
        self.active = active
        self.synced = position(number, active.end)

    def sync(self) -> bool:
        """Make everything appended durable; whether there was anything. After an OSError call `leave`."""
        end = self.end
        if end <= self.synced:
            return False
        assert self.active is not None
        self.active.sync()
        self.synced = end
        return True

    def seal(self) -> bool:
        """End the active segment, all of it synced, with its key table (S7); False when it got none."""
        active = self.active
        assert active is not None
        sealed = True
        try:
            active.seal(self.next_sequence)
        except OSError as error:
            sealed = False
            # All its records are durable; without a table a rebuild has to scan it.
            log.warning("segment %08x: no key table written: %s", active.number, error)
        self.synced = position(active.number, active.end)
        self.leave()
        return sealed

    def leave(self) -> None:
        """End the active segment as it is: what is not synced of it does not count any more."""
        active = self.active
        if active is not None:
            self._sizes[active.number] = active.end
            self.active = None
            active.close()
