"""How much of each segment is still alive: what the compaction chooses by.

A segment's share counts records that the index names: live blocks and log entries, with all bytes of their records,
and tombstones. The changes of records that are not synced yet are kept apart, so that a failed sync takes them
back (S2). Rows are stored with the index entries in one transaction; in database `segments`, key = segment
u32 big-endian, value little-endian:

     0        4                12           16      17
    +--------+----------------+------------+-------+
    | blocks | bytes of their | tombstones | flags |
    |        | records        |            |       |
    +--------+----------------+------------+-------+

flags: 1 = sealed, its file ends with a whole key table; 2 = unread, a start could not read it, so what it holds
is not known. A segment without a row that the index should know was dropped: its file goes at the next start.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from cluster.node.segment import TABLE_ENTRY_BYTES
from codec.block import record_bytes

_TOMBSTONE_BYTES: Final = record_bytes(0)
_ROW: Final = struct.Struct("<IQIB")
_KEY: Final = struct.Struct(">I")
_SEALED: Final = 1
_UNREAD: Final = 2

Shares = dict[int, list[int]]  # segment -> changes of (blocks, bytes, tombstones)


@dataclass(slots=True)
class Use:
    """What of a segment is alive."""

    blocks: int = 0
    nbytes: int = 0
    tombstones: int = 0
    sealed: bool = False
    unread: bool = False

    @property
    def live_bytes(self) -> int:
        """Bytes that would have to be moved for the segment to go, and listed in a key table."""
        return (
            self.nbytes
            + self.tombstones * _TOMBSTONE_BYTES
            + (self.blocks + self.tombstones) * TABLE_ENTRY_BYTES
        )

    def copy(self) -> Use:
        """The use as it is now."""
        return replace(self)

    def add(self, share: list[int], sign: int = 1) -> None:
        """Apply a change, or take it back."""
        self.blocks += sign * share[0]
        self.nbytes += sign * share[1]
        self.tombstones += sign * share[2]


def count_block(shares: Shares, segment: int, payload_length: int, count: int = 1) -> None:
    """Note that a segment gets a live block or log entry, or loses one (count = -1)."""
    share = shares.get(segment)
    if share is None:
        share = shares[segment] = [0, 0, 0]
    share[0] += count
    share[1] += count * record_bytes(payload_length)


def count_tombstone(shares: Shares, segment: int, count: int = 1) -> None:
    """Note that a segment gets a tombstone that counts, or loses one."""
    share = shares.get(segment)
    if share is None:
        share = shares[segment] = [0, 0, 0]
    share[2] += count


def pack_row(use: Use) -> bytes:
    """A use as it is stored."""
    flags = _SEALED * use.sealed | _UNREAD * use.unread
    return _ROW.pack(use.blocks, use.nbytes, use.tombstones, flags)


def unpack_row(row: bytes) -> Use:
    """Inverse of `pack_row`."""
    blocks, nbytes, tombstones, flags = _ROW.unpack(row)
    return Use(blocks, nbytes, tombstones, bool(flags & _SEALED), bool(flags & _UNREAD))


def pack_segment(number: int) -> bytes:
    """Key of a segment's row."""
    return _KEY.pack(number)


def unpack_segment(key: bytes) -> int:
    """Inverse of `pack_segment`."""
    (number,) = _KEY.unpack(key)
    return int(number)


class Usage:
    """The uses of all segments. Changed by the writer thread; `of` and `numbers` by any."""

    def __init__(self, stored: dict[int, Use]) -> None:
        self._uses = stored
        self._unsynced: Shares = {}
        self._dirty: set[int] = set()
        # Dropped segments whose files are not durably gone yet: their records may still come back with a
        # lost index, so they count as there.
        self.leaving: frozenset[int] = frozenset()

    def of(self, number: int) -> Use | None:
        """The use of a segment that was not dropped."""
        return self._uses.get(number)

    def numbers(self) -> list[int]:
        """All segments that were not dropped, rising."""
        return sorted(self._uses.copy())

    @property
    def tombstones(self) -> int:
        """How many there are in all segments."""
        return sum(use.tombstones for use in list(self._uses.values()))

    def is_there(self, number: int) -> bool:
        """Whether records may be found in a segment's file, now or after a crash."""
        return number in self._uses or number in self.leaving

    def begin(self, number: int) -> None:
        """A new segment."""
        self._uses[number] = Use()
        self._dirty.add(number)

    def mark(self, number: int, *, sealed: bool = False, unread: bool = False) -> None:
        """What is known of a segment's file."""
        use = self._uses[number]
        use.sealed, use.unread = sealed, unread
        self._dirty.add(number)

    def apply(self, shares: Shares) -> None:
        """Changes by records that are not synced."""
        for number, share in shares.items():
            self._add(number, share)
            mine = self._unsynced.setdefault(number, [0, 0, 0])
            for at, change in enumerate(share):
                mine[at] += change

    def apply_synced(self, shares: Shares) -> None:
        """Changes that no failed sync may take back."""
        for number, share in shares.items():
            self._add(number, share)

    def _add(self, number: int, share: list[int]) -> None:
        use = self._uses.get(number)
        if use is not None:  # the entry of a tombstone may name a segment that is gone
            use.add(share)
            self._dirty.add(number)

    def synced(self) -> None:
        """The records of all changes are durable."""
        self._unsynced = {}

    def withdraw(self) -> None:
        """Take back what was applied since the last `synced` (S2)."""
        for number, share in self._unsynced.items():
            use = self._uses.get(number)
            if use is not None:
                use.add(share, -1)
        self._unsynced = {}

    def drop(self, number: int) -> None:
        """Nothing is alive in a segment any more; it leaves with the next checkpoint."""
        use = self._uses.pop(number, None)
        assert use is None or not use.live_bytes, "a segment with live records was dropped"
        self._dirty.discard(number)
        self.leaving |= {number}

    def gone(self, numbers: Iterable[int]) -> None:
        """The files of dropped segments are durably gone."""
        self.leaving -= frozenset(numbers)

    def changed(self, numbers: Iterable[int]) -> None:
        """Rows that were taken, but not stored."""
        self._dirty |= set(numbers)

    def take_rows(self) -> dict[int, bytes]:
        """The rows changed since the last call, as of the last sync."""
        rows = {}
        for number in self._dirty:
            use = self._uses[number]
            unsynced = self._unsynced.get(number)
            if unsynced is not None:
                use.add(unsynced, -1)
            rows[number] = pack_row(use)
            if unsynced is not None:
                use.add(unsynced)
        self._dirty = set(self._unsynced) & self._uses.keys()
        return rows
