"""Versions that go to another storage class: their bytes, if that is stored in another code, are coded anew.

The old blob is read as for a client, verified, and written as a new one; one transaction lets the version have that
instead. Whatever ends this in between leaves the version as it was, and the new blob to the garbage. Bytes stay as they
are stored, so no key is needed for what is encrypted.
"""

import logging
from collections.abc import AsyncIterator, Sequence
from typing import Final

from msgspec import structs

from catalog import leases, lifecycle_work, lookup, objects
from catalog.errors import CatalogError, CommitUnknown, LeaseLost
from catalog.lifecycle_work import Move
from catalog.model import BlobRow, NewBlob, PartRef
from catalog.transaction import Transaction
from cluster.blob_reader import BlobReader, BlobStream
from cluster.blob_writer import BlobIds, BlobWriter
from cluster.budget import ByteBudget
from cluster.errors import WriteFailed
from cluster.receipt import Receipt
from cluster.steward.services import StewardServices
from cluster.steward.tenure import Tenure
from cluster.stripe_read import Fault
from codec.geometry import Geometry

log = logging.getLogger(__name__)

_PARTS_MAX: Final = 1000
"""Of more parts only the class changes: their rows would keep the catalog's writers waiting."""


class Transitions:
    """Moves one version at a time."""

    def __init__(self, services: StewardServices) -> None:
        self._services = services
        half = services.settings.transition_buffer_bytes // 2
        self._reader = BlobReader(services.nodes, ByteBudget(half), self._relocate, _told_by_scrub)
        self._writes = ByteBudget(half)
        self._ids = BlobIds(services.random)

    async def move(self, tenure: Tenure, bucket_id: int, key: bytes, move: Move) -> bool:
        """False when the version is not what it was. Raises LeaseLost, other CatalogErrors, ClusterErrors."""
        catalog = self._services.catalog
        blob = await lookup.blob(catalog, move.blob_id)
        if blob is None:
            return False
        geometry = self._services.policies.geometry(move.storage_class)
        if blob.manifest is not None and len(blob.manifest) <= _PARTS_MAX:
            return await self._move_parts(tenure, (bucket_id, key), move, blob.manifest, geometry)
        if blob.manifest is not None or not _is_coded_otherwise(blob, geometry):
            return await tenure.write(lambda tx: lifecycle_work.reclassify(tx, bucket_id, key, move))
        new = await self._coded_anew(blob, geometry)

        def replace(tx: Transaction) -> bool:
            _check_lease(tx, tenure)
            return objects.replace_blob(
                tx,
                bucket_id=bucket_id,
                key=key,
                sequence=move.sequence,
                old_blob_id=move.blob_id,
                blob=new,
                storage_class=move.storage_class,
            )

        moved = await catalog.write(replace, blob=new)
        if not moved:
            catalog.abandon(new)
        return moved

    async def _move_parts(
        self,
        tenure: Tenure,
        where: tuple[int, bytes],
        move: Move,
        manifest: Sequence[PartRef],
        geometry: Geometry,
    ) -> bool:
        """The parts of a composite blob, each by itself; then they are one again, under one transaction."""
        catalog = self._services.catalog
        ids = {part.blob_id for part in manifest}
        old = await lookup.blobs_by_id(catalog, ids)
        if len(old) != len(ids):
            return False
        new: dict[bytes, NewBlob] = {}
        try:
            for blob in old.values():
                if _is_coded_otherwise(blob, geometry):
                    new[blob.id] = await self._coded_anew(blob, geometry)
        except BaseException:
            self._abandon(new)
            raise
        parts = [
            structs.replace(part, blob_id=new[part.blob_id].id) if part.blob_id in new else part
            for part in manifest
        ]

        def replace(tx: Transaction) -> bool:
            _check_lease(tx, tenure)
            return lifecycle_work.replace_parts(tx, *where, move, parts=parts, new=new.values())

        try:
            moved = await catalog.write(replace)
        except CommitUnknown:  # they may be named by now: what is not is an orphan (S11)
            raise
        except CatalogError:
            self._abandon(new)
            raise
        if not moved:
            self._abandon(new)
        return moved

    def _abandon(self, made: dict[bytes, NewBlob]) -> None:
        for blob in made.values():
            self._services.catalog.abandon(blob)

    async def _coded_anew(self, blob: BlobRow, geometry: Geometry) -> NewBlob:
        """The same stored bytes in another blob of that geometry; no row names it yet."""
        catalog = self._services.catalog

        def as_new(receipt: Receipt) -> NewBlob:
            return receipt.as_new_blob(blob.transform, blob.seal)

        writer = BlobWriter(
            self._services.nodes,
            geometry,
            self._writes,
            self._ids,
            on_abandoned=lambda receipt: catalog.abandon(as_new(receipt)),
        )
        stream = self._reader.open(blob, 0, blob.size)
        epoch = (await catalog.meta()).upload_epoch
        try:
            receipt = await writer.write(
                _in_stripes(stream, geometry.stripe_bytes), epoch=epoch, size_hint=blob.size
            )
        except WriteFailed as failure:
            if failure.receipt is not None:
                catalog.abandon(as_new(failure.receipt))
            raise
        finally:
            stream.close()
        assert receipt.size == blob.size, "a blob coded anew has the bytes it had"
        return as_new(receipt)

    async def _relocate(self, blob_id: bytes) -> BlobRow | None:
        return await lookup.blob(self._services.catalog, blob_id)


def _is_coded_otherwise(blob: BlobRow, geometry: Geometry) -> bool:
    return blob.size > 0 and (blob.k, blob.m) != (geometry.k, geometry.m)


def _check_lease(tx: Transaction, tenure: Tenure) -> None:
    if leases.read(tx).holder != tenure.holder:
        raise LeaseLost("the steward's lease was lost while a version was coded anew")


def _told_by_scrub(fault: Fault) -> None:
    """What is found bad on the way is decoded around; the blob is left soon, and scrub looks at those that stay."""
    log.info("found on the way to another storage class: %s", fault)


async def _in_stripes(stream: BlobStream, stripe_bytes: int) -> AsyncIterator[bytes]:
    """The bytes of one geometry's stripes in those of another's size."""
    held = bytearray()
    while (buffers := await stream.next()) is not None:
        for buffer in buffers:
            held += buffer
        while len(held) >= stripe_bytes:
            yield bytes(held[:stripe_bytes])
            del held[:stripe_bytes]
    if held:
        yield bytes(held)
