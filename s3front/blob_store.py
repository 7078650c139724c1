"""From a request's body to a blob: durable on the nodes, verified, and named by no row yet (STYLE 8).

Whoever calls this commits a row that names the blob, or leaves it to the garbage queue (S11). Bytes that are to be
encrypted are sealed here, before they are coded (S24): the cluster has ciphertext only.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import NamedTuple

from catalog.model import Checksum, NewBlob
from cluster.blob_writer import BlobWriter
from cluster.errors import WriteFailed
from cluster.policies import STANDARD
from cluster.receipt import Receipt
from codec import sealing as sealed_form
from codec.block import Buffer
from s3front.body import (
    Body,
    Digests,
    hashed_stripes,
    is_unannounced,
    read_unannounced,
    sealed_stripes,
)
from s3front.encryption.data_keys import Sealing
from s3front.errors import S3Error
from s3front.request import Request
from s3front.services import FrontServices
from s3front.wire.checksums import Algorithm


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob whose bytes are durable and are what the client meant to send."""

    blob: NewBlob
    size: int
    """Bytes of plaintext; a sealed blob has more."""
    etag: str
    """Of an object or part that has these bytes, without quotes."""
    checksum: Checksum
    """To be kept with the object or part."""
    echo: Checksum
    """To be answered with."""


async def store_blob(
    services: FrontServices,
    request: Request,
    *,
    bytes_max: int,
    algorithm: Algorithm | None = None,
    sealing: Sealing | None = None,
    storage_class: str = STANDARD,
) -> StoredBlob:
    """Store the request's body, in the code of the storage class, encrypted when there is a `sealing`. `algorithm` is
    that of the checksum to keep, if not the declared one.

    Raises what Body and Digests raise, and the cluster's NotEnoughNodes and WriteFailed. On any failure the shards
    already written are queued as garbage, here or (body broken off, request cancelled) by the writer's `on_abandoned`.
    """
    digests = Digests.of_request(request, algorithm)
    how = _How(services.writer_for(storage_class), sealing)
    if is_unannounced(request):
        return await _store_unannounced(services, request, digests, how)
    body = Body(request, bytes_max)
    if how.stored_bytes(body.size) <= how.writer.geometry.stripe_bytes:
        return await _store_small(services, body, digests, how)
    return await _store_large(services, body, digests, how)


class _How(NamedTuple):
    """How bytes become a blob."""

    writer: BlobWriter
    sealing: Sealing | None

    def stored_bytes(self, size: int) -> int:
        return size if self.sealing is None else sealed_form.sealed_size(size)


async def _store_small(services: FrontServices, body: Body, digests: Digests, how: _How) -> StoredBlob:
    """At most one stripe: it is verified before its shards leave. The budget is taken before it is read (S10)."""
    budget = services.budget
    stored_bytes = how.stored_bytes(body.size)
    if not budget.try_acquire(stored_bytes):
        await budget.acquire(stored_bytes)
    try:
        data = await body.read()
        return await _store_read(services, data, body.trailers, digests, how)
    finally:
        budget.release(stored_bytes)


async def _store_unannounced(
    services: FrontServices, request: Request, digests: Digests, how: _How
) -> StoredBlob:
    """A body that does not say how long it is, of one stripe at most, which is taken from the budget."""
    budget = services.budget
    stripe_bytes = how.writer.geometry.stripe_bytes
    if not budget.try_acquire(stripe_bytes):
        await budget.acquire(stripe_bytes)
    try:
        data = await read_unannounced(request, sealed_form.plain_within(stripe_bytes))
        return await _store_read(services, data, {}, digests, how)
    finally:
        budget.release(stripe_bytes)


async def _store_read(
    services: FrontServices, data: bytes, trailers: dict[str, str], digests: Digests, how: _How
) -> StoredBlob:
    """What was read whole, once it is what the client meant."""
    size, seal = len(data), None
    digests.update(data)
    checksum = digests.verify(trailers)
    if how.sealing is not None:
        seal, sealer = how.sealing.sealer(size)
        data = sealer.seal(data)
    try:
        receipt = await how.writer.write_one(data, epoch=upload_epoch(services))
    except WriteFailed as failure:
        abandon(services, failure.receipt)
        raise
    return _stored(new_blob(receipt, seal), size, digests, checksum, how.sealing)


async def _store_large(services: FrontServices, body: Body, digests: Digests, how: _How) -> StoredBlob:
    """Stripes leave as they come in; only at the end is it known whether they are what the client meant."""
    blob = await _write_pieces(services, body.pieces(), body.size, digests, how)
    try:
        checksum = digests.verify(body.trailers)
    except S3Error:
        services.catalog.abandon(blob)
        raise
    return _stored(blob, body.size, digests, checksum, how.sealing)


async def store_pieces(
    services: FrontServices,
    pieces: AsyncIterator[Buffer],
    size: int,
    digests: Digests,
    *,
    sealing: Sealing | None = None,
    storage_class: str = STANDARD,
) -> StoredBlob:
    """Store `size` bytes that are no request's body and come in pieces of any length, hashing them on the way. Raises
    the cluster's NotEnoughNodes and WriteFailed."""
    how = _How(services.writer_for(storage_class), sealing)
    blob = await _write_pieces(services, pieces, size, digests, how)
    return _stored(blob, size, digests, digests.verify({}), sealing)


async def _write_pieces(
    services: FrontServices, pieces: AsyncIterator[Buffer], size: int, digests: Digests, how: _How
) -> NewBlob:
    stripe_bytes, threads = how.writer.geometry.stripe_bytes, services.digest_threads
    seal = None
    if how.sealing is None:
        stripes = hashed_stripes(pieces, digests, stripe_bytes, threads)
    else:
        seal, sealer = how.sealing.sealer(size)
        stripes = sealed_stripes(pieces, digests, sealer, stripe_bytes, threads)
    try:
        async with contextlib.aclosing(stripes):
            receipt = await how.writer.write(
                stripes, epoch=upload_epoch(services), size_hint=how.stored_bytes(size)
            )
    except WriteFailed as failure:
        abandon(services, failure.receipt)
        raise
    return new_blob(receipt, seal)


def _stored(
    blob: NewBlob, size: int, digests: Digests, checksum: Checksum, sealing: Sealing | None
) -> StoredBlob:
    etag = digests.md5_hex if sealing is None else sealing.etag(digests.md5_hex)
    return StoredBlob(blob, size, etag, checksum, digests.echo)


def upload_epoch(services: FrontServices) -> int:
    """The epoch of new blob ids, as last read when the request's bucket was looked up.

    One that is too old by then is refused by the commit (S19), and read anew with the next request.
    """
    return services.catalog.known_configuration.meta.upload_epoch


def new_blob(receipt: Receipt, seal: bytes | None = None) -> NewBlob:
    """The catalog's view of a written blob; `seal` is what its key was derived with, if it is sealed."""
    return receipt.as_new_blob(0 if seal is None else sealed_form.TRANSFORM, seal)


def abandon(services: FrontServices, receipt: Receipt | None) -> None:
    """Queue shards that no row will ever name. What the queue can't take is left to orphan collection (S19)."""
    if receipt is not None and receipt.stripes:
        services.catalog.abandon(new_blob(receipt))
