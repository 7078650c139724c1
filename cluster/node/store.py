"""One node's blocks: the log, its index and the rules between them. No sockets, no threads of its own.

`commit`, `begin_checkpoint` and `close` belong to one thread (the writer); `read`, `inventory`, `status` and
`store_checkpoint` may run beside it. What a request gets to hear is decided here.
"""

from __future__ import annotations

import errno
import logging
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

import lmdb

from cluster.node.compaction import Batch, Compactor
from cluster.node.config import NodeConfig
from cluster.node.damage import DamageList
from cluster.node.fencing import Fencing
from cluster.node.files import FileLayer
from cluster.node.group import Group, Write
from cluster.node.identity import (
    INDEX_DIR,
    SEGMENT_DIR,
    NodeIdentity,
    NodeRefused,
    lock_directory,
    read_identity,
)
from cluster.node.index import DAMAGE, TOMBSTONE, Checkpoint, Index, IndexReader, covered, unpack_entry
from cluster.node.log import NodeLog
from cluster.node.reclaim import Reclaimer
from cluster.node.records import BlockUnreadable, Records
from cluster.node.recovery import Recovered, recover
from cluster.node.scrub import Scrubber
from cluster.node.segment import SegmentReaders, offset_of, position
from cluster.node.verify import Checker
from cluster.wire import (
    Appended,
    DamagedPage,
    DeleteBlocks,
    Fence,
    Fenced,
    InventoryPage,
    NodeStatus,
    Op,
    PutBlock,
    Status,
    Sync,
    Synced,
)
from codec.block import (
    PAGE_BYTES,
    BlockKey,
    header_bytes,
    pack_key,
    record_bytes,
)

log = logging.getLogger("trivet.node")

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_MOVED_UNSYNCED_BYTES_MAX: Final = 4 << 20  # what a put may find to be synced with it


