"""From a request's body to a blob: durable on the nodes, verified, and named by no row yet (STYLE 8).

Whoever calls this commits a row that names the blob, or leaves it to the garbage queue (S11).
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass

from catalog import work
from catalog.errors import CatalogError
from catalog.model import Checksum, NewBlob
from cluster.blob_writer import Receipt
from cluster.errors import WriteFailed
from s3front.body import Body, Digests, hashed_stripes
from s3front.request import Request
from s3front.services import FrontServices

log = logging.getLogger("trivet.s3front")


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob whose bytes are durable and are what the client meant to send."""

    blob: NewBlob
    md5_hex: str
    checksum: Checksum


async def store_blob(
    services: FrontServices, request: Request, *, bytes_max: int, algorithm: str | None = None
) -> StoredBlob:
    """Store the request's body. `algorithm` is the checksum to compute if the request declares none.

    Raises what Body and Digests raise, and the cluster's NotEnoughNodes and WriteFailed. On any failure the shards
    already written are queued as garbage.
    """
    digests = Digests.of_request(request, algorithm)
    body = Body(request, bytes_max)
    epoch = services.catalog.upload_epoch
    if body.size <= services.writer.geometry.stripe_bytes:
        data = await body.read()
        digests.update(data)
        checksum = digests.verify(body.trailers)
        receipt = await write_small(services, data, epoch)
        return StoredBlob(new_blob(receipt), digests.md5_hex, checksum)
    stripes = hashed_stripes(body, digests, services.writer.geometry.stripe_bytes, services.digest_threads)
    async with contextlib.aclosing(stripes):
        try:
            receipt = await services.writer.write(stripes, epoch=epoch, size_hint=body.size)
        except WriteFailed as failure:
            await abandon(services, failure.receipt)
            raise failure.__cause__ or failure from None
    try:
        checksum = digests.verify(body.trailers)
    except BaseException:
        await abandon(services, receipt)
        raise
    return StoredBlob(new_blob(receipt), digests.md5_hex, checksum)


async def write_small(services: FrontServices, data: bytes, epoch: int) -> Receipt:
    """One stripe at most; what a failed write left behind is queued as garbage."""
    try:
        return await services.writer.write_one(data, epoch=epoch)
    except WriteFailed as failure:
        await abandon(services, failure.receipt)
        raise


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
    )


async def abandon(services: FrontServices, receipt: Receipt | None) -> None:
    """Queue shards that no row will ever name. A failure here is left to orphan collection (S19)."""
    if receipt is None or receipt.stripes == 0:
        return
    try:
        await services.catalog.write(lambda tx: work.abandon(tx, new_blob(receipt)))
    except CatalogError as fault:
        log.warning("blob %s stays for orphan collection: %s", receipt.blob_id.hex(), fault)
