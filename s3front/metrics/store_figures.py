"""What the catalog tells of the whole store, read at once and kept for a while."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from catalog import counts, leases
from catalog.engine import Catalog
from catalog.errors import CatalogError
from catalog.model import Lease
from catalog.statement import Reader
from catalog.totals import Totals, totals
from cluster.reports.redundancy import RepairReport, repair_report
from cluster.steward import progress
from cluster.steward.progress import Recoveries, ScrubProgress

log = logging.getLogger("trivet.s3front.metrics")

KEPT_FOR: Final = 10
"""Times what reading them took: watching the store is at most a tenth of one read thread's work."""
DEADLINE_S: Final = 1.0


class StoreFigures(msgspec.Struct, frozen=True):
    """As of one moment. Sizes in bytes; `disk_free_bytes` is of the catalog's file system. Those of the
    catalog's files are not a number where a database server has them."""

    redundancy: RepairReport
    totals: Totals
    scrub: ScrubProgress
    lease: Lease
    recoveries: Recoveries
    open_uploads: int
    events_kept: dict[str, int]
    events_ever: int
    catalog_bytes: float
    wal_bytes: float
    disk_free_bytes: float


def read_figures(reader: Reader, path: Path | None) -> StoreFigures:
    """`path`: of the catalog's file, if it is one."""
    file_bytes, wal_bytes, free_bytes = (math.nan,) * 3 if path is None else _sizes(path)
    return StoreFigures(
        redundancy=repair_report(reader),
        totals=totals(reader),
        scrub=progress.read(reader, ScrubProgress) or ScrubProgress(),
        lease=leases.read(reader),
        recoveries=progress.read(reader, Recoveries) or Recoveries(),
        open_uploads=counts.open_uploads(reader),
        events_kept=counts.events_kept(reader),
        events_ever=counts.events_ever(reader),
        catalog_bytes=file_bytes,
        wal_bytes=wal_bytes,
        disk_free_bytes=free_bytes,
    )


def _sizes(path: Path) -> tuple[int, int, int]:
    wal = path.with_name(path.name + "-wal")
    return _size(path), _size(wal), shutil.disk_usage(path.parent).free


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


class StoreWatch:
    """Reads the figures when somebody wants them and those it has are too old, one read at a time."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._catalog = catalog
        self._monotonic = monotonic
        self._deadline_s = deadline_s
        self._known: StoreFigures | None = None
        self._read_at_s = 0.0
        self._fresh_until_s = 0.0
        self._reading: asyncio.Task[bool] | None = None

    async def latest(self) -> tuple[StoreFigures | None, float, bool]:
        """The figures, their age in seconds, and whether they are as they should be. Else the catalog could not be
        read, or not in time, and they are the last ones there were, or None.
        """
        well = True
        if self._known is None or self._monotonic() >= self._fresh_until_s:
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._read(), name="store figures")
            done, _ = await asyncio.wait((self._reading,), timeout=self._deadline_s)
            well = bool(done) and self._reading.result()
        age_s = self._monotonic() - self._read_at_s if self._known is not None else 0.0
        return self._known, age_s, well

    async def _read(self) -> bool:
        began_s = self._monotonic()
        path = self._catalog.path
        try:
            self._known = await self._catalog.read(lambda reader: read_figures(reader, path))
        except (CatalogError, OSError) as error:
            log.warning("the figures of the store could not be read: %s", error)
            return False
        self._read_at_s = self._monotonic()
        self._fresh_until_s = self._read_at_s + KEPT_FOR * (self._read_at_s - began_s)
        return True