class BlockMissing(Exception):
    """No such block here."""


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
        self._lock_fd = -1
        self._full = False
        self._failing = False
        self.incarnation = new_incarnation()

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
        self._writer_reader = IndexReader(self._index)
        self._loop_reader = IndexReader(self._index)
        self._log = NodeLog(files, self._segments, self.identity, found, config.segment_bytes)
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
        for attempt in (1, 2):
            self._index = Index.open(path, self._config.index_map_bytes, self.identity.node_id)
            try:
                return recover(
                    self._files,
                    self._segments,
                    self.identity,
                    self._index,
                    self._report,
                    keep_max=self._config.index_recent_max,
                )
            except lmdb.Error as error:
                self._index.close()
                if attempt == 2 or not isinstance(error, DAMAGE):
                    raise NodeRefused(f"the index can't be written: {error}") from error
                log.warning("index %s is damaged (%s); making a new one", path, error)
                Index.remove(path)
            except BaseException:
                self._index.close()
                raise
        raise AssertionError("the second attempt ends in one way or the other")

    def _report(self, kind: str, segment: int, offset: int, length: int) -> None:
        """Damage is counted for the steward and logged, never skipped silently (S4)."""
        log.warning("%s: segment %08x, offset %d, %d bytes", kind, segment, offset, length)
        with self._damage_lock:
            self._damage[kind] += 1

    # -- writing: the writer thread ----------------------------------------------------------------------

    def commit(self, batch: list[Write]) -> None:
        """Do all writes of a batch with one append and at most one sync; afterwards each has its outcome.

        Nothing is answered OK that is not as durable as it asked for. Writes that need the outcome of
        another one of the batch take a second round.
        """
        while batch:
            batch = self._commit_round(batch)

    def _commit_round(self, batch: list[Write]) -> list[Write]:
        now = self._clock()
        again: list[Write] = []
        room = self._make_room(batch)
        group = Group(self.incarnation)
        for write in batch:
            if 0 < write.deadline < now:
                write.refuse(Status.DEADLINE, "too late")
            elif write.op == Op.PUT_BLOCK:
                if room is not None:
                    write.refuse(room, "no room for another block")
                elif not self._put(group, write):
                    again.append(write)
            elif write.op == Op.DELETE_BLOCKS:
                if not self._delete(group, write, room):
                    again.append(write)
            elif write.op == Op.SYNC:
                self._want_sync(group, write)
            else:
                self._raise_fence(write)
        again = self._append(group) + again
        self._sync_group(group, unsynced_bytes_max=self._config.unsynced_bytes_max)
        return again

    def _make_room(self, batch: list[Write]) -> Status | None:
        """Have an active segment with room for the batch; why puts must be refused, or None."""
        needed = 0
        puts = False
        for write in batch:
            if write.op == Op.PUT_BLOCK:
                puts = True
                needed += len(write.payload) + header_bytes(len(write.payload)) + 8
            elif write.op == Op.DELETE_BLOCKS:
                message = write.message
                assert isinstance(message, DeleteBlocks)
                needed += len(message.blocks) * header_bytes(0)
        if not needed:
            return None
        if self._log.is_full(needed):
            self._roll()
        refusal = None
        if self._log.active is None:
            refusal = self._begin_segment()
        if refusal is None and puts:
            self._full = not self._takes_puts(needed)
            refusal = Status.READ_ONLY if self._full else None
        return refusal

    def _takes_puts(self, nbytes: int) -> bool:
        """False when the reserve would be touched, or the index file can't keep up (its disk is full)."""
        if self._index.recent_entries > self._config.index_recent_max:
            return False
        return self._free_bytes() >= self._config.reserve_bytes + nbytes

    def _put(self, group: Group, write: Write) -> bool:
        """Append a block, or find that it is there (S5). False: decide after this round."""
        message = write.message
        assert isinstance(message, PutBlock)
        active = self._log.active
        assert active is not None
        key = BlockKey(message.blob, message.stripe, message.shard)
        packed = pack_key(key)
        if packed in group.entries:
            return False
        raw = self._writer_reader.get(packed)
        entry = unpack_entry(raw) if raw is not None else None
        if entry is not None and entry.payload_length != TOMBSTONE:
            same = self._records.holds(entry, key, message, write.payload)
            if same is False:
                write.refuse(Status.CONFLICT, "other bytes lie under this key")
                return True
            if same and not message.repair:
                end = position(entry.segment, entry.offset + record_bytes(entry.payload_length))
                write.accept(Appended(self.incarnation, end, entry.sequence))
                if message.sync and end > self._log.synced:
                    group.waiting.append(write)
                return True
        older = b""
        if raw is not None and entry is not None:
            group.replaces(entry)
            older = covered(raw, self._index.usage.is_there)
        group.add_shard(
            active,
            write,
            key,
            packed,
            sequence=self._log.take_sequence(),
            cluster_id=self.identity.cluster_id,
            older=older,
        )
        return True

    def _delete(self, group: Group, write: Write, room: Status | None) -> bool:
        """Append tombstones for the copies named (S20). False: decide after this round."""
        message = write.message
        assert isinstance(message, DeleteBlocks)
        if any(key in group.entries for key, _ in message.blocks):
            return False
        if not self._obey(write, message.catalog_id, message.term):
            return True
        doomed: dict[bytes, tuple[int, bytes]] = {}
        for key, sequence in message.blocks:
            raw = self._writer_reader.get(key)
            if raw is None:
                continue
            entry = unpack_entry(raw)
            if entry.payload_length == TOMBSTONE or sequence not in (0, entry.sequence):
                continue
            if key not in doomed:
                doomed[key] = sequence, covered(raw, self._index.usage.is_there)
                group.replaces(entry)
        active = self._log.active
        if active is None:
            # Even when nothing is left to delete: a block that was refused, but lies whole behind the end of
            # a segment, comes back at a restart unless a new segment says where that one ends.
            write.refuse(room or Status.FAILED, "no segment to write to")
        elif not doomed:
            # An earlier tombstone may still be unsynced: its delete must be as durable as this answer says.
            write.accept(Appended(self.incarnation, self._log.end, 0))
            group.waiting.append(write)
        else:
            cluster_id = self.identity.cluster_id
            for key, (copy, older) in doomed.items():
                sequence = self._log.take_sequence()
                group.add_tombstone(active, key, copy, sequence=sequence, cluster_id=cluster_id, older=older)
            group.add_delete(active, write, sequence)
        return True

    def _obey(self, write: Write, catalog_id: bytes, term: int) -> bool:
        """Whether the catalog's order counts (S18)."""
        refusal = self._fencing.obey(catalog_id, term)
        if refusal is not None:
            write.refuse(*refusal)
        return refusal is None

    def _raise_fence(self, write: Write) -> None:
        message = write.message
        assert isinstance(message, Fence)
        if self._obey(write, message.catalog_id, message.term):
            write.accept(Fenced(message.catalog_id, message.term))

    def _want_sync(self, group: Group, write: Write) -> None:
        message = write.message
        assert isinstance(message, Sync)
        if message.incarnation != self.incarnation:
            write.refuse(Status.STALE_INCARNATION, "the node has another incarnation now (S1)")
        elif message.position > self._log.end:
            write.refuse(Status.BAD_REQUEST, "nothing was appended there yet")
        else:
            write.accept(Synced(self.incarnation, max(self._log.synced, message.position)))
            if message.position > self._log.synced:
                group.waiting.append(write)

    def _append(self, group: Group) -> list[Write]:
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
            if error.errno not in _FULL:
                self._fail(error, group)
                return []
            self._full = True
            log.warning("disk full: %d writes refused", len(group.appended))
            self._leave_segment(group)
            puts = [write for write in group.appended if write.op == Op.PUT_BLOCK]
            for write in puts or group.appended:
                write.refuse(Status.READ_ONLY, "the disk is full")
            rest = [write for write in group.appended if write.op != Op.PUT_BLOCK] if puts else []
            group.forget_appended()
            return rest
        active.note(bytes(group.table))
        self._index.apply(group.entries, group.blocks, group.live_bytes, group.shares)
        if len(self._damaged):
            for key in group.entries:
                self._damaged.settled(key)
        return []

    def _sync_group(self, group: Group, *, unsynced_bytes_max: int) -> None:
        """One fdatasync for all of the group who wait for one, or when too much is waiting."""
        if not group.waiting and self._log.end - self._log.synced <= unsynced_bytes_max:
            return
        try:
            self._sync()
        except OSError as error:
            self._fail(error, group)

    def _sync(self) -> None:
        """All appended records are durable when this returns; OSError must lead to `_fail` (S2)."""
        if self._log.sync():
            self._index.synced()
            self._failing = False

    def _fail(self, error: OSError, group: Group | None) -> None:
        """A failed write or sync is final (S2): forget what was not synced, leave the segment as it is.

        The next segment's header says where this one ends. The incarnation changes, so that no front
        counts a shard whose append was answered before (S1).
        """
        active = self._log.active
        assert active is not None
        log.error("segment %08x failed (%s): new incarnation", active.number, error)
        self._report("failed", active.number, offset_of(self._log.synced), active.end)
        self._index.withdraw()
        self._log.leave()
        self._failing = True
        self.incarnation = self._new_incarnation()
        for write in (*group.appended, *group.waiting) if group is not None else ():
            write.refuse(Status.FAILED, "the disk failed")

    def _leave_segment(self, group: Group) -> None:
        """The disk is full: what the failed append left must not come back after a restart."""
        try:
            self._sync()
        except OSError as error:
            self._fail(error, group)
        else:
            self._log.leave()

    def _roll(self) -> None:
        """Seal the active segment: data first, then the key table, each with its sync."""
        try:
            self._sync()
        except OSError as error:
            self._fail(error, None)
        else:
            number = self._log.active_number
            if self._log.seal():
                self._index.usage.mark(number, sealed=True)

    def _begin_segment(self) -> Status | None:
        """Start the next segment; why it can't be, or None."""
        try:
            self._log.begin()
        except OSError as error:
            log.warning("no new segment: %s", error)
            self._full = error.errno in _FULL
            self._failing = not self._full
            return Status.READ_ONLY if self._full else Status.FAILED
        self._index.usage.begin(self._log.active_number)
        self._failing = False  # its header was synced
        return None

    def _free_bytes(self) -> int:
        return self._files.free_bytes(self._segments)

    # -- checkpoints ---------------------------------------------------------------------------------------

    def begin_checkpoint(self) -> Checkpoint | None:
        """Writer thread: sync what is not, and take the recent index entries for `store_checkpoint` (S7)."""
        try:
            self._sync()
        except OSError as error:
            self._fail(error, None)
        self._look_after_disk()
        self._reclaimer.drop_emptied()
        self._writer_reader.release()
        return self._index.begin_checkpoint(self._log.synced, self._log.next_sequence)

    def _look_after_disk(self) -> None:
        """A node that is shunned gets no writes to show that it is well again, so it tries by itself."""
        if self._full:
            self._full = not self._takes_puts(0)
        if self._log.active is None:
            if self._failing or self.compactor.has_emptied:
                self._begin_segment()
        elif self.compactor.wants_roll():
            self._roll()
            self._begin_segment()

    def store_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Any thread: one synced index transaction. Raises lmdb.Error or OSError; then try again later."""
        self._index.store(checkpoint)
        self._index.clear_stale_readers()
        if checkpoint.dropped:
            self._reclaimer.unlink(checkpoint.dropped)

    def move(self, batch: Batch) -> bool:
        """Append the batch's records again, as far as the index still names them, and forget its tombstones;
        False when the disk does not take them.

        Not synced here unless much is waiting: the next group or checkpoint does it. Until then the old
        records are there.
        """
        self._index.forget(batch.forgets)
        if not batch.moves:
            return True
        if self._log.is_full(batch.nbytes):
            self._roll()
        if self._log.active is None and self._begin_segment() is not None:
            return False
        active = self._log.active
        assert active is not None
        group = Group(self.incarnation)
        for move in batch.moves:
            if self._writer_reader.get(move.key) == move.raw:
                group.add_moved(active, move.key, unpack_entry(move.raw), move.record, older=move.older)
        self._append(group)
        self._sync_group(group, unsynced_bytes_max=_MOVED_UNSYNCED_BYTES_MAX)
        return self._log.active is active

    def close(self) -> None:
        """Sync, seal, store the index, give the directory back. Safe to skip: a start recovers."""
        if self._log.active is not None:
            self._roll()
        checkpoint = self._index.begin_checkpoint(self._log.synced, self._log.next_sequence)
        if checkpoint is not None:
            self.store_checkpoint(checkpoint)
        self.abandon()

    def abandon(self) -> None:
        """Give the directory back as it is, as a crash would: for a node that can't go on."""
        self._writer_reader.release()
        self._loop_reader.release()
        self.compactor.close()
        self._index.close()
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

    def status(self) -> NodeStatus:
        """What the steward wants to know."""
        free = self._free_bytes()
        return NodeStatus(
            node_id=self.identity.node_id,
            incarnation=self.incarnation,
            blocks=self._index.blocks,
            segment_bytes=self._log.total_bytes,
            live_bytes=self._index.live_bytes,
            free_bytes=free,
            damage=self._damage_counts(),
            read_only=self._full or free < self._config.reserve_bytes,
            failing=self._failing,
            segments=self._log.segments,
            reclaimed_bytes=self.compactor.reclaimed_bytes,
            damaged_blocks=len(self._damaged),
            scrubbed_bytes=self.scrub.scrubbed_bytes,
            scrub_passes=self.scrub.passes,
        )

    def _damage_counts(self) -> dict[str, int]:
        with self._damage_lock:
            return dict(self._damage)
