"""Which objects use a blob, and where it lies: what to ask when an event names one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from catalog import usedby
from catalog.engine import Catalog
from catalog.statement import Reader
from catalog.usedby import BlobUse, Search
from cluster.reports.blob_whereabouts import BlobReport, Checking, blob_report
from cluster.reports.blocks import NodeAsker
from cluster.reports.whereabouts import key_text

USED = "used"
GARBAGE = "waiting-for-deletion"
UNKNOWN = "unknown"


class UseReport(msgspec.Struct, frozen=True):
    """A version of an object that uses a blob, by way of its part number `part` when that is above 0; or an open
    upload with that part (`upload_id`). `bucket` is empty while a deleted bucket is cleared."""

    bucket: str
    key: str
    version_id: str | None
    current: bool
    part: int
    upload_id: str | None


class BlobUsesReport(msgspec.Struct, frozen=True):
    """`references`: how many rows name the blob; `state`: "used", "waiting-for-deletion" or "unknown" (the catalog
    has no such blob). `parts`: of a composite blob, which has no bytes of its own. `uses` is not all of it when
    `more_uses`, or when the search was ended early (`complete` is false) after `rows_read` rows."""

    blob: str
    state: str
    references: int
    parts: int
    uses: list[UseReport]
    more_uses: bool
    complete: bool
    rows_read: int
    lies: BlobReport | None


async def blob_uses(
    catalog: Catalog,
    asker: NodeAsker,
    blob_id: bytes,
    *,
    checking: Checking = Checking(),  # noqa: B008 - frozen
    goes_on: Callable[[int], bool] = lambda _rows: True,
    pause_s: float = 0.0,
) -> BlobUsesReport:
    """Reads rows until every use is found, or `goes_on`, which hears how many were read, says no; with a pause after
    each few thousand, where others must have their turn. Raises CatalogErrors; never because of nodes."""

    def known(reader: Reader) -> tuple[int, bool, int]:
        parts = usedby.manifest_of(reader, blob_id)
        return usedby.references(reader, blob_id), usedby.is_garbage(reader, blob_id), len(parts or ())

    references, garbage, parts = await catalog.read(known)
    search = Search([blob_id])
    while await catalog.read(search.step):
        if not goes_on(search.rows):
            break
        await asyncio.sleep(pause_s)
    state = USED if references else GARBAGE if garbage else UNKNOWN
    return BlobUsesReport(
        blob=blob_id.hex(),
        state=state,
        references=references,
        parts=parts,
        uses=[_use_report(use) for use in search.uses],
        more_uses=search.more_uses,
        complete=search.done,
        rows_read=search.rows,
        lies=await blob_report(catalog, asker, blob_id, checking=checking),
    )


def _use_report(use: BlobUse) -> UseReport:
    return UseReport(use.bucket, key_text(use.key), use.version_id, use.current, use.part, use.upload_id)
