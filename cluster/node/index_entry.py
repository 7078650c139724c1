"""The value of an index entry (see `index`): where the newest record of a key lies, and where covered ones may."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from cluster.log_names import MARK_INDEX_KEY
from codec.block import KEY_BYTES

TOMBSTONE: Final = 0xFFFFFFFF
_VALUE: Final = struct.Struct("<IIIQ")
_SEGMENT: Final = struct.Struct("<I")
_TOMBSTONE_LENGTH: Final = TOMBSTONE.to_bytes(4, "little")
ENTRY_BYTES: Final = _VALUE.size
"""Of a packed entry, at least."""


class Entry(NamedTuple):
    """Place of the newest record of a key; `payload_length` is TOMBSTONE when it is deleted."""

    segment: int
    offset: int
    payload_length: int
    sequence: int


pack_entry = _VALUE.pack
GONE: Final = pack_entry(0, 0, TOMBSTONE, 0)  # in memory: a tombstone that needs not be in the file any more


def unpack_entry(value: bytes) -> Entry:
    """Inverse of `pack_entry`; whatever `older` says."""
    return Entry(*_VALUE.unpack_from(value))


def is_tombstone(value: bytes) -> bool:
    """Without unpacking the rest."""
    return value[8:12] == _TOMBSTONE_LENGTH


def older_of(value: bytes) -> tuple[int, ...]:
    """The segments where covered records of the key may lie."""
    return struct.unpack_from(f"<{(len(value) - _VALUE.size) // 4}I", value, _VALUE.size)


def pack_older(segments: Iterable[int]) -> bytes:
    """What follows `pack_entry` of the entry that covers them."""
    chosen = sorted(set(segments))
    return struct.pack(f"<{len(chosen)}I", *chosen)


def covered(value: bytes, is_there: Callable[[int], bool]) -> bytes:
    """The packed `older` of an entry that is to cover `value`."""
    (segment,) = _SEGMENT.unpack_from(value)
    return pack_older(filter(is_there, (segment, *older_of(value))))


def is_needed(value: bytes, is_there: Callable[[int], bool]) -> bool:
    """Whether a tombstone must be kept: a record that it covers may lie in another segment than its own.

    One in its own segment comes back, and goes, together with it.
    """
    (segment,) = _SEGMENT.unpack_from(value)
    return any(number != segment and is_there(number) for number in older_of(value))


class Counts(NamedTuple):
    """What a change does to the counters of a node; payload bytes."""

    blocks: int = 0
    live_bytes: int = 0
    log_entries: int = 0
    log_bytes: int = 0


def log_counts(key: bytes, payload_length: int) -> Counts:
    """What a log entry counts; the mark is none."""
    return Counts() if key == MARK_INDEX_KEY else Counts(log_entries=1, log_bytes=payload_length)


assert ENTRY_BYTES == 20 and KEY_BYTES == 21  # noqa: PT018 - the layout promised to outside readers
