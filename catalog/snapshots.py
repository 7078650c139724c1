"""Snapshots of the embedded catalog for the storage nodes, and the way back (S17).

A snapshot is a copy of the file as of one moment, compressed, in chunks of at most CHUNK_BYTES_MAX:

    "TVCS", version u8, flags u8 (1: the last one), catalog id (16), term u64, batch u64 (big-endian)
    in the last one: bytes of the file u64, SHA-256 of the file
    then the next piece of one zlib stream
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from catalog import outbox, sqlite
from catalog.backup import backup
from catalog.log_records import CHUNK_BYTES_MAX
from catalog.statement import Reader

VERSION = 1
_MAGIC = b"TVCS"
_LAST = 1
_HEADER = struct.Struct(">4sBB16sQQ")
_END = struct.Struct(">Q32s")
_PIECE_BYTES = CHUNK_BYTES_MAX - _HEADER.size - _END.size
_READ_BYTES = 1 << 20
_LEVEL = 1  # the log is short-lived: 150 MB/s matter more than a fifth of the size


class SnapshotDamaged(Exception):
    """The chunks are no snapshot, or one of a later format, or do not belong together."""


class ChunkHeader(NamedTuple):
    """What a chunk says of itself."""

    catalog_id: bytes
    term: int
    batch: int
    is_last: bool


def make_snapshot(path: Path) -> tuple[int, int, Iterator[bytes]]:
    """The batch and the term of the catalog at `path` as of now, and the chunks of a checked copy, to be taken at once;
    others may read and write meanwhile. The copy lies beside the catalog and is gone when the last chunk was taken.
    Blocks for long: call it, and take each chunk, in a thread. Raises CatalogRefused, CatalogFailed."""
    copy = path.with_name(f"{path.stem}.snapshot")
    copy.unlink(missing_ok=True)  # of a process that died
    backup(path, copy)
    try:
        with sqlite.finished_file(copy) as connection:
            at = outbox.position(Reader(connection.cursor(), sqlite.DIALECT))
        file = copy.open("rb")
    finally:
        copy.unlink()
    return at.batch, at.term, _chunks(file, at)


def _chunks(file: BinaryIO, at: outbox.Position) -> Iterator[bytes]:
    def header(flags: int) -> bytes:
        return _HEADER.pack(_MAGIC, VERSION, flags, at.catalog_id, at.term, at.batch)

    with file:
        digest, deflate, nbytes = hashlib.sha256(), zlib.compressobj(_LEVEL), 0
        growing = bytearray()
        while raw := file.read(_READ_BYTES):
            nbytes += len(raw)
            digest.update(raw)
            growing += deflate.compress(raw)
            while len(growing) > _PIECE_BYTES:
                yield header(0) + growing[:_PIECE_BYTES]
                del growing[:_PIECE_BYTES]
        growing += deflate.flush()
        while len(growing) > _PIECE_BYTES:
            yield header(0) + growing[:_PIECE_BYTES]
            del growing[:_PIECE_BYTES]
        yield header(_LAST) + _END.pack(nbytes, digest.digest()) + growing


def chunk_header(chunk: bytes) -> ChunkHeader:
    """Raises SnapshotDamaged."""
    if len(chunk) < _HEADER.size:
        raise SnapshotDamaged(f"{len(chunk)} bytes are no chunk of a snapshot")
    magic, version, flags, catalog_id, term, batch = _HEADER.unpack_from(chunk)
    if magic != _MAGIC:
        raise SnapshotDamaged("this is no chunk of a snapshot")
    if version != VERSION:
        raise SnapshotDamaged(f"a snapshot of format {version}, this release knows {VERSION}")
    return ChunkHeader(catalog_id, term, batch, flags == _LAST)


def write_file(chunks: Iterable[bytes], target: Path) -> None:
    """Make the file of a whole snapshot's chunks, in order, in the empty file `target`. Raises SnapshotDamaged."""
    digest, inflate, nbytes = hashlib.sha256(), zlib.decompressobj(), 0
    expected: tuple[int, bytes] | None = None
    with target.open("wb") as file:
        for chunk in chunks:
            start = _HEADER.size
            if chunk_header(chunk).is_last:
                expected = _END.unpack_from(chunk, start)
                start += _END.size
            compressed = chunk[start:]
            while compressed:
                try:
                    raw = inflate.decompress(compressed, _READ_BYTES)
                except zlib.error as error:
                    raise SnapshotDamaged(f"the snapshot can't be unpacked: {error}") from error
                nbytes += len(raw)
                digest.update(raw)
                file.write(raw)
                compressed = inflate.unconsumed_tail
        raw = inflate.flush()
        nbytes += len(raw)
        digest.update(raw)
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    if expected != (nbytes, digest.digest()):
        raise SnapshotDamaged("the snapshot is not what was made: its length or digest differs")
