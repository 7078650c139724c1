"""What happens to a segment that the compaction has emptied: out of the index, then off the disk (S7)."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from cluster.node.compaction import Compactor
from cluster.node.files import FileLayer
from cluster.node.index import Index
from cluster.node.log import NodeLog
from cluster.node.segment import SegmentReaders, segment_path

log = logging.getLogger("trivet.node")


class Reclaimer:
    """`drop_emptied` belongs to the writer thread, `unlink` to the one that stores checkpoints."""

    def __init__(
        self,
        files: FileLayer,
        directory: Path,
        index: Index,
        log_: NodeLog,
        *,
        readers: SegmentReaders,
        compactor: Compactor,
    ) -> None:
        self._files = files
        self._directory = directory
        self._index = index
        self._log = log_
        self._readers = readers
        self._compactor = compactor

    def drop_emptied(self) -> None:
        """Leave emptied segments out of the next checkpoint. Call when everything is synced.

        Else a failed sync could bring a record in one of them back to life (S2). A later segment must be
        there, which holds a higher sequence and number (S3). And those dropped before must be durably gone:
        a tombstone must not go while what it covers could come back with a lost index.
        """
        usage = self._index.usage
        if usage.leaving or self._log.end > self._log.synced:
            return
        for number in self._compactor.take_emptied():
            use = usage.of(number)
            if use is not None and not use.live_bytes and number < self._log.newest:
                usage.drop(number)

    def unlink(self, dropped: frozenset[int]) -> None:
        """Remove segments that the stored index does not need. What fails is tried again with the next
        checkpoint, which comes in any case."""
        try:
            for number in dropped:
                with contextlib.suppress(FileNotFoundError):
                    self._files.unlink(segment_path(self._directory, number))
                self._readers.forget(number)
            self._files.fsync_dir(self._directory)
        except OSError as error:
            log.warning("segments not removed, trying again: %s", error)
            return
        for number in dropped:
            self._compactor.reclaimed(self._log.forget(number))
        self._index.usage.gone(dropped)
