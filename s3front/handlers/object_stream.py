"""The bytes of an object as a stream, whether it is one blob or a manifest of parts."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing

from catalog import lookup
from catalog.model import BlobRow, PartRef
from cluster.blob_reader import BlobStream
from cluster.errors import BlobUnreadable
from codec.block import Buffer
from codec.sealing import TRANSFORM
from s3front.encryption.opening import OpenedStream
from s3front.response import Rest
from s3front.services import FrontServices

PARTS_PER_LOOKUP = 64
"""Blob rows of a manifest are fetched this many at a time, so that 10,000 parts never sit in memory (P8)."""

JOINED_BYTES_MAX = 64 << 10
"""Up to here copying the shards' bytes together costs less than one more write to the connection."""


def part_spans(manifest: tuple[PartRef, ...], start: int, stop: int) -> Iterator[tuple[PartRef, int, int]]:
    """The parts that hold bytes [start, stop) of the object, each with its own range of bytes."""
    offset = 0
    for part in manifest:
        first, last = max(start - offset, 0), min(stop - offset, part.size)
        if first < last:
            yield part, first, last
        offset += part.size
        if offset >= stop:
            return


async def open_pieces(
    services: FrontServices, blob: BlobRow, start: int, stop: int, key: bytes | None = None
) -> tuple[Sequence[Buffer], Rest | None]:
    """Bytes [start, stop) of an object: the first stripe's pieces, verified, and what is still to come, if anything.
    `key` is the data key of an encrypted object (s3front.encryption.requests).

    `start < stop`. Raises BlobUnreadable and catalog errors while nothing has been promised to the client.
    """
    if blob.manifest is not None:
        rest = object_pieces(services, blob, start, stop, key)
        return (await anext(rest),), rest
    stream = _opened(services, blob, start, stop, key)
    try:
        first = await stream.next()
    except BaseException:
        stream.close()
        raise
    assert first is not None, "a range with bytes has a first stripe"
    missing = stop - start - sum([len(piece) for piece in first])
    if missing:
        return first, StreamPieces(stream)
    stream.close()
    return (first if stop - start > JOINED_BYTES_MAX else (b"".join(first),)), None


def _opened(
    services: FrontServices, blob: BlobRow, start: int, stop: int, key: bytes | None
) -> BlobStream | OpenedStream:
    """A blob's plain bytes, whatever is stored of them."""
    if blob.transform == 0 and key is None:
        return services.reader.open(blob, start, stop)
    if blob.transform != TRANSFORM or key is None:
        # Also plain bytes of an object that calls itself encrypted: that must not pass unnoticed.
        raise BlobUnreadable(
            blob.id, 0, f"its transform is {blob.transform}, its object's encryption another"
        )
    return OpenedStream(services.reader, blob, start, stop, data_key=key, threads=services.digest_threads)


async def object_pieces(
    services: FrontServices, blob: BlobRow, start: int, stop: int, key: bytes | None = None
) -> AsyncGenerator[Buffer]:
    """Verified pieces of bytes [start, stop) of an object, in order; `key` as of `open_pieces`. Raises BlobUnreadable
    and catalog errors."""
    if blob.manifest is None:
        spans = [(blob, start, stop)]
        async with aclosing(_blobs_pieces(services, spans, key)) as pieces:
            async for piece in pieces:
                yield piece
        return
    parts = list(part_spans(blob.manifest, start, stop))
    for at in range(0, len(parts), PARTS_PER_LOOKUP):
        group = parts[at : at + PARTS_PER_LOOKUP]
        rows = await lookup.blobs_by_id(services.catalog, [part.blob_id for part, _, _ in group])
        for part, _, _ in group:
            if part.blob_id not in rows:
                raise BlobUnreadable(part.blob_id, 0, "a part's blob is not in the catalog")
        spans = [(rows[part.blob_id], first, last) for part, first, last in group]
        async with aclosing(_blobs_pieces(services, spans, key)) as pieces:
            async for piece in pieces:
                yield piece


async def _blobs_pieces(
    services: FrontServices, spans: list[tuple[BlobRow, int, int]], key: bytes | None
) -> AsyncGenerator[Buffer]:
    for blob, start, stop in spans:
        async with aclosing(StreamPieces(_opened(services, blob, start, stop, key))) as pieces:
            async for piece in pieces:
                yield piece


class StreamPieces:
    """The pieces of a blob stream one by one.

    Not a generator: one that was never started would not run its clean-up when it is closed, and the stream holds
    budget for the stripe it has handed out already.
    """

    def __init__(self, stream: BlobStream | OpenedStream) -> None:
        self._stream = stream
        self._pieces: deque[Buffer] = deque()

    def __aiter__(self) -> StreamPieces:
        return self

    async def __anext__(self) -> Buffer:
        while not self._pieces:
            pieces = await self._stream.next()
            if pieces is None:
                raise StopAsyncIteration
            self._pieces.extend(pieces)
        return self._pieces.popleft()

    async def aclose(self) -> None:
        """Give the stream's budget back."""
        self._stream.close()
