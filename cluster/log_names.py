"""The names of catalog log entries (S17), and where such a record lies among the keys. Loaded by nodes.

A record of type CATALOG_LOG carries its name in the fields of a block key:

    blob    term u64, batch u64, both big-endian
    stripe  kind u8 << 24 | chunk u24
    shard   0

So packed keys are in the order (term, batch, kind, chunk): the order of the catalog's life, a batch before the snapshot
that contains it. A node's index keeps such keys apart from those of blocks by a byte behind them.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from codec.block import KEY_BYTES, BlockKey, RecordType, pack_key, unpack_key

BATCH: Final = 0
SNAPSHOT: Final = 1
_KINDS: Final = frozenset((BATCH, SNAPSHOT))
CHUNK_MAX: Final = (1 << 24) - 1
PIECE_BYTES: Final = 1 << 20  # of one entry; a larger batch comes in several
PIECES_MAX: Final = 1 << 12

_BLOB: Final = struct.Struct(">QQ")
_LOG: Final = int(RecordType.CATALOG_LOG)
_SUFFIX: Final = b"L"

MARK_KEY: Final = b"\xff" * 20 + b"\0"
"""Packed key of a node's own record of what was trimmed; its payload is the packed key of the first name that was not.
Behind all names."""


class LogEntryName(NamedTuple):
    """One batch of the catalog (or a piece of a large one, see `piece_name`), or a chunk of the snapshot that holds all
    batches up to `batch`."""

    kind: int
    term: int
    batch: int
    chunk: int


def pack_name(name: LogEntryName) -> bytes:
    """The packed key of that entry. Raises ValueError when there can't be such a name."""
    kind, term, batch, chunk = name
    if kind not in _KINDS or not 0 <= chunk <= CHUNK_MAX:
        raise ValueError(f"not the name of a log entry: {name}")
    try:
        return pack_key(BlockKey(_BLOB.pack(term, batch), kind << 24 | chunk, 0))
    except struct.error as error:
        raise ValueError(f"not the name of a log entry: {error}") from None


def unpack_name(packed: bytes) -> LogEntryName:
    """Inverse of `pack_name`; what follows the key in an index key may be there."""
    blob, stripe, _ = unpack_key(packed[:KEY_BYTES])
    term, batch = _BLOB.unpack(blob)
    return LogEntryName(stripe >> 24, term, batch, stripe & CHUNK_MAX)


def piece_name(term: int, batch: int, piece: int, pieces: int) -> LogEntryName:
    """The name of one of the pieces of a batch; that of an only one has chunk 0. Raises ValueError."""
    if not 0 <= piece < pieces <= PIECES_MAX:
        raise ValueError(f"piece {piece} of {pieces}")
    return LogEntryName(BATCH, term, batch, pieces - 1 << 12 | piece)


def pieces_of(chunk: int) -> int:
    """How many pieces a batch has, one of which has that `chunk`."""
    return (chunk >> 12) + 1


def index_key(kind: int, packed: bytes) -> bytes:
    """What the node's index calls a record of that type with that packed key."""
    return packed + _SUFFIX if kind == _LOG else packed


def is_log_key(key: bytes) -> bool:
    """Whether an index key is that of a log entry, or of the mark."""
    return len(key) != KEY_BYTES


MARK_INDEX_KEY: Final = index_key(_LOG, MARK_KEY)
