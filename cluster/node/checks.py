"""What a request must look like before anything is done for it (S25: a peer may be of another release)."""

from __future__ import annotations

import struct
from typing import Final

from cluster.wire import (
    DELETE_BLOCKS_MAX,
    INVENTORY_MAX,
    VERIFY_BLOCKS_MAX,
    Damaged,
    DeleteBlocks,
    Fence,
    Inventory,
    VerifyBlocks,
)
from codec.block import KEY_BYTES

_KEY: Final = struct.Struct(">16sIB")


class BadRequest(Exception):
    """A request that makes no sense; the peer has a bug."""


def packed_key(blob: bytes, stripe: int, shard: int) -> bytes:
    """The packed block key. Raises BadRequest."""
    if len(blob) != 16:
        raise BadRequest("a blob id has 16 bytes")
    try:
        return _KEY.pack(blob, stripe, shard)
    except struct.error as error:
        raise BadRequest(f"not a block key: {error}") from None


def check_delete(message: DeleteBlocks) -> None:
    """Raises BadRequest."""
    check_fence(message)
    if len(message.blocks) > DELETE_BLOCKS_MAX:
        raise BadRequest(f"{len(message.blocks)} blocks in one delete")
    if any(len(key) != KEY_BYTES or not 0 <= copy < 1 << 64 for key, copy in message.blocks):
        raise BadRequest("not a block key or a sequence")


def check_fence(message: Fence | DeleteBlocks) -> None:
    """Raises BadRequest."""
    if len(message.catalog_id) != 16 or not 0 <= message.term < 1 << 63:
        raise BadRequest("not a catalog id or a term")


def check_page(message: Inventory | Damaged) -> None:
    """Raises BadRequest."""
    if len(message.after) not in (0, KEY_BYTES) or not 0 < message.limit <= INVENTORY_MAX:
        raise BadRequest("not a page of blocks")


def check_verify(message: VerifyBlocks) -> None:
    """Raises BadRequest."""
    if len(message.keys) > VERIFY_BLOCKS_MAX or any(len(key) != KEY_BYTES for key in message.keys):
        raise BadRequest("not a list of block keys")
