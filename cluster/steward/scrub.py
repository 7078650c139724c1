"""What the catalog expects against what the nodes hold, a range of blobs at a time (S20, S21).

A pass walks all blobs in the order of their ids and each node's inventory over the same keys, side by side.
Blocks that are missing go to the repair queue; copies of a known blob that its layout does not name are queued
for deletion by their sequence. Blocks of unknown blobs are none of its business: see orphans.py.

A pass that an operator asked for is deep: the nodes also verify each block from the disk itself. Otherwise that
is left to their own scrub, at its rate.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import aclosing
from itertools import islice
from typing import Final

import msgspec

from catalog import blobs, work
from catalog.model import BlobRow, ExtraCopy, FaultReport
from catalog.statement import Reader
from catalog.transaction import Transaction
from cluster import wire
from cluster.errors import LinkError
from cluster.placement import copies
from cluster.steward import progress
from cluster.steward.node_calls import inventory, verify_blocks
from cluster.steward.plan import geometry_of, holders_of, is_named
from cluster.steward.progress import ScrubProgress, ScrubRequest
from cluster.steward.services import StewardServices
from cluster.steward.tenure import Tenure
from cluster.stripe_read import CORRUPT, MISSING
from codec.block import BlockKey, pack_key, unpack_key

log = logging.getLogger(__name__)

_EXTRA_MAX: Final = 5000  # of one range; the next pass finds the rest
_FAULTS_PER_BLOB: Final = 64  # a repair looks at the whole blob anyway
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
        stored, request = await self._services.catalog.read(_stored)
        state = stored
        now_ms = self._services.now_ms()
        wanted = request is not None and request.number != state.request
        if wanted:
            assert request is not None
            state = ScrubProgress(passes=state.passes, request=request.number, deep=True)
        if not state.active:
            # A pass that ended in the future did so by a clock that was wrong: it must not hold up the next.
            fresh = 0 <= now_ms - state.finished_ms < self._services.settings.scrub_s * 1000
            if fresh and not wanted:
                return False
            state = ScrubProgress(
                active=True, started_ms=now_ms, passes=state.passes, request=state.request, deep=wanted
            )
        page = await self._range(state.after)
        findings = await self._compare(page, deep=state.deep)
        faults, extra = findings.faults, findings.certainly_extra(page)
        await self._tell(tenure, faults, extra)
        state = msgspec.structs.replace(
            state,
            active=bool(page),
            after=page[-1].id if page else b"",
            finished_ms=state.finished_ms if page else now_ms,
            passes=state.passes + (not page),
            blobs=state.blobs + len(page),
            missing=state.missing + findings.count[MISSING],
            corrupt=state.corrupt + findings.count[CORRUPT],
            extra=state.extra + len(extra),
        )
        return await tenure.write(lambda tx: _go_on(tx, stored, state))

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

    async def _compare(self, page: Sequence[BlobRow], *, deep: bool) -> "_Findings":
        """What is missing or bad, and what is extra, on the nodes that answer."""
        findings = _Findings()
        for node in self._services.nodes.nodes if page else ():
            try:
                await self._compare_node(node.number, page, findings)
                if deep:
                    await self._verify_node(node.number, page, findings)
            except LinkError as error:
                log.info("node %d is left out of this part of the scrub: %s", node.number, error)
            else:
                findings.answered.add(node.number)
        return findings

    async def _compare_node(self, node: int, page: Sequence[BlobRow], findings: "_Findings") -> None:
        """Merge what should lie on one node with what does; both in key order, neither whole in memory."""
        known = {blob.id for blob in page}
        last = pack_key(BlockKey(page[-1].id, 0xFFFFFFFF, 0xFF))
        expected = _expected(page, node)
        awaited = next(expected, None)
        first = pack_key(BlockKey(page[0].id, 0, 0))
        async with aclosing(inventory(self._services, node, _before(first))) as held:
            async for key, sequence, _ in held:
                while awaited is not None and awaited < key:
                    findings.add(awaited, node, MISSING)
                    awaited = next(expected, None)
                if key > last:
                    return
                if awaited == key:
                    awaited = next(expected, None)
                elif key[:16] in known:
                    findings.add_extra(key, node, sequence)
        while awaited is not None:
            findings.add(awaited, node, MISSING)
            awaited = next(expected, None)

    async def _verify_node(self, node: int, page: Sequence[BlobRow], findings: "_Findings") -> None:
        """Have one node read what should lie on it from the disk; what is missing was found before."""
        expected = _expected(page, node)
        shard_bytes = max(geometry_of(blob).shard_length(blob.stripe_bytes) for blob in page)
        while keys := [unpack_key(key) for key in islice(expected, wire.VERIFY_BLOCKS_MAX)]:
            found = await verify_blocks(self._services, node, keys, shard_bytes=shard_bytes, deep=True)
            for key, state in zip(keys, found, strict=True):
                if not (state.ok or state.missing):
                    findings.add(pack_key(key), node, CORRUPT)

    async def _tell(
        self, tenure: Tenure, faults: Sequence[tuple[bytes, FaultReport]], extra: Sequence[ExtraCopy]
    ) -> None:
        """Queue what still holds when the layouts are looked at again (S21).

        Blobs in flight are left out *before* that second look: a copy that a repair has put and not yet
        committed is seen as extra. If its repair was in flight just now, it is left alone; if it ended before,
        the second look sees the layout that it made; if it begins later, it puts copies of other sequences.
        """
        for at in range(0, len(faults), _TOLD_AT_ONCE):
            await self._tell_faults(tenure, faults[at : at + _TOLD_AT_ONCE])
        for at in range(0, len(extra), _TOLD_AT_ONCE):
            await self._tell_extra(tenure, extra[at : at + _TOLD_AT_ONCE])
        if faults or extra:
            log.warning("scrub: %d blocks are missing or bad, %d copies are extra", len(faults), len(extra))

    async def _tell_faults(self, tenure: Tenure, told: Sequence[tuple[bytes, FaultReport]]) -> None:
        quiet = {blob_id for blob_id, _ in told} - self._in_flight

        def tell(tx: Transaction) -> None:
            fresh = blobs.by_ids(tx, tx.placements, sorted(quiet))
            faults: dict[bytes, list[FaultReport]] = {}
            for blob_id, fault in told:
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


class _Findings:
    """Of one range. Bounded: of each blob so many missing or bad blocks, of all blobs so many extra copies."""

    def __init__(self) -> None:
        self.faults: list[tuple[bytes, FaultReport]] = []
        self.count: Counter[str] = Counter()  # of blocks, by the kind of fault
        self.answered: set[int] = set()  # nodes
        self._extra: list[ExtraCopy] = []
        self._faults_of: Counter[bytes] = Counter()

    def add(self, key: bytes, node: int, kind: str) -> None:
        """A node lacks a block that a layout names, or has a bad one; `kind` is MISSING or CORRUPT."""
        place = unpack_key(key)
        self.count[kind] += 1
        self._faults_of[place.blob] += 1
        if self._faults_of[place.blob] <= _FAULTS_PER_BLOB:
            self.faults.append((place.blob, FaultReport(place.stripe, place.shard, node, kind)))

    def add_extra(self, key: bytes, node: int, sequence: int) -> None:
        """A node has a copy that no layout names."""
        if len(self._extra) < _EXTRA_MAX:
            place = unpack_key(key)
            self._extra.append(ExtraCopy(place.blob, place.stripe, place.shard, node, sequence))

    def certainly_extra(self, page: Iterable[BlobRow]) -> list[ExtraCopy]:
        """Copies of blobs of which all is where the layout says. While something is missing or bad, or a holder
        can't be asked, an extra copy may be what the blob is rebuilt from: a restored catalog has old layouts
        (S18)."""
        whole = {
            blob.id for blob in page if not self._faults_of[blob.id] and holders_of(blob) <= self.answered
        }
        return [copy for copy in self._extra if copy.blob_id in whole]


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


def _go_on(tx: Transaction, before: ScrubProgress, state: ScrubProgress) -> bool:
    """Store how far the pass is, unless an operator has ended it meanwhile; whether it goes on."""
    if (progress.read(tx, ScrubProgress) or ScrubProgress()) != before:
        return False
    progress.write(tx, state)
    return state.active


def _stored(reader: Reader) -> tuple[ScrubProgress, ScrubRequest | None]:
    return progress.read(reader, ScrubProgress) or ScrubProgress(), progress.read(reader, ScrubRequest)
