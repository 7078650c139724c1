"""Everything is read once: each block of each object deep on its node, and what is bad is told by object.

A walk over the blobs of the catalog, some pages of them in flight, in bounded memory. It changes nothing; what it
finds can be handed to the repair queue, which looks again itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from catalog import blobs, usedby, work
from catalog.engine import Catalog
from catalog.errors import CatalogError
from catalog.model import BlobRow, FaultReport
from catalog.statement import Reader
from catalog.transaction import Transaction
from cluster.placement import Copy, is_standard
from cluster.reports.blocks import OK, UNANSWERED, BlockChecker, NodeAsker, Place, stretches
from cluster.steward.mend import together
from cluster.steward.plan import geometry_of, is_named
from cluster.steward.throttle import Throttle
from cluster.stripe_read import CORRUPT, MISSING
from codec.block import BlockKey

log = logging.getLogger(__name__)

_PAGE_BLOBS: Final = 256
_PAGES_IN_FLIGHT: Final = 3
_PIECE_BYTES: Final = 16 << 20  # of blocks that are asked about at once
_PIECE_STRIPES: Final = 2000
_FAULTS_PER_BLOB: Final = 64
_BAD_BLOBS_KEPT: Final = 10_000
_LOOKS: Final = 3


@dataclass(slots=True)
class Tally:
    """What was seen so far. `looked_bytes` of objects were looked at, and `read_bytes` of blocks asked for, a moment
    before all else is counted: a blob counts once the page is done that it stands on. `blocks` of them were asked for
    and had `nbytes`; `reduced_blobs` lack a copy or are laid out with less than full redundancy, `unreadable_blobs`
    of them have a stripe with fewer than k good shards."""

    looked_bytes: int = 0
    read_bytes: int = 0
    blobs: int = 0
    blocks: int = 0
    nbytes: int = 0
    missing: int = 0
    corrupt: int = 0
    unanswered: int = 0
    reduced_blobs: int = 0
    unreadable_blobs: int = 0
    told_blobs: int = 0
    untold_blobs: int = 0

    @property
    def is_whole(self) -> bool:
        """Nothing that was looked at lacks anything."""
        return not (self.missing or self.corrupt or self.unanswered or self.reduced_blobs)


@dataclass(slots=True)
class Verdict:
    """On one blob."""

    blob: BlobRow
    blocks: int = 0
    nbytes: int = 0
    missing: int = 0
    corrupt: int = 0
    unanswered: int = 0
    irregular: bool = False
    unreadable: bool = False
    faults: list[FaultReport] = field(default_factory=list)
    silent: set[int] = field(default_factory=set)

    @property
    def lacks(self) -> bool:
        """Whether a copy that the layout names is not there, or not good, or can't be asked."""
        return bool(self.missing or self.corrupt or self.unanswered)

    @property
    def reduced(self) -> bool:
        """Whether it has less than full redundancy."""
        return self.lacks or self.irregular


