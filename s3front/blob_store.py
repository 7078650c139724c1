"""From a request's body to a blob: durable on the nodes, verified, and named by no row yet (STYLE 8).

Whoever calls this commits a row that names the blob, or leaves it to the garbage queue (S11).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from catalog.model import Checksum, NewBlob
from cluster.errors import WriteFailed
from cluster.receipt import Receipt
from codec.block import Buffer
from s3front.body import Body, Digests, hashed_stripes
from s3front.errors import S3Error
from s3front.request import Request
from s3front.services import FrontServices
from s3front.wire.checksums import Algorithm


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob whose bytes are durable and are what the client meant to send."""

    blob: NewBlob
    md5_hex: str
    checksum: Checksum
    """To be kept with the object or part."""
    echo: Checksum
    """To be answered with."""


async def store_blob(
    services: FrontServices, request: Request, *, bytes_max: int, algorithm: Algorithm | None = None
) -> StoredBlob:
    """Store the request's body. `algorithm` is that of the checksum to keep, if not the declared one.

    Raises what Body and Digests raise, and the cluster's NotEnoughNodes and WriteFailed. On any failure the shards
    already written are queued as garbage, here or (body broken off, request cancelled) by the writer's `on_abandoned`.
    """
    digests = Digests.of_request(request, algorithm)
    body = Body(request, bytes_max)
    if body.size <= services.writer.geometry.stripe_bytes:
        return await _store_small(services, body, digests)
    return await _store_large(services, body, digests)


async def _store_small(services: FrontServices, body: Body, digests: Digests) -> StoredBlob:
    """At most one stripe: it is verified before its shards leave. The budget is taken before it is read (S10)."""
    budget = services.budget
    if not budget.try_acquire(body.size):
        await budget.acquire(body.size)
    try:
        data = await body.read()
        digests.update(data)
        checksum = digests.verify(body.trailers)
        receipt = await services.writer.write_one(data, epoch=upload_epoch(services))
    except WriteFailed as failure:
        abandon(services, failure.receipt)
        raise
    finally:
        budget.release(body.size)
    return StoredBlob(new_blob(receipt), digests.md5_hex, checksum, digests.echo)


async def _store_large(services: FrontServices, body: Body, digests: Digests) -> StoredBlob:
    """Stripes leave as they come in; only at the end is it known whether they are what the client meant."""
    receipt = await write_pieces(services, body.pieces(), body.size, digests)
    try:
        checksum = digests.verify(body.trailers)
    except S3Error:
        abandon(services, receipt)
        raise
    return StoredBlob(new_blob(receipt), digests.md5_hex, checksum, digests.echo)


async def write_pieces(
    services: FrontServices, pieces: AsyncIterator[Buffer], size: int, digests: Digests
) -> Receipt:
    """Write `size` bytes that come in pieces of any length, hashing them on the way. Raises WriteFailed."""
    stripes = hashed_stripes(pieces, digests, services.writer.geometry.stripe_bytes, services.digest_threads)
    try:
        async with contextlib.aclosing(stripes):
            return await services.writer.write(stripes, epoch=upload_epoch(services), size_hint=size)
    except WriteFailed as failure:
        abandon(services, failure.receipt)
        raise


def upload_epoch(services: FrontServices) -> int:
    """The epoch of new blob ids, as last read when the request's bucket was looked up.

    One that is too old by then is refused by the commit (S19), and read anew with the next request.
    """
    return services.catalog.known_configuration.meta.upload_epoch


def new_blob(receipt: Receipt) -> NewBlob:
    """The catalog's view of a written blob."""
    return NewBlob(
        id=receipt.blob_id,
        size=receipt.size,
        k=receipt.k,
        m=receipt.m,
        stripe_bytes=receipt.stripe_bytes,
        nodes=receipt.nodes,
        stripes=receipt.stripes,
        runs=receipt.runs,
    )


def abandon(services: FrontServices, receipt: Receipt | None) -> None:
    """Queue shards that no row will ever name. What the queue can't take is left to orphan collection (S19)."""
    if receipt is not None and receipt.stripes:
        services.catalog.abandon(new_blob(receipt))
