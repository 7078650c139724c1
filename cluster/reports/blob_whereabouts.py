"""Where a blob lies: which shard on which node in which region, and whether each block verifies now."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final

import msgspec

from catalog import blobs, nodes
from catalog.engine import Catalog
from catalog.model import BlobRow, NodeRow
from cluster.placement import Copy, is_standard
from cluster.reports.blocks import (
    OK,
    UNANSWERED,
    UNCHECKED,
    BlockChecker,
    NodeAsker,
    Place,
    Stretch,
    stretches,
)
from cluster.reports.survival import Survival, survival
from cluster.steward.plan import geometry_of
from cluster.stripe_read import CORRUPT, MISSING
from codec.block import BlockKey

PARTS_MAX: Final = 100
RANGES_MAX: Final = 1000
_LOOKS: Final = 3
_GONE: Final = "removed"


class Checking(msgspec.Struct, frozen=True):
    """How much of an object is looked at. `verify`: nodes read its blocks from their disks, `bytes_max` of them
    (None: all): the first and the last stripe of each run and of each part, and others by chance. `parts_max`: so
    many parts of a multipart object, the first, the last and others by chance (None: all).
    """

    verify: bool = True
    bytes_max: int | None = 64 << 20
    parts_max: int | None = PARTS_MAX


class StateRange(msgspec.Struct, frozen=True):
    """The blocks of the stripes `first_stripe` … `stop_stripe` - 1 are all `state`: ok, missing, corrupt, unanswered
    (the node does not answer) or unchecked."""

    first_stripe: int
    stop_stripe: int
    state: str


class CopyReport(msgspec.Struct, frozen=True):
    """One copy of a shard on one node. `number`: the node's, which is never reused; `state` as the catalog has it,
    `connected` as we have it. `blocks` should lie there; `ok` … `unanswered` count those that were checked, `ranges`
    says which are which (the first of them, when there are very many)."""

    shard: int
    kind: str
    """"data" or "parity"."""
    node: str
    number: int
    region: str
    zone: str
    state: str
    connected: bool
    blocks: int
    ok: int
    missing: int
    corrupt: int
    unanswered: int
    ranges: list[StateRange]


class RunReport(msgspec.Struct, frozen=True):
    """The stripes `first_stripe` … `stop_stripe` - 1, which lie alike. `standard`: one copy of each shard, each on a
    node of its own; otherwise they were written, or rescued, while nodes were missing."""

    first_stripe: int
    stop_stripe: int
    standard: bool
    copies: list[CopyReport]


class BlobReport(msgspec.Struct, frozen=True):
    """`size_bytes` in `stripes` stripes of up to `stripe_bytes`, each cut into k data and m parity shards; of so many
    stripes all blocks were verified (`checked_stripes`), which had `checked_bytes`. `survives` is None for an empty
    one, of which nothing lies anywhere."""

    blob: str
    size_bytes: int
    k: int
    m: int
    stripe_bytes: int
    stripes: int
    checked_stripes: int
    checked_bytes: int
    runs: list[RunReport]
    survives: Survival | None


async def blob_report(
    catalog: Catalog,
    asker: NodeAsker,
    blob_id: bytes,
    *,
    checking: Checking = Checking(),  # noqa: B008 - frozen
    chance: random.Random | None = None,
) -> BlobReport | None:
    """Where one blob lies; None for one that is not known, or is composite and so has no bytes of its own. Raises
    CatalogErrors; never because of nodes."""
    rows = await _rows(catalog, [blob_id])
    if blob_id not in rows or not rows[blob_id].k:
        return None
    chance = chance or random.Random()  # noqa: S311 - a sample, no secret
    return (await blobs_looked_at(catalog, asker, rows, checking, chance)).get(blob_id)


async def blobs_looked_at(
    catalog: Catalog,
    asker: NodeAsker,
    rows: Mapping[bytes, BlobRow],
    checking: Checking,
    chance: random.Random,
) -> dict[bytes, BlobReport]:
    """Those of the blobs that are still there, one after the other."""
    look = _Look(
        asker, {row.number: row for row in await nodes.current(catalog)}, checking, chance, len(rows)
    )
    reports = {blob.id: await _as_it_lies(catalog, look, blob) for blob in rows.values()}
    return {blob_id: report for blob_id, report in reports.items() if report is not None}


async def _as_it_lies(catalog: Catalog, look: _Look, blob: BlobRow) -> BlobReport | None:
    """None when the blob is gone. What a repair moved while we looked is not missing: then we look again."""
    for _ in range(_LOOKS):
        report = await look.at(blob)
        if _is_whole(report):
            break
        now = (await _rows(catalog, [blob.id])).get(blob.id)
        if now is None:
            return None
        if now == blob:
            break
        blob = now
    return report


def _is_whole(report: BlobReport) -> bool:
    return not any(
        copy.missing or copy.corrupt or copy.unanswered for run in report.runs for copy in run.copies
    )


class _Look:
    """Looks at the blocks of one blob after the other; `blobs_count` of them share what may be read."""

    def __init__(
        self,
        asker: NodeAsker,
        known: Mapping[int, NodeRow],
        checking: Checking,
        chance: random.Random,
        blobs_count: int,
    ) -> None:
        self._asker = asker
        self._checker = BlockChecker(asker)
        self._known = known
        self._regions = {number: row.region for number, row in known.items()}
        self._verify = checking.verify
        self._bytes_max = None if checking.bytes_max is None else checking.bytes_max // max(1, blobs_count)
        self._chance = chance

    async def at(self, blob: BlobRow) -> BlobReport:
        """Have some of its blocks verified now, and say where all of them lie."""
        geometry = geometry_of(blob)
        stripes = geometry.stripe_count(blob.size)
        runs = list(stretches(blob, stripes))
        chosen = (
            sorted({stripe for run in runs for stripe in self._chosen(blob, run)}) if self._verify else []
        )
        states = await self._states(blob, runs, set(chosen))
        reports = [self._run(blob, run, states) for run in runs]
        return BlobReport(
            blob=blob.id.hex(),
            size_bytes=blob.size,
            k=blob.k,
            m=blob.m,
            stripe_bytes=blob.stripe_bytes,
            stripes=stripes,
            checked_stripes=len(chosen),
            checked_bytes=sum(
                geometry.shard_length(geometry.stripe_length(blob.size, key.stripe))
                for (_, key), state in states.items()
                if state in (OK, CORRUPT)
            ),
            runs=reports,
            survives=self._survival(blob, runs, states) if runs else None,
        )

    def _chosen(self, blob: BlobRow, run: Stretch) -> list[int]:
        if self._bytes_max is None:
            return list(range(run.first, run.stop))
        shard_bytes = geometry_of(blob).shard_length(min(blob.stripe_bytes, blob.size))
        share = (run.stop - run.first) * blob.stripe_bytes / blob.size  # of the blob, in this run
        stripes_max = int(self._bytes_max * min(1.0, share)) // (shard_bytes * max(1, len(run.copies)))
        return sample(range(run.first, run.stop), stripes_max, self._chance)

    async def _states(self, blob: BlobRow, runs: Sequence[Stretch], chosen: set[int]) -> dict[Place, str]:
        wanted: dict[int, list[BlockKey]] = {}
        for run in runs:
            stripes = [stripe for stripe in range(run.first, run.stop) if stripe in chosen]
            for shard, node in run.copies:
                wanted.setdefault(node, []).extend(BlockKey(blob.id, stripe, shard) for stripe in stripes)
        shard_bytes = geometry_of(blob).shard_length(min(blob.stripe_bytes, max(1, blob.size)))
        return await self._checker.check({node: keys for node, keys in wanted.items() if keys}, shard_bytes)

    def _run(self, blob: BlobRow, run: Stretch, states: Mapping[Place, str]) -> RunReport:
        return RunReport(
            first_stripe=run.first,
            stop_stripe=run.stop,
            standard=is_standard(run.nodes, blob.k + blob.m),
            copies=[self._copy(blob, run, copy, states) for copy in run.copies],
        )

    def _copy(self, blob: BlobRow, run: Stretch, copy: Copy, states: Mapping[Place, str]) -> CopyReport:
        shard, number = copy
        row = self._known.get(number)
        seen = [
            states.get((number, BlockKey(blob.id, stripe, shard)), UNCHECKED)
            for stripe in range(run.first, run.stop)
        ]
        return CopyReport(
            shard=shard,
            kind="data" if shard < blob.k else "parity",
            node="" if row is None else row.name,
            number=number,
            region="" if row is None else row.region,
            zone="" if row is None else row.zone,
            state=_GONE if row is None else row.state,
            connected=self._is_connected(number),
            blocks=len(seen),
            ok=seen.count(OK),
            missing=seen.count(MISSING),
            corrupt=seen.count(CORRUPT),
            unanswered=seen.count(UNANSWERED),
            ranges=list(_ranges(run.first, seen))[:RANGES_MAX],
        )

    def _is_connected(self, number: int) -> bool:
        link = self._asker.nodes.link(number)
        return link is not None and link.up

    def _survival(self, blob: BlobRow, runs: Sequence[Stretch], states: Mapping[Place, str]) -> Survival:
        if not self._verify:
            layouts = {frozenset(copy for copy in run.copies if self._is_connected(copy[1])) for run in runs}
            return survival(blob.k, layouts, self._regions, "layout")
        good: dict[int, set[Copy]] = {}
        for (node, key), state in states.items():
            held = good.setdefault(key.stripe, set())
            if state == OK:
                held.add((key.shard, node))
        return survival(blob.k, map(frozenset, good.values()), self._regions, "verified")


def _ranges(first: int, states: Sequence[str]) -> Iterator[StateRange]:
    for state, group in groupby(states):
        stop = first + sum(1 for _ in group)
        yield StateRange(first, stop, state)
        first = stop


def sample(numbers: range, count: int | None, chance: random.Random) -> list[int]:
    """So many of the numbers (None: all), ascending: the first, the last and others by chance; at least these two."""
    if count is None or len(numbers) <= max(count, 2):
        return list(numbers)
    return [numbers[0], *sorted(chance.sample(numbers[1:-1], max(count, 2) - 2)), numbers[-1]]


async def _rows(catalog: Catalog, blob_ids: Iterable[bytes]) -> dict[bytes, BlobRow]:
    wanted = list(blob_ids)
    return await catalog.read(lambda reader: blobs.by_ids(reader, catalog.placements, wanted))
