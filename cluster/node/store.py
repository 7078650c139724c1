"""One node's blocks: its log, its index and the rules between them. No sockets, no threads of its own.

`commit`, `begin_checkpoint` and `close` belong to one thread (the writer); `read`, `inventory`, `status` and
`store_checkpoint` may run beside it. What a request gets to hear is decided here.
"""

from __future__ import annotations

import logging
import secrets
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable

import lmdb

from cluster.log_names import LogEntryName
from cluster.node.commit import Committer
from cluster.node.compaction import Compactor
from cluster.node.config import NodeConfig
from cluster.node.damage import DamageList
from cluster.node.fencing import Fencing
from cluster.node.figures import NodeFigures
from cluster.node.files import FileLayer
from cluster.node.guard import IndexGuard
from cluster.node.identity import (
    INDEX_DIR,
    SEGMENT_DIR,
    NodeIdentity,
    NodeRefused,
    lock_directory,
    read_identity,
)
from cluster.node.index import Checkpoint, Index, IndexDamaged, IndexReader
from cluster.node.index_entry import TOMBSTONE, unpack_entry
from cluster.node.log import NodeLog
from cluster.node.log_entries import LogEntries, LogMissing
from cluster.node.reclaim import Reclaimer
from cluster.node.records import BlockUnreadable, Records
from cluster.node.recovery import Recovered, recover
from cluster.node.scrub import Scrubber
from cluster.node.segment import SegmentReaders
from cluster.node.tail import Tail
from cluster.node.verify import Checker
from cluster.version import VERSION
from cluster.wire import DamagedPage, InventoryPage, LogStatus, NodeStatus
from codec.block import PAGE_BYTES

log = logging.getLogger("trivet.node")


class BlockMissing(Exception):
    """No such block, or log entry, here."""


class BadRange(Exception):
    """The byte range asked for is not in the block."""