class VerifyWalk:
    """One walk. `tally` and `bad` are true at any moment of it; `stop` ends it soon, with what was seen.

    `bucket_id`: only the versions in that bucket (a blob that several of them share is read for each). `report`:
    hand what is missing or corrupt to the repair queue. `bytes_per_s`: of blocks, all nodes together, 0 = no limit.
    """

    def __init__(
        self,
        catalog: Catalog,
        asker: NodeAsker,
        *,
        bucket_id: int | None = None,
        bytes_per_s: int = 0,
        report: bool = True,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tally = Tally()
        self.bad: dict[bytes, Verdict] = {}
        self.more_bad = False  # others were counted and are not in `bad`
        self.complete = False
        self._catalog = catalog
        self._checker = BlockChecker(asker)
        self._bucket_id = bucket_id
        self._report = report
        self._throttle = Throttle(bytes_per_s, monotonic)
        # No more at once than a second's share: a slow walk shall be slow all the time.
        self._piece_bytes = min(_PIECE_BYTES, bytes_per_s or _PIECE_BYTES)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End the walk soon: what is asked just now is waited for."""
        self._stopping.set()

    async def total(self) -> tuple[int, int]:
        """How many blobs there are to look at, about, and their bytes. Raises CatalogError."""
        return await self._catalog.read(lambda reader: usedby.stored(reader, self._bucket_id))

    async def run(self) -> None:
        """The whole walk. Raises CatalogError; never because of nodes."""
        pages, turn = self._pages(), asyncio.Lock()

        async def work_off() -> None:
            while not self._stopping.is_set():
                async with turn:
                    page = await anext(pages, None)
                if page is None:
                    return
                await self._look_at(page)

        try:
            await together(work_off() for _ in range(_PAGES_IN_FLIGHT))
        finally:
            await pages.aclose()
        self.complete = not self._stopping.is_set()

    # -- what to look at -------------------------------------------------------------------------------------

    def _pages(self) -> AsyncGenerator[list[BlobRow], None]:
        return self._pages_of_store() if self._bucket_id is None else self._pages_of_bucket(self._bucket_id)

    async def _pages_of_store(self) -> AsyncGenerator[list[BlobRow], None]:
        numbers, after = self._catalog.placements, b""

        def read(reader: Reader) -> list[BlobRow]:
            return blobs.page(reader, numbers, after=after, limit=_PAGE_BLOBS)

        while page := await self._catalog.read(read):
            yield page
            after = page[-1].id

    async def _pages_of_bucket(self, bucket_id: int) -> AsyncGenerator[list[BlobRow], None]:
        older, after = False, None

        def read(reader: Reader) -> tuple[list[bytes], usedby.Place | None]:
            return usedby.blobs_of_bucket(reader, bucket_id, after, older=older, limit=_PAGE_BLOBS)

        while True:
            ids, after = await self._catalog.read(read)
            async for page in self._pages_of(ids):
                yield page
            if after is None and older:
                return
            older = older or after is None

    async def _pages_of(self, ids: Sequence[bytes]) -> AsyncGenerator[list[BlobRow], None]:
        """Those of the blobs that are still there; the parts of composite ones instead of them."""
        rows = await self._rows(ids)
        simple = [row for row in rows if row.k]
        if simple:
            yield simple
        for composite in (row.id for row in rows if not row.k):
            inner = [part.blob_id for part in await self._catalog.manifest(composite) or ()]
            for at in range(0, len(inner), _PAGE_BLOBS):
                if page := await self._rows(inner[at : at + _PAGE_BLOBS]):
                    yield page

    async def _rows(self, ids: Sequence[bytes]) -> list[BlobRow]:
        """Those that are there and have bytes or parts; one that is named twice is there twice."""
        catalog = self._catalog
        known = await catalog.read(
            lambda reader: blobs.by_ids(reader, catalog.placements, dict.fromkeys(ids))
        )
        return [known[blob_id] for blob_id in ids if blob_id in known and known[blob_id].size]

    # -- looking ---------------------------------------------------------------------------------------------

    async def _look_at(self, page: Sequence[BlobRow]) -> None:
        """Judge the blobs of a page, count them, and tell what is bad."""
        verdicts = await self._examined(page)
        for _ in range(_LOOKS):
            suspects = [verdict.blob for verdict in verdicts if verdict.lacks]
            if not suspects:
                break
            # What was moved or deleted while we looked is not missing.
            now = await self._as_they_are(suspects)
            moved = [now[row.id] for row in suspects if row.id in now and now[row.id] != row]
            again = {row.id for row in moved}
            gone = {row.id for row in suspects} - now.keys()
            verdicts = [verdict for verdict in verdicts if verdict.blob.id not in again | gone]
            if not moved:
                break
            verdicts += await self._examined(moved)
        for verdict in verdicts:
            self._count(verdict)
        if self._report:
            await self._tell([verdict for verdict in verdicts if verdict.faults])

    async def _as_they_are(self, rows: Sequence[BlobRow]) -> dict[bytes, BlobRow]:
        """Those that something refers to, as they lie now."""

        def read(reader: Reader) -> dict[bytes, BlobRow]:
            known = blobs.by_ids(reader, self._catalog.placements, [row.id for row in rows])
            return {blob_id: row for blob_id, row in known.items() if usedby.references(reader, blob_id)}

        return await self._catalog.read(read)

    async def _examined(self, page: Sequence[BlobRow]) -> list[Verdict]:
        """On each blob of the page that was looked at as a whole: all, unless we are to stop."""
        verdicts = [Verdict(blob) for blob in page]
        seen = 0
        for piece in _pieces(verdicts, self._piece_bytes):
            wait_s = self._throttle.spend(sum(place.nbytes for place in piece))
            if await self._stopped_within(wait_s):
                return verdicts[:seen]
            await self._examine(piece)
            seen = piece[-1].index + piece[-1].last
        return verdicts

    async def _examine(self, piece: Sequence[_StripePlace]) -> None:
        wanted: dict[int, list[BlockKey]] = {}
        for place in piece:
            for shard, node in place.copies:
                wanted.setdefault(node, []).append(BlockKey(place.verdict.blob.id, place.stripe, shard))
        states = await self._checker.check(wanted, max(place.shard_bytes for place in piece))
        for place in piece:
            place.judge(states)
            self.tally.looked_bytes += place.length
            self.tally.read_bytes += place.nbytes

    async def _stopped_within(self, wait_s: float) -> bool:
        if wait_s and not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._stopping.wait()
        return self._stopping.is_set()

    def _count(self, verdict: Verdict) -> None:
        tally = self.tally
        tally.blobs += 1
        tally.blocks += verdict.blocks
        tally.nbytes += verdict.nbytes
        tally.missing += verdict.missing
        tally.corrupt += verdict.corrupt
        tally.unanswered += verdict.unanswered
        tally.reduced_blobs += verdict.reduced
        tally.unreadable_blobs += verdict.unreadable
        if verdict.reduced:
            self._keep(verdict)

    def _keep(self, verdict: Verdict) -> None:
        """Of very many bad blobs the unreadable ones matter most."""
        if len(self.bad) >= _BAD_BLOBS_KEPT:
            self.more_bad = True
            milder = verdict.unreadable and next(
                (blob_id for blob_id, known in self.bad.items() if not known.unreadable), None
            )
            if not milder:
                return
            del self.bad[milder]
        self.bad[verdict.blob.id] = verdict

    async def _tell(self, verdicts: Sequence[Verdict]) -> None:
        """Queue for repair what the layouts still name."""
        if not verdicts:
            return

        def tell(tx: Transaction) -> None:
            fresh = blobs.by_ids(tx, tx.placements, [verdict.blob.id for verdict in verdicts])
            for verdict in verdicts:
                row = fresh.get(verdict.blob.id)
                named = [
                    fault
                    for fault in verdict.faults
                    if row is not None and is_named(row, fault.stripe, fault.shard, fault.node)
                ]
                if named:
                    work.report_faults(tx, verdict.blob.id, named)

        try:
            await self._catalog.write(tell)
        except CatalogError as error:
            log.warning("%d blobs were not queued for repair: %s", len(verdicts), error)
            self.tally.untold_blobs += len(verdicts)
        else:
            self.tally.told_blobs += len(verdicts)


@dataclass(frozen=True, slots=True)
class _StripePlace:
    """One stripe of the blob that `verdict` is about, number `index` of its page; `last`: its last stripe. It is
    `length` bytes of the blob, and each of its blocks has `shard_bytes`."""

    verdict: Verdict
    index: int
    stripe: int
    last: bool
    length: int
    shard_bytes: int
    copies: tuple[Copy, ...]

    @property
    def nbytes(self) -> int:
        """What the nodes read for it."""
        return self.shard_bytes * len(self.copies)

    def judge(self, states: Mapping[Place, str]) -> None:
        """Add what was found to the verdict."""
        verdict = self.verdict
        good: set[int] = set()
        for shard, node in self.copies:
            state = states[node, BlockKey(verdict.blob.id, self.stripe, shard)]
            verdict.blocks += 1
            if state == OK:
                good.add(shard)
            elif state == UNANSWERED:
                verdict.unanswered += 1
                verdict.silent.add(node)
            else:
                verdict.missing += state == MISSING
                verdict.corrupt += state == CORRUPT
                if len(verdict.faults) < _FAULTS_PER_BLOB:
                    verdict.faults.append(FaultReport(self.stripe, shard, node, state))
            if state in (OK, CORRUPT):
                verdict.nbytes += self.shard_bytes
        if len(good) < verdict.blob.k:
            verdict.unreadable = True


def _stripes(verdicts: Iterable[Verdict]) -> Iterator[_StripePlace]:
    for index, verdict in enumerate(verdicts):
        blob, geometry = verdict.blob, geometry_of(verdict.blob)
        count = geometry.stripe_count(blob.size)
        for run in stretches(blob, count):
            verdict.irregular |= not is_standard(run.nodes, blob.k + blob.m)
            for stripe in range(run.first, run.stop):
                length = geometry.stripe_length(blob.size, stripe)
                shard_bytes = geometry.shard_length(length)
                last = stripe + 1 == count
                yield _StripePlace(verdict, index, stripe, last, length, shard_bytes, run.copies)


def _pieces(verdicts: Iterable[Verdict], bytes_max: int) -> Iterator[list[_StripePlace]]:
    """All their stripes, in pieces that one round of requests is made for."""
    piece: list[_StripePlace] = []
    nbytes = 0
    for place in _stripes(verdicts):
        if piece and (nbytes + place.nbytes > bytes_max or len(piece) >= _PIECE_STRIPES):
            yield piece
            piece, nbytes = [], 0
        piece.append(place)
        nbytes += place.nbytes
    if piece:
        yield piece
