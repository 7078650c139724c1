"""What a request must look like before anything is done for it (S25: a peer may be of another release)."""

from __future__ import annotations

import struct
from typing import Final

from cluster.log_names import LogEntryName, pack_name
from cluster.node.group import check_put
from cluster.wire import (
    APPEND_LOG_MAX,
    DELETE_BLOCKS_MAX,
    INVENTORY_MAX,
    LOG_STATUS_MAX,
    VERIFY_BLOCKS_MAX,
    AppendLog,
    Buffer,
    Damaged,
    DeleteBlocks,
    Fence,
    Inventory,
    LogStatusRequest,
    Message,
    Op,
    TrimLog,
    VerifyBlocks,
    decode_append_log,
    decode_delete_blocks,
    decode_fence,
    decode_put_block,
    decode_sync,
    decode_trim_log,
)
from codec.block import KEY_BYTES, PAYLOAD_BYTES_MAX, page_checksums

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


def check_fence(message: Fence | DeleteBlocks | AppendLog | TrimLog) -> None:
    """Raises BadRequest."""
    if len(message.catalog_id) != 16 or not 0 <= message.term < 1 << 63:
        raise BadRequest("not a catalog id or a term")


def decode_write(op: Op, header: bytes, payload: Buffer) -> Message:
    """The message of a request that changes the log. Raises BadRequest and msgspec.DecodeError."""
    if op == Op.PUT_BLOCK:
        put = decode_put_block(header)
        wrong = check_put(put, payload)
        if wrong is not None:
            raise BadRequest(wrong)
        return put
    if op == Op.DELETE_BLOCKS:
        delete = decode_delete_blocks(header)
        check_delete(delete)
        return delete
    if op == Op.APPEND_LOG:
        append = decode_append_log(header)
        check_append(append, payload)
        return append
    if op == Op.TRIM_LOG:
        trim = decode_trim_log(header)
        check_fence(trim)
        check_name(*trim.keep)
        return trim
    if op == Op.SYNC:
        return decode_sync(header)
    fence = decode_fence(header)
    check_fence(fence)
    return fence


def check_append(message: AppendLog, payload: Buffer) -> None:
    """Raises BadRequest; verifies the pages that the sender computed (S6)."""
    check_fence(message)
    if not 0 < len(message.entries) <= APPEND_LOG_MAX:
        raise BadRequest(f"{len(message.entries)} log entries in one append")
    names = set()
    view, at = memoryview(payload), 0
    for kind, term, batch, chunk, length, pages in message.entries:
        names.add(check_name(kind, term, batch, chunk))
        part = view[at : at + length] if 0 < length <= PAYLOAD_BYTES_MAX else b""
        if not part or len(part) != length or page_checksums(part) != pages:
            raise BadRequest("log entries do not match their page checksums")
        at += length
    if at != len(payload) or len(names) != len(message.entries):
        raise BadRequest("log entries and payload disagree")


def check_name(kind: int, term: int, batch: int, chunk: int) -> bytes:
    """The packed name of a log entry. Raises BadRequest."""
    try:
        return pack_name(LogEntryName(kind, term, batch, chunk))
    except ValueError as error:
        raise BadRequest(str(error)) from None


def check_log_status(message: LogStatusRequest) -> None:
    """Raises BadRequest."""
    if len(message.after) not in (0, KEY_BYTES) or not 0 <= message.limit <= LOG_STATUS_MAX:
        raise BadRequest("not a page of log entries")


def check_page(message: Inventory | Damaged) -> None:
    """Raises BadRequest."""
    if len(message.after) not in (0, KEY_BYTES) or not 0 < message.limit <= INVENTORY_MAX:
        raise BadRequest("not a page of blocks")


def check_verify(message: VerifyBlocks) -> None:
    """Raises BadRequest."""
    if len(message.keys) > VERIFY_BLOCKS_MAX or any(len(key) != KEY_BYTES for key in message.keys):
        raise BadRequest("not a list of block keys")
