"""What a walk over everything found, told by object: for people and for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from catalog import nodes
from catalog.engine import Catalog
from catalog.usedby import BlobUse, Search
from cluster.reports.verify import Verdict, VerifyWalk
from cluster.reports.whereabouts import key_text

OBJECTS_MAX: Final = 1000
UNREADABLE: Final = "unreadable"
REDUCED: Final = "reduced"


class BadObject(msgspec.Struct, frozen=True):
    """A version of an object, a part of it (`part` > 0) or a part of an open upload that is not whole. `condition`:
    "unreadable" (a stripe has fewer than k good shards now) or "reduced" (less than full redundancy); `missing`,
    `corrupt` and `unanswered` count its blocks that are not there, bad, or on nodes that do not answer."""

    bucket: str
    key: str
    version_id: str | None
    part: int
    upload_id: str | None
    blob: str
    condition: str
    missing: int
    corrupt: int
    unanswered: int


class VerifyReport(msgspec.Struct, frozen=True):
    """`complete`: everything was looked at; otherwise the walk was ended early. `blobs` were looked at, `blocks` of
    them were asked for, and the nodes read `bytes`. `reduced_blobs` have less than full redundancy, also because they
    were written while a node was away; `unreadable_blobs` of them can't be read now. `objects` names what uses them,
    the unreadable ones first, and is not all of it when `more_objects`. `queued_blobs` were handed to the repair
    queue; `unqueued_blobs` should have been, and the catalog did not take them."""

    bucket: str | None
    complete: bool
    whole: bool
    seconds: float
    blobs: int
    blocks: int
    bytes: int
    missing: int
    corrupt: int
    unanswered: int
    silent_nodes: list[str]
    reduced_blobs: int
    unreadable_blobs: int
    objects: list[BadObject]
    more_objects: bool
    queued_blobs: int
    unqueued_blobs: int


async def verify_report(
    catalog: Catalog,
    walk: VerifyWalk,
    *,
    bucket: str | None,
    seconds: float,
    searched: Callable[[int], bool] = lambda _rows: True,
) -> VerifyReport:
    """To be called when the walk has ended. Looks for what uses the bad blobs, which takes one reading of the
    catalog's rows; `searched` hears how many were read so far, and ends the search by False. Raises CatalogError."""
    search = Search(walk.bad, uses_max=OBJECTS_MAX * 4)
    while await catalog.read(search.step):
        if not searched(search.rows):
            break
    objects = sorted(_bad_objects(walk.bad, search.uses, bucket), key=_gravity)
    tally = walk.tally
    return VerifyReport(
        bucket=bucket,
        complete=walk.complete,
        whole=tally.is_whole,
        seconds=round(seconds, 3),
        blobs=tally.blobs,
        blocks=tally.blocks,
        bytes=tally.nbytes,
        missing=tally.missing,
        corrupt=tally.corrupt,
        unanswered=tally.unanswered,
        silent_nodes=await _names(catalog, walk.bad.values()),
        reduced_blobs=tally.reduced_blobs,
        unreadable_blobs=tally.unreadable_blobs,
        objects=objects[:OBJECTS_MAX],
        more_objects=len(objects) > OBJECTS_MAX or search.more_uses or walk.more_bad or not search.done,
        queued_blobs=tally.told_blobs,
        unqueued_blobs=tally.untold_blobs,
    )


def _bad_objects(
    bad: dict[bytes, Verdict], uses: Iterable[BlobUse], bucket: str | None
) -> Iterable[BadObject]:
    for use in uses:
        if bucket is None or use.bucket == bucket:
            verdict = bad[use.blob_id]
            yield BadObject(
                bucket=use.bucket,
                key=key_text(use.key),
                version_id=use.version_id,
                part=use.part,
                upload_id=use.upload_id,
                blob=use.blob_id.hex(),
                condition=UNREADABLE if verdict.unreadable else REDUCED,
                missing=verdict.missing,
                corrupt=verdict.corrupt,
                unanswered=verdict.unanswered,
            )


def _gravity(one: BadObject) -> tuple[bool, str, str, int]:
    return one.condition != UNREADABLE, one.bucket, one.key, one.part


async def _names(catalog: Catalog, verdicts: Iterable[Verdict]) -> list[str]:
    silent = {node for verdict in verdicts for node in verdict.silent}
    known = {row.number: row.name for row in await nodes.current(catalog)}
    return sorted(known.get(number, f"number {number}") for number in silent)
