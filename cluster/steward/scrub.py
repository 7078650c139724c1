"""What the catalog expects against what the nodes hold, a range of blobs at a time (S20, S21).

A pass walks all blobs in the order of their ids and each node's inventory over the same keys, side by side.
Blocks that are missing go to the repair queue; copies of a known blob that its layout does not name are queued
for deletion by their sequence. Blocks of unknown blobs are none of its business: see orphans.py.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from typing import Final

import msgspec

from catalog import blobs, work
from catalog.model import BlobRow, ExtraCopy, FaultReport
from catalog.statement import Reader
from catalog.transaction import Transaction
from cluster.errors import LinkError
from cluster.placement import copies
from cluster.steward import progress
from cluster.steward.node_calls import inventory
from cluster.steward.plan import geometry_of, is_named
from cluster.steward.progress import ScrubProgress, ScrubRequest
from cluster.steward.services import StewardServices
from cluster.steward.tenure import Tenure
from cluster.stripe_read import MISSING
from codec.block import BlockKey, pack_key, unpack_key

log = logging.getLogger(__name__)

_FINDINGS_MAX: Final = 5000  # of one range, together; the next pass finds the rest
_FAULTS_PER_BLOB: Final = 64
_TOLD_AT_ONCE: Final = 500  # in one transaction, which must be short


class Scrubber:
    """One range of blobs a step; a pass every `scrub_s`, or when it is asked for. The cursor is in the catalog:
    the next steward goes on."""

    def __init__(self, services: StewardServices, in_flight: set[bytes]) -> None:
        """`in_flight`: blobs that are being repaired or moved, which must be left alone."""
        self._services = services
        self._in_flight = in_flight

    async def step(self, tenure: Tenure) -> bool:
        """True while a pass goes on. Raises LeaseLost and other CatalogErrors."""
        state, request = await self._services.catalog.read(_stored)
        now_ms = self._services.now_ms()
        wanted = request is not None and request.number != state.request
        if wanted:
            assert request is not None
            state = ScrubProgress(passes=state.passes, request=request.number)
        if not state.active:
            if not wanted and now_ms - state.finished_ms < self._services.settings.scrub_s * 1000:
                return False
            state = ScrubProgress(active=True, started_ms=now_ms, passes=state.passes, request=state.request)
        page = await self._range(state.after)
        missing, extra = await self._compare(state.after, page)
        await self._tell(tenure, missing, extra)
        state = msgspec.structs.replace(
            state,
            active=bool(page),
            after=page[-1].id if page else b"",
            finished_ms=state.finished_ms if page else now_ms,
            passes=state.passes + (not page),
            blobs=state.blobs + len(page),
            missing=state.missing + len(missing),
            extra=state.extra + len(extra),
        )
        await tenure.write(lambda tx: progress.write(tx, state))
        return bool(page)

    async def _range(self, after: bytes) -> list[BlobRow]:
        """The next blobs, so many that a step stays short."""
        catalog, settings = self._services.catalog, self._services.settings
        page = await catalog.read(
            lambda reader: blobs.page(reader, catalog.placements, after=after, limit=settings.scrub_blobs)
        )
        stripes = 0
        for index, blob in enumerate(page):
            stripes += geometry_of(blob).stripe_count(blob.size)
            if index and stripes > settings.scrub_stripes_max:
                return page[:index]
        return page

    async def _compare(
        self, after: bytes, page: Sequence[BlobRow]
    ) -> tuple[list[tuple[bytes, FaultReport]], list[ExtraCopy]]:
        """What is missing, and what is extra, on the nodes that answer."""
        missing: list[tuple[bytes, FaultReport]] = []
        extra: list[ExtraCopy] = []
        for node in self._services.nodes.nodes if page else ():
            try:
                await self._compare_node(node.number, page, missing, extra)
            except LinkError as error:
                log.info("node %d is left out of this part of the scrub: %s", node.number, error)
        return missing, extra

    async def _compare_node(
        self,
        node: int,
        page: Sequence[BlobRow],
        missing: list[tuple[bytes, FaultReport]],
        extra: list[ExtraCopy],
    ) -> None:
        """Merge what should lie on one node with what does; both in key order, neither whole in memory."""
        known = {blob.id for blob in page}
        last = pack_key(BlockKey(page[-1].id, 0xFFFFFFFF, 0xFF))
        expected = _expected(page, node)
        awaited = next(expected, None)
        first = pack_key(BlockKey(page[0].id, 0, 0))
        async with aclosing(inventory(self._services, node, _before(first))) as held:
            async for key, sequence, _ in held:
                while awaited is not None and awaited < key:
                    _add_missing(missing, awaited, node)
                    awaited = next(expected, None)
                if key > last or len(missing) + len(extra) > _FINDINGS_MAX:
                    return
                if awaited == key:
                    awaited = next(expected, None)
                elif key[:16] in known:
                    place = unpack_key(key)
                    extra.append(ExtraCopy(place.blob, place.stripe, place.shard, node, sequence))
        while awaited is not None and len(missing) + len(extra) <= _FINDINGS_MAX:
            _add_missing(missing, awaited, node)
            awaited = next(expected, None)

    async def _tell(
        self, tenure: Tenure, missing: Sequence[tuple[bytes, FaultReport]], extra: Sequence[ExtraCopy]
    ) -> None:
        """Queue what still holds when the layouts are looked at again (S21).

        Blobs in flight are left out *before* that second look: a copy that a repair has put and not yet
        committed is seen as extra. If its repair was in flight just now, it is left alone; if it ended before,
        the second look sees the layout that it made; if it begins later, it puts copies of other sequences.
        """
        for at in range(0, len(missing), _TOLD_AT_ONCE):
            await self._tell_missing(tenure, missing[at : at + _TOLD_AT_ONCE])
        for at in range(0, len(extra), _TOLD_AT_ONCE):
            await self._tell_extra(tenure, extra[at : at + _TOLD_AT_ONCE])
        if missing or extra:
            log.warning("scrub: %d blocks are missing, %d copies are extra", len(missing), len(extra))

    async def _tell_missing(self, tenure: Tenure, missing: Sequence[tuple[bytes, FaultReport]]) -> None:
        quiet = {blob_id for blob_id, _ in missing} - self._in_flight

        def tell(tx: Transaction) -> None:
            fresh = blobs.by_ids(tx, tx.placements, sorted(quiet))
            faults: dict[bytes, list[FaultReport]] = {}
            for blob_id, fault in missing:
                blob = fresh.get(blob_id)
                if blob is not None and is_named(blob, fault.stripe, fault.shard, fault.node):
                    faults.setdefault(blob_id, []).append(fault)
            for blob_id, found in faults.items():
                work.report_faults(tx, blob_id, found[:_FAULTS_PER_BLOB])

        await tenure.write(tell)

    async def _tell_extra(self, tenure: Tenure, extra: Sequence[ExtraCopy]) -> None:
        quiet = {copy.blob_id for copy in extra} - self._in_flight

        def tell(tx: Transaction) -> None:
            fresh = blobs.by_ids(tx, tx.placements, sorted(quiet))
            unnamed = [
                copy
                for copy in extra
                if (blob := fresh.get(copy.blob_id)) is not None
                and not is_named(blob, copy.stripe, copy.shard, copy.node)
            ]
            work.queue_extra(tx, unnamed)

        await tenure.write(tell)


def _expected(page: Sequence[BlobRow], node: int) -> Iterator[bytes]:
    """Packed keys of the blocks that should lie on a node, in their order."""
    for blob in page:
        width = blob.k + blob.m
        for stripe in range(geometry_of(blob).stripe_count(blob.size)):
            for shard, holder in sorted(copies(blob.nodes_at(stripe), width)):
                if holder == node:
                    yield pack_key(BlockKey(blob.id, stripe, shard))


def _before(key: bytes) -> bytes:
    """The greatest key of the same length below one, to begin an inventory with that."""
    number = int.from_bytes(key, "big")
    return (number - 1).to_bytes(len(key), "big") if number else b""


def _add_missing(missing: list[tuple[bytes, FaultReport]], key: bytes, node: int) -> None:
    place = unpack_key(key)
    missing.append((place.blob, FaultReport(place.stripe, place.shard, node, MISSING)))


def _stored(reader: Reader) -> tuple[ScrubProgress, ScrubRequest | None]:
    return progress.read(reader, ScrubProgress) or ScrubProgress(), progress.read(reader, ScrubRequest)
