"""The end of the log: what becomes durable, and what happens when the disk fails or is full (S2).

Log and index go together here: an entry shows what was appended, and is withdrawn when its record may be lost.
Used by the writer thread; `incarnation`, `full` and `failing` may be looked at by any.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from cluster.node.config import NodeConfig
from cluster.node.damage import DamageList
from cluster.node.figures import NodeFigures
from cluster.node.files import FileLayer
from cluster.node.group import Group, Write
from cluster.node.identity import SEGMENT_DIR
from cluster.node.index import Index
from cluster.node.log import NodeLog
from cluster.node.records import DamageReport
from cluster.node.segment import offset_of
from cluster.wire import Op, Status

log = logging.getLogger("trivet.node")

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class Tail:
    """Where a node appends."""

    def __init__(
        self,
        config: NodeConfig,
        files: FileLayer,
        index: Index,
        log_: NodeLog,
        *,
        damaged: DamageList,
        report: DamageReport,
        figures: NodeFigures,
        clock: Callable[[], float],
        new_incarnation: Callable[[], int],
    ) -> None:
        self._config = config
        self._files = files
        self._segments: Path = config.directory / SEGMENT_DIR
        self._index = index
        self._log = log_
        self._damaged = damaged
        self._covered: dict[bytes, tuple[int, str]] = {}  # taken off the list by records that are not synced
        self._report = report
        self._figures = figures
        self._clock = clock
        self._new_incarnation = new_incarnation
        self.incarnation = new_incarnation()
        self.full = False
        self.failing = False

    @property
    def free_bytes(self) -> int:
        """Of the disk."""
        return self._files.free_bytes(self._segments)

    @property
    def capacity_bytes(self) -> int:
        """Of the disk."""
        return self._files.total_bytes(self._segments)

    def takes_puts(self, nbytes: int) -> bool:
        """False when the reserve would be touched, or the index file can't keep up (its disk is full). Once full,
        a node takes puts again only with some room to spare: else it would come and go with every block."""
        if self._index.recent_entries > self._config.index_recent_max:
            return False
        reserve_bytes = self._config.reserve_bytes
        return self.free_bytes >= reserve_bytes + nbytes + (reserve_bytes // 8 if self.full else 0)

    def takes_log(self, nbytes: int) -> bool:
        """As `takes_puts`, for the catalog's log: it may use most of the reserve, because without it the catalog
        commits no deletes either."""
        if self._index.recent_entries > self._config.index_recent_max:
            return False
        return self.free_bytes >= self._config.reserve_bytes // 4 + nbytes

    def append(self, group: Group) -> list[Write]:
        """Write the group's records and show them; returns deletes to be tried again without the puts."""
        if not group.buffers:
            return []
        active = self._log.active
        assert active is not None
        header = active.batch_header(self._log.synced)
        assert len(header) == group.header_bytes
        try:
            active.append([header, *group.buffers], group.nbytes)
        except OSError as error:
            if error.errno in _FULL:
                return self._append_failed(group)
            self.fail(error, (*group.appended, *group.waiting))
            return []
        active.note(bytes(group.table))
        if group.appended:  # else it only moves records
            self._figures.appended(len(group.appended), group.stored_blocks, group.stored_bytes)
        self._index.apply(group.entries, group.counts, group.shares)
        if len(self._damaged):
            self._take_off_list(group.entries)
        return []

    def _append_failed(self, group: Group) -> list[Write]:
        self.full = True
        log.warning("disk full: %d writes refused", len(group.appended))
        self._leave_segment(group)
        puts = [write for write in group.appended if write.op == Op.PUT_BLOCK]
        for write in puts or group.appended:
            write.refuse(Status.READ_ONLY, "the disk is full")
        rest = [write for write in group.appended if write.op != Op.PUT_BLOCK] if puts else []
        group.forget_appended()
        return rest

    def _take_off_list(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            listed = self._damaged.settled(key)
            if listed is not None:
                self._covered.setdefault(key, listed)

    def sync_group(self, group: Group, *, unsynced_bytes_max: int) -> None:
        """One fdatasync for all of the group who wait for one, or when too much is waiting."""
        if not group.waiting and self._log.end - self._log.synced <= unsynced_bytes_max:
            return
        try:
            self._sync()
        except OSError as error:
            self.fail(error, (*group.appended, *group.waiting))

    def sync(self) -> bool:
        """Make all appended records durable; False when the disk failed."""
        try:
            self._sync()
        except OSError as error:
            self.fail(error)
            return False
        return True

    def _sync(self) -> None:
        """OSError must lead to `fail` (S2)."""
        began_s = self._clock()
        if self._log.sync():
            self._figures.synced(self._clock() - began_s)
            self._index.synced()
            self._covered.clear()
            self.failing = False

    def fail(self, error: OSError, writes: Sequence[Write] = ()) -> None:
        """A failed write or sync is final (S2): forget what was not synced, leave the segment as it is.

        The next segment's header says where this one ends. The incarnation changes, so that no front
        counts a shard whose append was answered before (S1). `writes` are refused.
        """
        active = self._log.active
        assert active is not None
        log.error("segment %08x failed (%s): new incarnation", active.number, error)
        self._report("failed", active.number, offset_of(self._log.synced), active.end)
        self._index.withdraw()
        for key, (sequence, kind) in self._covered.items():
            self._damaged.found(key, sequence, kind)  # what covered the bad copy may be lost
        self._covered.clear()
        self._log.leave()
        self.failing = True
        self.incarnation = self._new_incarnation()
        for write in writes:
            write.refuse(Status.FAILED, "the disk failed")

    def _leave_segment(self, group: Group) -> None:
        """The disk is full: what the failed append left must not come back after a restart."""
        try:
            self._sync()
        except OSError as error:
            self.fail(error, (*group.appended, *group.waiting))
        else:
            self._log.leave()

    def roll(self) -> None:
        """Seal the active segment: data first, then the key table, each with its sync."""
        if self.sync():
            number = self._log.active_number
            if self._log.seal():
                self._index.usage.mark(number, sealed=True)

    def begin_segment(self) -> Status | None:
        """Start the next segment; why it can't be, or None."""
        try:
            self._log.begin()
        except OSError as error:
            log.warning("no new segment: %s", error)
            self.full = error.errno in _FULL
            self.failing = not self.full
            return Status.READ_ONLY if self.full else Status.FAILED
        self._index.usage.begin(self._log.active_number)
        self.failing = False  # its header was synced
        return None
