"""What a front does with a body before it commits anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from cluster.errors import WriteFailed
from cluster.receipt import Receipt
from s3front.blob_store import new_blob
from tests.sim.processes import SimFront


async def written(front: SimFront, body: bytes, pause_s: float) -> Receipt:
    """Durable, but nothing names it yet. Raises WriteFailed and its kin. With `pause_s` the client is slow."""
    epoch = front.catalog.known_configuration.meta.upload_epoch
    stripe_bytes = front.surroundings.geometry.stripe_bytes
    try:
        if len(body) <= stripe_bytes and not pause_s:
            return await front.writer.write_one(body, epoch=epoch)
        pieces = _pieces_of(body, stripe_bytes, pause_s)
        return await front.writer.write(pieces, epoch=epoch, size_hint=len(body))
    except WriteFailed as failure:
        if failure.receipt is not None and failure.receipt.stripes:
            front.catalog.abandon(new_blob(failure.receipt))
        raise


async def _pieces_of(body: bytes, stripe_bytes: int, pause_s: float) -> AsyncIterator[bytes]:
    """A body as it comes from a client that is in no hurry."""
    for at in range(0, len(body), stripe_bytes):
        if pause_s:
            await asyncio.sleep(pause_s)
        yield body[at : at + stripe_bytes]
