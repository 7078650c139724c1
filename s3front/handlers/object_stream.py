"""The bytes of an object as a stream, whether it is one blob or a manifest of parts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING

from catalog import objects
from catalog.model import BlobRow, PartRef
from cluster.errors import BlobUnreadable
from s3front.services import FrontServices

if TYPE_CHECKING:
    from typing_extensions import Buffer

PARTS_PER_LOOKUP = 64
"""Blob rows of a manifest are fetched this many at a time, so that 10,000 parts never sit in memory (P8)."""


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


async def object_pieces(
    services: FrontServices, blob: BlobRow, start: int, stop: int
) -> AsyncGenerator[Buffer]:
    """Verified pieces of bytes [start, stop) of an object, in order.

    Raises BlobUnreadable and catalog errors; before the first piece nothing has been promised to the client.
    """
    if blob.manifest is None:
        async with aclosing(_blob_pieces(services, blob, start, stop)) as pieces:
            async for piece in pieces:
                yield piece
        return
    spans = list(part_spans(blob.manifest, start, stop))
    for at in range(0, len(spans), PARTS_PER_LOOKUP):
        group = spans[at : at + PARTS_PER_LOOKUP]
        rows = await objects.blobs_by_id(services.catalog, [part.blob_id for part, _, _ in group])
        for part, first, last in group:
            row = rows.get(part.blob_id)
            if row is None:
                raise BlobUnreadable(part.blob_id, 0, "a part's blob is not in the catalog")
            async with aclosing(_blob_pieces(services, row, first, last)) as pieces:
                async for piece in pieces:
                    yield piece


async def _blob_pieces(
    services: FrontServices, blob: BlobRow, start: int, stop: int
) -> AsyncGenerator[Buffer]:
    stream = services.reader.open(blob, start, stop)
    try:
        while (pieces := await stream.next()) is not None:
            for piece in pieces:
                yield piece
    finally:
        stream.close()
