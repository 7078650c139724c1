"""Where each block lies: block key -> (segment, offset, payload length, sequence), S7.

Three layers are asked in turn: entries whose record is not synced yet (withdrawn together when a sync
fails, S2), recent entries in memory, and the LMDB file in `index/`. About once a second the recent ones
move to the file in one synced transaction together with the log position they reach; a start replays the
log from there. The file is derived data: when it is missing, damaged or of another node it is made anew.

A second process may open the file read-only, one short transaction a lookup; it lags by about a second. In
database `blocks`, key = the 21-byte block key, value, little-endian:

     0         4        8                16         20
    +---------+--------+----------------+----------+- - - - - - - -+
    | segment | offset | payload length | sequence | older …       |
    +---------+--------+----------------+----------+- - - - - - - -+
                         u32              u64        segments, u32 each

Payload length 0xFFFFFFFF marks a tombstone. `older` names the segments in which covered records of the same key
may still lie: while one of them is there, a tombstone is kept, so that the older copy does not come back when
the index is made anew (S3). Database `segments` holds a row for each segment, see `usage`.

Entries of the catalog's log (S17) go the same way under keys of their own (cluster/log_names.py), into database
`catalog_log`, so that who walks the blocks does not meet them. They have no tombstones: one record, the mark, tells up
to where all were trimmed.
"""

from __future__ import annotations

import logging
import operator
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import lmdb
import msgspec

from cluster.log_names import is_log_key
from cluster.node.index_entry import (
    ENTRY_BYTES,
    GONE,
    TOMBSTONE,
    Counts,
    Entry,
    is_tombstone,
    log_counts,
    unpack_entry,
)
from cluster.node.usage import (
    Shares,
    Usage,
    count_block,
    count_tombstone,
    pack_segment,
    unpack_row,
    unpack_segment,
)

log = logging.getLogger("trivet.node")

INDEX_FORMAT: Final = 2
_PUT_ENTRIES: Final = 200  # put in one go: putmulti keeps the GIL, some 0.2 ms for these
_DAMAGE: Final = (  # what LMDB says of a file that holds nonsense
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.CursorFullError,
    lmdb.PageFullError,
    lmdb.PanicError,
    lmdb.BadTxnError,
    lmdb.InvalidError,
)
_LMDB_FILES: Final = ("data.mdb", "lock.mdb")
_META_KEY: Final = b"state"
_Database = Any  # LMDB's own handle


class IndexDamaged(Exception):
    """The index file holds nonsense: it must be made anew from the log, by a new process."""


class IndexState(msgspec.Struct, frozen=True, array_like=True):
    """What is stored beside the entries, in the same transaction."""

    format: int
    node_id: bytes
    position: int = 0  # all records before it are in the file
    sequence: int = 0  # the highest seen before it
    blocks: int = 0
    live_bytes: int = 0
    log_entries: int = 0
    log_bytes: int = 0


class Checkpoint(NamedTuple):
    """Entries on their way to the file, and the state they lead to."""

    entries: dict[bytes, bytes]
    state: IndexState
    rows: dict[int, bytes]  # of segments, as `usage` packs them
    dropped: frozenset[int]  # segments that the index does not need any more


class IndexReader:
    """A thread's own way to look up entries, without a transaction for each.

    Beginning a transaction lets go of the GIL, which costs a switch of threads under load. The transaction
    is renewed after each checkpoint; call `release` about once a second, so that an idle reader does not
    keep old pages of the file from being reused.
    """

    __slots__ = ("_generation", "_index", "_txn")

    def __init__(self, index: Index) -> None:
        self._index = index
        self._txn: lmdb.Transaction | None = None
        self._generation = -1

    def get(self, key: bytes) -> bytes | None:
        """The packed entry of a packed key, tombstones too, or None."""
        index = self._index
        value = index.get_recent(key)
        if value is None:
            # After get_recent: what a checkpoint took out of memory is in a file of a newer generation.
            generation = index.generation
            if self._txn is None or self._generation != generation:
                self.release()
                self._txn = index.begin()
                self._generation = generation
            value = index.look_up(self._txn, key)
        return value

    def release(self) -> None:
        """End the transaction, if there is one."""
        txn, self._txn = self._txn, None
        if txn is not None:
            txn.abort()