class Store:
    """Blocks of one data directory. Made by `open`; `close` once."""

    def __init__(
        self,
        config: NodeConfig,
        files: FileLayer,
        *,
        clock: Callable[[], float],
        new_incarnation: Callable[[], int],
    ) -> None:
        self._config = config
        self._files = files
        self._clock = clock
        self._new_incarnation = new_incarnation
        self._damage: Counter[str] = Counter()
        self._damage_lock = threading.Lock()
        self._damaged = DamageList()
        self.figures = NodeFigures()
        self._started_s = clock()
        self._guard = IndexGuard(config.directory / INDEX_DIR)
        self._lock_fd = -1

    @classmethod
    def open(
        cls,
        config: NodeConfig,
        files: FileLayer,
        *,
        clock: Callable[[], float] = time.monotonic,
        new_incarnation: Callable[[], int] = lambda: secrets.randbits(63),
    ) -> Store:
        """Take the directory, recover, be ready. Raises NodeRefused (S23) or OSError."""
        store = cls(config, files, clock=clock, new_incarnation=new_incarnation)
        store._start()
        return store

    def _start(self) -> None:
        config, files = self._config, self._files
        self.identity: NodeIdentity = read_identity(
            config.directory, files, cluster_id=config.cluster_id, node_id=config.node_id
        )
        self._lock_fd = lock_directory(config.directory, files)
        try:
            self._fencing = Fencing(config.directory, files)
            self._segments = config.directory / SEGMENT_DIR
            self._readers = SegmentReaders(files, self._segments, config.open_segments_max)
            self._records = Records(files, self._segments, self._readers, self._report, self._damaged)
            found = self._open_index()
        except BaseException:
            self._guard.close()
            files.close(self._lock_fd)
            raise
        self.checker = Checker(self._index.get, self._records, self._damaged)
        self.scrub = Scrubber(
            config.directory,
            files,
            index=self._index,
            records=self._records,
            checker=self.checker,
            damaged=self._damaged,
            report=self._report,
            cluster_id=self.identity.cluster_id,
            bytes_per_s=config.scrub_bytes_per_s,
            pause_s=config.scrub_pause_s,
            clock=self._clock,
        )
        self._loop_reader = IndexReader(self._index)
        self._log = NodeLog(files, self._segments, self.identity, found, config.segment_bytes)
        self.log_entries = LogEntries(
            self._index, self._log, self._records, cluster_id=self.identity.cluster_id
        )
        self.log_entries.settle()
        self._tail = Tail(
            config,
            files,
            self._index,
            self._log,
            damaged=self._damaged,
            report=self._report,
            figures=self.figures,
            clock=self._clock,
            new_incarnation=self._new_incarnation,
        )
        self._committer = Committer(
            config,
            self._index,
            self._log,
            self._tail,
            fencing=self._fencing,
            records=self._records,
            log_entries=self.log_entries,
            cluster_id=self.identity.cluster_id,
            clock=self._clock,
        )
        self.commit = self._committer.commit  # the writer thread's
        self.move = self._committer.move
        self.compactor = Compactor(
            config,
            files,
            self._index,
            self._log,
            records=self._records,
            checker=self.checker,
            cluster_id=self.identity.cluster_id,
            clock=self._clock,
        )
        self._reclaimer = Reclaimer(
            files, self._segments, self._index, self._log, readers=self._readers, compactor=self.compactor
        )

    def _open_index(self) -> Recovered:
        """Have an index that is up to date with the log. It is derived data: one that turns out to be damaged
        is made anew."""
        path = self._config.directory / INDEX_DIR
        try:
            if self._guard.begin():
                log.warning("index %s is not trusted any more; making a new one", path)
                Index.remove(path)
            try:
                return self._recover()
            except (IndexDamaged, struct.error) as error:
                log.warning("index %s is damaged (%s); making a new one", path, error)
                Index.remove(path)
                return self._recover()
        except (lmdb.Error, IndexDamaged) as error:
            raise NodeRefused(f"the index can't be written: {error}") from error
        finally:
            self._guard.ended_well()

    def _recover(self) -> Recovered:
        path = self._config.directory / INDEX_DIR
        self._index = Index.open(path, self._config.index_map_bytes, self.identity.node_id)
        try:
            return recover(
                self._files,
                self._segments,
                self.identity,
                self._index,
                self._report,
                damaged=self._damaged,
                keep_max=self._config.index_recent_max,
            )
        except BaseException:
            self._index.close()
            raise

    def _report(self, kind: str, segment: int, offset: int, length: int) -> None:
        """Damage is counted for the steward and logged, never skipped silently (S4)."""
        log.warning("%s: segment %08x, offset %d, %d bytes", kind, segment, offset, length)
        with self._damage_lock:
            self._damage[kind] += 1

    @property
    def incarnation(self) -> int:
        """Changes whenever something appended may have been lost (S1)."""
        return self._tail.incarnation

    @property
    def index_damage(self) -> str:
        """What was found wrong with the index; then this process must end. May be asked by any thread."""
        return self._index.damage

    def distrust_index(self, reason: str) -> None:
        """The next start makes the index anew."""
        self._guard.condemn(reason)

    # -- checkpoints ---------------------------------------------------------------------------------------

    def begin_checkpoint(self) -> Checkpoint | None:
        """Writer thread: sync what is not, and take the recent index entries for `store_checkpoint` (S7)."""
        self._tail.sync()
        self._look_after_disk()
        self._reclaimer.drop_emptied()
        self._committer.release_reader()
        return self._index.begin_checkpoint(self._log.synced, self._log.next_sequence)

    def _look_after_disk(self) -> None:
        """A node that is shunned gets no writes to show that it is well again, so it tries by itself."""
        self._tail.full = not self._tail.takes_puts(0)
        if self._log.active is None:
            if self._tail.failing or self.compactor.has_emptied:
                self._tail.begin_segment()
        elif self.compactor.wants_roll():
            self._tail.roll()
            self._tail.begin_segment()

    def store_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Any thread: one synced index transaction. Raises lmdb.Error or OSError; then try again later."""
        self._index.store(checkpoint)
        self._index.clear_stale_readers()
        if checkpoint.dropped:
            self._reclaimer.unlink(checkpoint.dropped)

    def close(self) -> None:
        """Sync, seal, store the index, give the directory back. Safe to skip: a start recovers."""
        if self._log.active is not None:
            self._tail.roll()
        checkpoint = self._index.begin_checkpoint(self._log.synced, self._log.next_sequence)
        if checkpoint is not None:
            self.store_checkpoint(checkpoint)
        self.abandon()

    def abandon(self) -> None:
        """Give the directory back as it is, as a crash would: for a node that can't go on."""
        self._committer.release_reader()
        self._loop_reader.release()
        self.compactor.close()
        if self._index.damage:
            self.distrust_index(self._index.damage)
        self._index.close()
        self._guard.close()
        self._readers.close()
        self._log.leave()
        self._files.close(self._lock_fd)

    # -- reading: any thread -------------------------------------------------------------------------------

    def read(self, key: bytes, start: int, stop: int, room: int, nowait: bool) -> tuple[bytearray, int]:
        """The record bytes that hold payload bytes start..stop (stop = 0: all), and their first page.

        The result begins with `room` free bytes for the frame around it, then header, page table and
        whole pages as `codec.block.verify_pages` takes them, unverified: the front checks them (S6).
        Raises BlockMissing, BlockUnreadable, BadRange; with `nowait` also BlockingIOError when the disk
        has to be waited for. Calls with `nowait` belong to one thread, the event loop's.
        """
        raw = self._loop_reader.get(key) if nowait else self._index.get(key)
        while True:
            if raw is None:
                raise BlockMissing
            entry = unpack_entry(raw)
            length = entry.payload_length
            if length == TOMBSTONE:
                raise BlockMissing
            end = length if stop == 0 or stop > length else stop
            if not 0 <= start < end:
                raise BadRange(f"bytes {start}-{end} of a block of {length}")
            first_page = start // PAGE_BYTES
            last = min(length, (end + PAGE_BYTES - 1) // PAGE_BYTES * PAGE_BYTES)
            try:
                return self._records.read(entry, first_page * PAGE_BYTES, last, room, nowait), first_page
            except BlockUnreadable:
                again = self._index.get(key)
                if again == raw:
                    self._records.is_bad(key, entry, "unreadable")
                    raise
                raw = again  # moved by the compaction, or covered, since it was looked up

    def read_log(self, name: LogEntryName, room: int) -> tuple[bytearray, int]:
        """The record of an entry of the catalog's log, as `read` gives a whole block's."""
        try:
            return self.log_entries.read(name, room), 0
        except LogMissing:
            raise BlockMissing from None

    def release_reader(self) -> None:
        """Call about once a second in the thread of the `nowait` reads; see IndexReader."""
        self._loop_reader.release()

    def inventory(self, after: bytes, limit: int) -> InventoryPage:
        """One page of the blocks held, in key order."""
        entries, more = self._index.page(after, limit)
        return InventoryPage([(key, entry.sequence, entry.payload_length) for key, entry in entries], more)

    def damaged(self, after: bytes, limit: int) -> DamagedPage:
        """One page of the blocks found bad and not yet replaced, in key order."""
        return DamagedPage(*self._damaged.page(after, limit))

    def log_status(self, after: bytes, limit: int) -> LogStatus:
        """What it holds of the catalog's log, with one page of names."""
        fence = self._fencing.fence
        names, more = self.log_entries.page(after, limit)
        return LogStatus(
            b"" if fence is None else fence.catalog_id,
            0 if fence is None else fence.term,
            self._index.log_entries,
            self._index.log_bytes,
            self._damaged.log_entries,
            names,
            more,
        )

    def status(self, *, queued_bytes: int = 0, peers: int = 0) -> NodeStatus:
        """What steward and operators want to know; the arguments are what only the service knows."""
        figures = self.figures
        return NodeStatus(
            node_id=self.identity.node_id,
            incarnation=self._tail.incarnation,
            blocks=self._index.blocks,
            segment_bytes=self._log.total_bytes,
            live_bytes=self._index.live_bytes,
            free_bytes=self._tail.free_bytes,
            damage=self._damage_counts(),
            read_only=self._tail.full,
            failing=self._tail.failing,
            segments=self._log.segments,
            reclaimed_bytes=self.compactor.reclaimed_bytes,
            damaged_blocks=self._damaged.blocks,
            scrubbed_bytes=self.scrub.scrubbed_bytes,
            scrub_passes=self.scrub.passes,
            release=VERSION,
            uptime_s=self._clock() - self._started_s,
            capacity_bytes=self._tail.capacity_bytes,
            queued_bytes=queued_bytes,
            peers=peers,
            stored_blocks=figures.stored_blocks,
            stored_bytes=figures.stored_bytes,
            read_blocks=figures.read_blocks,
            read_bytes=figures.read_bytes,
            sync_us=figures.sync_us.copy(),
            group_writes=figures.group_writes.copy(),
            log_entries=self._index.log_entries,
            log_bytes=self._index.log_bytes,
        )

    def _damage_counts(self) -> dict[str, int]:
        with self._damage_lock:
            return dict(self._damage)
