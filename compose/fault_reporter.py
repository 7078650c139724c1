"""Takes the bad and missing blocks that a front's readers meet to the catalog's repair queue."""

from __future__ import annotations

import asyncio
import logging

from catalog import work
from catalog.engine import Catalog
from catalog.errors import CatalogError
from catalog.model import FaultReport
from catalog.transaction import Transaction
from cluster.stripe_read import Fault

BLOBS_MAX = 1000
"""Blobs that wait to be reported. Beyond it reports are dropped: who reads such a block again reports it
again.
"""
FAULTS_PER_BLOB_MAX = 16
"""A repair looks at the whole blob anyway."""

_log = logging.getLogger("trivet.compose")


class FaultReporter:
    """`report` never waits; `run` is a task of its own, so that no request waits for the catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._waiting: dict[bytes, dict[FaultReport, None]] = {}
        self._there_is_work = asyncio.Event()

    def report(self, fault: Fault) -> None:
        """Queues a fault, each one once, and logs it."""
        faults = self._waiting.get(fault.blob_id)
        if faults is None:
            if len(self._waiting) >= BLOBS_MAX:
                return
            faults = self._waiting[fault.blob_id] = {}
        told = FaultReport(fault.stripe, fault.shard, fault.node, fault.kind)
        if told in faults or len(faults) >= FAULTS_PER_BLOB_MAX:
            return
        faults[told] = None
        _log.warning(
            "blob %s stripe %d shard %d is %s on node %d: rebuilt from the others",
            *(fault.blob_id.hex(), fault.stripe, fault.shard, fault.kind, fault.node),
        )
        self._there_is_work.set()

    async def run(self) -> None:
        """Until cancelled. What can't be written is dropped, with a log line."""
        while True:
            await self._there_is_work.wait()
            self._there_is_work.clear()
            batch, self._waiting = self._waiting, {}

            def write(tx: Transaction, batch: dict[bytes, dict[FaultReport, None]] = batch) -> None:
                for blob_id, faults in batch.items():
                    work.report_faults(tx, blob_id, tuple(faults))

            try:
                await self._catalog.write(write, unshipped=True)
            except CatalogError as error:
                _log.warning("%d blobs with bad blocks were not queued for repair: %s", len(batch), error)
