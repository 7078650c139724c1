"""What comes of write requests: one append and at most one sync for all that arrived together.

Puts, deletes, syncs, fences and catalog log entries of clients, and the records that the compaction moves. Belongs to
the writer thread. What a request gets to hear is decided here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cluster.node.compaction import Batch
from cluster.node.config import NodeConfig
from cluster.node.fencing import Fencing
from cluster.node.group import Group, Write
from cluster.node.index import Index, IndexReader
from cluster.node.index_entry import TOMBSTONE, covered, unpack_entry
from cluster.node.log import NodeLog
from cluster.node.log_entries import MARK_RECORD_BYTES, LogEntries, appended_bytes
from cluster.node.records import Records
from cluster.node.segment import position
from cluster.node.tail import Tail
from cluster.wire import (
    Appended,
    AppendLog,
    DeleteBlocks,
    Fence,
    Fenced,
    Op,
    PutBlock,
    Status,
    Sync,
    Synced,
    TrimLog,
)
from codec.block import BlockKey, header_bytes, pack_key, record_bytes

_LOG_OPS: Final = frozenset((Op.APPEND_LOG, Op.TRIM_LOG))
_MOVED_UNSYNCED_BYTES_MAX: Final = 4 << 20  # what a put may find to be synced with it


class Committer:
    """Decides about writes, and has them appended."""

    def __init__(
        self,
        config: NodeConfig,
        index: Index,
        log_: NodeLog,
        tail: Tail,
        *,
        fencing: Fencing,
        records: Records,
        log_entries: LogEntries,
        cluster_id: bytes,
        clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._index = index
        self._reader = IndexReader(index)
        self._log = log_
        self._tail = tail
        self._fencing = fencing
        self._records = records
        self._log_entries = log_entries
        self._cluster_id = cluster_id
        self._clock = clock

    def release_reader(self) -> None:
        """Call about once a second; see IndexReader."""
        self._reader.release()
        self._log_entries.release_reader()

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
        group = Group(self._tail.incarnation)
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
            elif write.op in _LOG_OPS:
                if not self._log_write(group, write, room):
                    again.append(write)
            else:
                self._raise_fence(write)
        again = self._tail.append(group) + again
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
            elif write.op == Op.APPEND_LOG:
                needed += appended_bytes(write)
            elif write.op == Op.TRIM_LOG:
                needed += MARK_RECORD_BYTES
        if not needed:
            return None
        if self._log.is_full(needed):
            self._tail.roll()
        refusal = None
        if self._log.active is None:
            refusal = self._tail.begin_segment()
        if refusal is None and puts:
            self._tail.full = not self._tail.takes_puts(needed)
            refusal = Status.READ_ONLY if self._tail.full else None
        return refusal

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
        raw = self._reader.get(packed)
        entry = unpack_entry(raw) if raw is not None else None
        if entry is not None and entry.payload_length != TOMBSTONE:
            same = self._records.holds(entry, key, message, write.payload)
            if same is False:
                write.refuse(Status.CONFLICT, "other bytes lie under this key")
                return True
            if same and not message.repair:
                end = position(entry.segment, entry.offset + record_bytes(entry.payload_length))
                write.accept(Appended(self._tail.incarnation, end, entry.sequence))
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
            cluster_id=self._cluster_id,
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
            raw = self._reader.get(key)
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
            write.accept(Appended(self._tail.incarnation, self._log.end, 0))
            group.waiting.append(write)
        else:
            cluster_id = self._cluster_id
            for key, (copy, older) in doomed.items():
                sequence = self._log.take_sequence()
                group.add_tombstone(active, key, copy, sequence=sequence, cluster_id=cluster_id, older=older)
            group.add_answered(write, active, sequence)
        return True

    def _log_write(self, group: Group, write: Write, room: Status | None) -> bool:
        """Append to the catalog's log, or trim it (S17). False: decide after this round."""
        message = write.message
        assert isinstance(message, AppendLog | TrimLog)
        active = self._log.active
        if not self._log_entries.may_join(group, write):
            return False
        if not self._obey(write, message.catalog_id, message.term):
            return True
        if active is None:
            write.refuse(room or Status.FAILED, "no segment to write to")
        elif isinstance(message, TrimLog):
            self._log_entries.trim(group, active, write)
        elif not self._tail.takes_log(appended_bytes(write)):
            write.refuse(Status.READ_ONLY, "no room for the catalog's log")
        else:
            self._log_entries.append(group, active, write)
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
        if message.incarnation != self._tail.incarnation:
            write.refuse(Status.STALE_INCARNATION, "the node has another incarnation now (S1)")
        elif message.position > self._log.end:
            write.refuse(Status.BAD_REQUEST, "nothing was appended there yet")
        else:
            write.accept(Synced(self._tail.incarnation, max(self._log.synced, message.position)))
            if message.position > self._log.synced:
                group.waiting.append(write)

    def _sync_group(self, group: Group, *, unsynced_bytes_max: int) -> None:
        self._tail.sync_group(group, unsynced_bytes_max=unsynced_bytes_max)

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
            self._tail.roll()
        if self._log.active is None and self._tail.begin_segment() is not None:
            return False
        active = self._log.active
        assert active is not None
        group = Group(self._tail.incarnation)
        for move in batch.moves:
            if self._reader.get(move.key) == move.raw:
                group.add_moved(active, move.key, unpack_entry(move.raw), move.record, older=move.older)
        self._tail.append(group)
        self._sync_group(group, unsynced_bytes_max=_MOVED_UNSYNCED_BYTES_MAX)
        return self._log.active is active