class Index:
    """Changed by the writer thread; `get` and `page` may be called from any thread."""

    def __init__(self, env: lmdb.Environment, node_id: bytes) -> None:
        self._env = env
        self._blocks = env.open_db(b"blocks")
        self._meta = env.open_db(b"meta")
        self._segments = env.open_db(b"segments")
        self._log = env.open_db(b"catalog_log")
        self._unsynced: dict[bytes, bytes] = {}
        self._recent: dict[bytes, bytes] = {}
        self._flushing: dict[bytes, bytes] = {}
        self._checkpoint: Checkpoint | None = None
        self._unsynced_counts = Counts()
        self.damage = ""  # what was found wrong with the file; then this process must end
        self.generation = 0  # of the file's content
        self.stored = self._load(node_id)
        with env.begin(self._segments) as txn:
            self.usage = Usage({unpack_segment(key): unpack_row(row) for key, row in txn.cursor()})
        self.blocks = self.stored.blocks
        self.live_bytes = self.stored.live_bytes
        self.log_entries = self.stored.log_entries
        self.log_bytes = self.stored.log_bytes

    @classmethod
    def open(cls, path: Path, map_bytes: int, node_id: bytes) -> Index:
        """The index of that node, empty (`stored.position` = 0) where none can be used."""
        for attempt in (1, 2):
            try:
                path.mkdir(mode=0o700, exist_ok=True)
                env = lmdb.open(str(path), map_size=map_bytes, max_dbs=4, max_readers=64, readahead=False)
                _check_length(env, path)
                index = cls(env, node_id)
                if index.stored.format == INDEX_FORMAT and index.stored.node_id == node_id:
                    return index
                index.close()
                log.warning("index %s is of another node or format; making a new one", path)
            except (lmdb.Error, msgspec.DecodeError, struct.error) as error:
                if attempt == 2:
                    raise
                log.warning("index %s can't be used (%s); making a new one", path, error)
            cls.remove(path)
        raise AssertionError("a new index is of another node")

    @staticmethod
    def remove(path: Path) -> None:
        """Throw a closed index away: the next start makes it anew from the log."""
        for name in _LMDB_FILES:
            (path / name).unlink(missing_ok=True)

    def _load(self, node_id: bytes) -> IndexState:
        with self._env.begin(self._meta) as txn:
            raw = txn.get(_META_KEY)
        if raw is None:
            return IndexState(INDEX_FORMAT, node_id)
        return msgspec.msgpack.decode(raw, type=IndexState)

    def get(self, key: bytes) -> bytes | None:
        """The packed entry of a packed key, tombstones too, or None. For many calls use an IndexReader."""
        value = self.get_recent(key)
        if value is None:
            with self.begin() as txn:
                value = self.look_up(txn, key)
        return value

    def look_up(self, txn: lmdb.Transaction, key: bytes) -> bytes | None:
        """As `get`, from the file only. Raises IndexDamaged."""
        try:
            if is_log_key(key):
                value = cast("bytes | None", txn.get(key, db=self._log))
            else:
                value = cast("bytes | None", txn.get(key))
        except _DAMAGE as error:
            raise self._is_damaged(error) from error
        if value is not None and len(value) < ENTRY_BYTES:
            raise self._is_damaged("an entry is too short")
        return value

    def _is_damaged(self, reason: object) -> IndexDamaged:
        self.damage = str(reason)
        return IndexDamaged(f"the index is damaged: {reason}")

    def get_recent(self, key: bytes) -> bytes | None:
        """As `get`, from memory only."""
        # The order matters: an entry moves from left to right and is never missing from both (S7).
        return self._unsynced.get(key) or self._recent.get(key) or self._flushing.get(key)

    def begin(self) -> lmdb.Transaction:
        """A read transaction on the entries in the file."""
        return self._env.begin(self._blocks)

    def apply(self, entries: dict[bytes, bytes], counts: Counts, shares: Shares) -> None:
        """Show entries whose records were appended but not synced; the rest are the changes they make."""
        self._unsynced.update(entries)
        self.usage.apply(shares)
        self._unsynced_counts = Counts(*map(operator.add, self._unsynced_counts, counts))
        self._count(counts, 1)

    def _count(self, counts: Counts, sign: int) -> None:
        self.blocks += sign * counts.blocks
        self.live_bytes += sign * counts.live_bytes
        self.log_entries += sign * counts.log_entries
        self.log_bytes += sign * counts.log_bytes

    def recount(self, counts: Counts) -> None:
        """The counters as recovery found them."""
        self.blocks, self.live_bytes, self.log_entries, self.log_bytes = counts

    def synced(self) -> None:
        """The records of all applied entries are durable now."""
        if self._unsynced:
            self._recent.update(self._unsynced)
            self._unsynced = {}
            self._unsynced_counts = Counts()
            self.usage.synced()

    def forget(self, tombstones: Iterable[tuple[bytes, bytes]]) -> None:
        """Drop entries that are still these and durable: tombstones that cover nothing any more."""
        shares: Shares = {}
        for key, value in tombstones:
            # One that is not synced must stay: when it is withdrawn, what it covers shows again (S2).
            if key not in self._unsynced and self.get(key) == value:
                self._recent[key] = GONE
                count_tombstone(shares, unpack_entry(value).segment, -1)
        self.usage.apply_synced(shares)

    def keep(self, entries: dict[bytes, bytes], rows: Iterable[int]) -> None:
        """Entries of durable records for which the file has no room: for the next checkpoint."""
        self._recent.update(entries)
        self.usage.changed(rows)

    def withdraw(self) -> None:
        """Forget all entries applied since the last `synced` (S2)."""
        self.usage.withdraw()
        self._unsynced = {}
        self._count(self._unsynced_counts, -1)
        self._unsynced_counts = Counts()

    def begin_checkpoint(self, position: int, sequence: int) -> Checkpoint | None:
        """Take the recent entries for `store`; `position` is synced. None when there is nothing new.

        A checkpoint that could not be stored is given out again. Called by the writer thread.
        """
        if self._checkpoint is None:
            dropped = self.usage.leaving
            if not self._recent and not dropped:
                return None
            self._flushing = self._recent
            self._recent = {}
            counts = Counts(self.blocks, self.live_bytes, self.log_entries, self.log_bytes)
            synced = map(operator.sub, counts, self._unsynced_counts)
            state = IndexState(INDEX_FORMAT, self.stored.node_id, position, sequence, *synced)
            self._checkpoint = Checkpoint(self._flushing, state, self.usage.take_rows(), dropped)
        return self._checkpoint

    @property
    def recent_entries(self) -> int:
        """Entries in memory that the file lacks."""
        return len(self._unsynced) + len(self._recent) + len(self._flushing)

    def store(self, checkpoint: Checkpoint) -> None:
        """One synced transaction (S7). May run beside the writer thread. Raises lmdb.Error, OSError and
        IndexDamaged."""
        self.write(checkpoint.entries, checkpoint.state, checkpoint.rows, checkpoint.dropped)
        self._flushing = {}
        self._checkpoint = None

    def write(
        self,
        entries: Mapping[bytes, bytes],
        state: IndexState,
        rows: Mapping[int, bytes],
        dropped: Iterable[int] = (),
    ) -> None:
        """Put packed entries and the state they lead to into the file, durably; rows of segments, too."""
        try:
            self._write(entries, state, rows, dropped)
        except _DAMAGE as error:
            raise self._is_damaged(error) from error
        self.generation += 1
        self.stored = state

    def _write(
        self,
        entries: Mapping[bytes, bytes],
        state: IndexState,
        rows: Mapping[int, bytes],
        dropped: Iterable[int],
    ) -> None:
        # In key order LMDB finds the next page where the last one was.
        ordered = sorted(item for item in entries.items() if item[1] != GONE)
        logs = [item for item in ordered if is_log_key(item[0])]
        blocks = [item for item in ordered if not is_log_key(item[0])] if logs else ordered
        gone = [key for key, value in entries.items() if value == GONE]
        with self._env.begin(self._blocks, write=True) as txn:
            for db, mine in ((self._blocks, blocks), (self._log, logs)):
                with txn.cursor(db) as cursor:
                    for at in range(0, len(mine), _PUT_ENTRIES):
                        cursor.putmulti(mine[at : at + _PUT_ENTRIES], overwrite=True)
                        time.sleep(0)  # let the other threads have the GIL
            for key in gone:
                txn.delete(key, db=self._log if is_log_key(key) else self._blocks)
            for number, row in rows.items():
                txn.put(pack_segment(number), row, db=self._segments)
            for number in dropped:
                txn.delete(pack_segment(number), db=self._segments)
            txn.put(_META_KEY, msgspec.msgpack.encode(state), db=self._meta)

    def page(self, after: bytes, limit: int) -> tuple[list[tuple[bytes, Entry]], bool]:
        """At most `limit` live entries with a key above `after` in key order, and whether more may follow.

        An entry that changes meanwhile may show its old or its new state. Raises IndexDamaged.
        """
        try:
            return self._page(self._blocks, after, limit)
        except (*_DAMAGE, struct.error) as error:
            raise self._is_damaged(error) from error

    def log_page(self, after: bytes, limit: int) -> tuple[list[tuple[bytes, Entry]], bool]:
        """As `page`, of the catalog's log; the mark comes last, if there is one."""
        try:
            return self._page(self._log, after, limit)
        except (*_DAMAGE, struct.error) as error:
            raise self._is_damaged(error) from error

    def drop_log(self, keys: Iterable[tuple[bytes, Entry]]) -> None:
        """Leave out log entries whose records are durable, as is the mark that tells so."""
        shares: Shares = {}
        for key, entry in keys:
            self._recent[key] = GONE
            count_block(shares, entry.segment, entry.payload_length, -1)
            self._count(log_counts(key, entry.payload_length), -1)
        self.usage.apply_synced(shares)

    def _page(self, db: _Database, after: bytes, limit: int) -> tuple[list[tuple[bytes, Entry]], bool]:
        of_log = db is self._log
        unsynced = self._unsynced.copy()  # taken in the order of `get`, so that no entry slips through
        recent = self._recent.copy()
        newer = {**self._flushing, **recent, **unsynced}
        merged: list[tuple[bytes, Entry]] = []
        fresh = sorted(key for key in newer if key > after and is_log_key(key) is of_log)
        with self._env.begin(db) as txn, txn.cursor() as cursor:
            stored = cursor.iternext() if cursor.set_range(after + b"\0" if after else after) else iter(())
            for key, value in _merge(stored, fresh, newer):
                entry = unpack_entry(value)
                if entry.payload_length == TOMBSTONE:
                    continue
                if len(merged) == limit:
                    return merged, True
                merged.append((key, entry))
        return merged, False

    def tombstones(self, after: bytes, limit: int) -> tuple[list[tuple[bytes, bytes]], bytes | None]:
        """Of the next `limit` entries in the file above `after` the tombstones, packed, and the key to go on
        after; None when there are no more. Raises IndexDamaged."""
        try:
            return self._tombstones(after, limit)
        except _DAMAGE as error:
            raise self._is_damaged(error) from error

    def _tombstones(self, after: bytes, limit: int) -> tuple[list[tuple[bytes, bytes]], bytes | None]:
        found: list[tuple[bytes, bytes]] = []
        with self.begin() as txn, txn.cursor() as cursor:
            if cursor.set_range(after + b"\0" if after else after):
                stored = cast("Iterator[tuple[bytes, bytes]]", cursor.iternext())
                for at, (key, value) in enumerate(stored, start=1):
                    if is_tombstone(value):
                        found.append((key, value))
                    if at == limit:
                        return found, key
        return found, None

    def clear_stale_readers(self) -> None:
        """Free the slots of outside readers that died (they would keep old pages from being reused)."""
        self._env.reader_check()

    def close(self) -> None:
        """Close the file; recent entries that were not stored are replayed at the next start."""
        self._env.close()


def _check_length(env: lmdb.Environment, path: Path) -> None:
    """Raises lmdb.CorruptedError when the file lost its end: touching what is missing of a mapped file would
    kill the process."""
    expected = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    if (path / _LMDB_FILES[0]).stat().st_size < expected:
        env.close()
        raise lmdb.CorruptedError(f"the file has less than {expected} bytes")


def _merge(
    stored: Iterator[tuple[bytes, bytes]], fresh: list[bytes], newer: dict[bytes, bytes]
) -> Iterator[tuple[bytes, bytes]]:
    """Both in key order, the newer entry of a key only. Ends with the longer of the two."""
    at = 0
    for key, value in stored:
        while at < len(fresh) and fresh[at] < key:
            yield fresh[at], newer[fresh[at]]
            at += 1
        if at < len(fresh) and fresh[at] == key:
            yield key, newer[key]
            at += 1
        else:
            yield key, value
    for key in fresh[at:]:
        yield key, newer[key]
