"""The catalog's machine burns down: all processes on it end, its files are gone, and the nodes give it back (S17)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pysqlite3.dbapi2 as driver

from catalog.log_records import LogUnreadable
from catalog.nodes import JOINING, REMOVED
from catalog.replay import restore_from_log
from cluster import wire
from cluster.catalog_log_source import LogSource, _pages
from cluster.log_names import LogEntryName
from cluster.node.records import BlockUnreadable
from cluster.node.store import BlockMissing, Store
from tests.sim.clocks import EPOCH_MS
from tests.sim.loop import SimLoop
from tests.sim.node import SimNode
from tests.sim.processes import Service
from tests.sim.truth import Truth, Violation

COPIES = 2


class CatalogLoss:
    """`strike` does it, at one moment."""

    def __init__(
        self,
        loop: SimLoop,
        chance: random.Random,
        *,
        path: Path,
        services: Sequence[Service],
        nodes: Sequence[SimNode],
        truth: Truth,
        note: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._chance = chance
        self._path = path
        self._services = services
        self._nodes = nodes  # those with a disk
        self._truth = truth
        self._note = note
        self.restored = 0

    def strike(self) -> bool:
        """Whether it was done: the catalog is there again, and nobody has opened it. Only where the log must be whole:
        of two disks that went, both may have held the same part of it. Raises Violation."""
        holders = self._holders()
        if not holders:
            return False
        names = ", ".join(node.name for node in holders)
        self._note(f"the catalog is lost, and restored from {names}")
        for service in self._services:
            service.kill()
            service.close()
        self._truth.catalog_gone()
        for file in self._path.parent.glob(f"{self._path.name}*"):
            if not file.name.endswith((".lock", ".ballast")):
                file.unlink()
        sources = [_Share(node) for node in holders]
        try:
            report = restore_from_log(
                sources, self._path, copies=COPIES, clock=lambda: EPOCH_MS + int(self._loop.now * 1000)
            )
        except Exception as error:
            raise Violation(f"S17: nothing is restored from {names}: {error}") from error
        self._note(f"restored: batch {report.snapshot_batch} and {report.batches} after it")
        self._truth.catalog_back(self._connection())
        self.restored += 1
        return True

    def _holders(self) -> list[SimNode]:
        """So many of the nodes, taken by chance, that every part of the log is on one of them; none when that can't be
        had now."""
        gone = len(self._truth.lost) + len(self._truth.removed)
        if gone > 1 or any(node.disk.fuse is not None for node in self._nodes):
            return []
        connection = self._connection()
        rows = connection.execute(
            "SELECT number FROM nodes WHERE state NOT IN (?, ?)", (JOINING, REMOVED)
        ).fetchall()
        connection.close()
        members = {number for (number,) in rows}
        there = [n for n in self._nodes if n.number in members and n.store is not None]
        needed = len(members) - COPIES + 1
        if len(there) < needed or (
            gone and len(there) + len(members & self._truth.lost.keys()) < len(members)
        ):
            return []
        return there if gone else self._chance.sample(there, needed)

    def _connection(self) -> driver.Connection:
        return driver.connect(str(self._path), isolation_level=None, check_same_thread=False)


class _Share(LogSource):
    """What a node holds, read from its store while it serves."""

    def __init__(self, node: SimNode) -> None:
        super().__init__(node.name)
        assert node.store is not None
        self._store: Store = node.store
        self._found(_pages(self._store.log_status))

    def _record(self, name: LogEntryName) -> wire.Buffer:
        try:
            return self._store.read_log(name, 0)[0]
        except (BlockMissing, BlockUnreadable) as error:
            raise LogUnreadable(f"{self.what}: {name}: {error}") from error
