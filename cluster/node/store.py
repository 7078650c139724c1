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

from cluster.node.config import NodeConfig
from cluster.node.files import FileLayer
from cluster.node.group import Group, Write
from cluster.node.identity import (
    INDEX_DIR,
    SEGMENT_DIR,
    FenceState,
    NodeIdentity,
    NodeRefused,
    lock_directory,
    read_fence,
    read_identity,
    store_fence,
)
from cluster.node.index import TOMBSTONE, Checkpoint, Index, IndexReader, unpack_entry
from cluster.node.log import NodeLog
from cluster.node.records import Records
from cluster.node.recovery import recover
from cluster.node.segment import SegmentReaders, offset_of, position
from cluster.wire import (
    Appended,
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
        self._lock_fd = -1
        self._full = False
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
            self._fence = read_fence(config.directory, files)
            self._segments = config.directory / SEGMENT_DIR
            self._readers = SegmentReaders(files, self._segments, config.open_segments_max)
            self._records = Records(files, self._readers, self._report)
            self._index = Index.open(
                config.directory / INDEX_DIR, config.index_map_bytes, self.identity.node_id
            )
            try:
                found = recover(files, self._segments, self.identity, self._index, self._report)
            except lmdb.Error as error:
                self._index.close()
                raise NodeRefused(f"the index can't be written: {error}") from error
            except BaseException:
                self._index.close()
                raise
        except BaseException:
            files.close(self._lock_fd)
            raise
        self._writer_reader = IndexReader(self._index)
        self._loop_reader = IndexReader(self._index)
        self._log = NodeLog(files, self._segments, self.identity, found, config.segment_bytes)

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
        self._sync_group(group)
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
            if same:
                end = position(entry.segment, entry.offset + record_bytes(entry.payload_length))
                write.accept(Appended(self.incarnation, end, entry.sequence))
                if message.sync and end > self._log.synced:
                    group.waiting.append(write)
                return True
            group.replaces(entry.payload_length)
        group.add_shard(
            active,
            write,
            key,
            packed,
            sequence=self._log.take_sequence(),
            cluster_id=self.identity.cluster_id,
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
        doomed: dict[bytes, int] = {}
        for key, sequence in message.blocks:
            raw = self._writer_reader.get(key)
            entry = unpack_entry(raw) if raw is not None else None
            if entry is None or entry.payload_length == TOMBSTONE or sequence not in (0, entry.sequence):
                continue
            if key not in doomed:
                doomed[key] = sequence
                group.replaces(entry.payload_length)
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
            for key, copy in doomed.items():
                sequence = self._log.take_sequence()
                group.add_tombstone(active, key, copy, sequence=sequence, cluster_id=self.identity.cluster_id)
            group.add_delete(active, write, sequence)
        return True

    def _obey(self, write: Write, catalog_id: bytes, term: int) -> bool:
        """Whether the catalog's order counts; a new or higher fence is stored durably first (S18)."""
        fence = self._fence
        if fence is not None and (fence.catalog_id != catalog_id or term < fence.term):
            write.refuse(
                Status.FENCED, f"this node obeys catalog {fence.catalog_id.hex()} at term {fence.term}"
            )
            return False
        if fence is None or term > fence.term:
            fence = FenceState(catalog_id, term)
            try:
                store_fence(self._config.directory, self._files, fence)
            except OSError as error:
                log.error("fence not stored: %s", error)  # noqa: TRY400 - the traceback says no more
                write.refuse(Status.FAILED, "fence not stored")
                return False
            self._fence = fence
        return True

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
        self._index.apply(group.entries, group.blocks, group.live_bytes)
        return []

    def _sync_group(self, group: Group) -> None:
        """One fdatasync for all of the group who wait for one."""
        if not group.waiting and self._log.end - self._log.synced <= self._config.unsynced_bytes_max:
            return
        try:
            self._sync()
        except OSError as error:
            self._fail(error, group)

    def _sync(self) -> None:
        """All appended records are durable when this returns; OSError must lead to `_fail` (S2)."""
        if self._log.sync():
            self._index.synced()

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
            self._log.seal()

    def _begin_segment(self) -> Status | None:
        """Start the next segment; why it can't be, or None."""
        try:
            self._log.begin()
        except OSError as error:
            log.warning("no new segment: %s", error)
            self._full = error.errno in _FULL
            return Status.READ_ONLY if self._full else Status.FAILED
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
        self._writer_reader.release()
        return self._index.begin_checkpoint(self._log.synced, self._log.next_sequence)

    def store_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Any thread: one synced index transaction. Raises lmdb.Error or OSError; then try again later."""
        self._index.store(checkpoint)
        self._index.clear_stale_readers()

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
        if raw is None:
            raise BlockMissing
        entry = unpack_entry(raw)
        length = entry.payload_length
        if length == TOMBSTONE:
            raise BlockMissing
        if stop == 0 or stop > length:
            stop = length
        if not 0 <= start < stop:
            raise BadRange(f"bytes {start}-{stop} of a block of {length}")
        first_page = start // PAGE_BYTES
        last = min(length, (stop + PAGE_BYTES - 1) // PAGE_BYTES * PAGE_BYTES)
        return self._records.read(entry, first_page * PAGE_BYTES, last, room, nowait), first_page

    def release_reader(self) -> None:
        """Call about once a second in the thread of the `nowait` reads; see IndexReader."""
        self._loop_reader.release()

    def inventory(self, after: bytes, limit: int) -> InventoryPage:
        """One page of the blocks held, in key order."""
        entries, more = self._index.page(after, limit)
        return InventoryPage([(key, entry.sequence, entry.payload_length) for key, entry in entries], more)

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
        )

    def _damage_counts(self) -> dict[str, int]:
        with self._damage_lock:
            return dict(self._damage)
