"""The record of a group commit: what makes the next state of a catalog out of the one before (S17).

It holds the statements that changed something, with parameters and outcome. Run again on the same state they give the
same state; what can be seen of that, row counts and returned rows, is compared.

    version u8, catalog id (16), term u64, batch u64, previous term u64, previous batch u64 (big-endian),
    then msgpack of `Changes`

The previous ones are those of the batch before, whichever process made it. So records form a chain, and what is no part
of it can be told: what a catalog that was replaced has left behind, and a batch that came to the nodes and was not
committed (`Replication`).
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

VERSION = 1
UNLOGGED = 0
"""As previous term: what was before this record is in no log."""

_HEADER = struct.Struct(">B16sQQQQ")


class RecordDamaged(Exception):
    """The bytes are no record, or one of a later format."""


class Header(NamedTuple):
    """Where a record stands in the chain."""

    catalog_id: bytes
    term: int
    batch: int
    previous_term: int
    previous_batch: int


class Step(Struct, frozen=True, array_like=True):
    """One statement: the number of its text, its parameters, and how many rows it changed or which it returned."""

    text: int
    parameters: tuple[Any, ...]  # each int, str, bytes or None, which msgspec can't check
    outcome: int | list[tuple[Any, ...]]


class Changes(Struct, frozen=True, array_like=True):
    """What the batch did. `revision` is the schema that the statements are of; `created_ms` is the catalog's, which is
    made anew when the log begins with its first batch."""

    cluster_id: bytes
    created_ms: int
    revision: str
    clock_ms: int
    texts: list[str]
    steps: list[Step]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Changes).decode


def pack(header: Header, changes: Changes) -> bytes:
    """The bytes of a record."""
    return _HEADER.pack(VERSION, *header) + _encode(changes)


def header_of(record: bytes) -> Header:
    """Raises RecordDamaged."""
    if len(record) < _HEADER.size:
        raise RecordDamaged(f"{len(record)} bytes are no record of a group commit")
    version, *fields = _HEADER.unpack_from(record)
    if version != VERSION:
        raise RecordDamaged(f"a record of format {version}, this release knows {VERSION}")
    return Header(*fields)


def changes_of(record: bytes) -> Changes:
    """Of a record whose header was read. Raises RecordDamaged."""
    try:
        return _decode(memoryview(record)[_HEADER.size :])
    except msgspec.DecodeError as error:
        raise RecordDamaged(f"the record of a group commit can't be read: {error}") from error
