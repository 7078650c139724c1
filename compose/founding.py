"""Before the nodes of a store start: its catalog and its nodes' directories, made, checked or brought up to
date. The catalog says which nodes there are and where their data lies; options only say it of a new store.

Runs in a short-lived process of its own (``trivet found``), at each start and whenever the set of nodes has
changed. Each step is one transaction or one durable file, in an order that a crash at any instant leaves in a
state from which the next one goes on:

1. no catalog: refused beside a node's directory that is not empty (S18), else made;
2. no nodes yet: registered as `joining`, with their ids and directories;
3. directories of `joining` nodes: initialised with those ids;
4. told where the nodes listen: that is written down, and the nodes of a new store are known (`up`).

A node that joins later is known when it answers the steward for the first time.

A known node's directory is never touched: an empty one is an unmounted disk, which the node refuses (S23).
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from catalog import nodes
from catalog.engine import Catalog, CatalogSettings, create
from catalog.errors import CatalogError
from catalog.model import NodeRow
from catalog.new_file import moved_path, moving_path
from catalog.transaction import Transaction
from cluster.node.files import RealFiles
from cluster.node.identity import NodeRefused, initialise, is_initialised, read_identity
from compose.catalog_place import catalog_of, describe
from compose.catalog_reach import FOUNDING_WAIT_S, when_reached
from compose.data_dir import DataDir
from compose.founding_plan import Addresses, FoundedNode, FoundedStore, FoundingPlan, PlannedNode
from compose.refusal import StartRefused
from compose.settings import Settings

ID_BYTES = 16
_NOT_DATA = {"lost+found"}
_log = logging.getLogger("trivet.compose")

Listen = Callable[[FoundedStore], Addresses]
"""Tells the supervisor about the nodes and hears where they listen."""


def found(settings: Settings, plan: FoundingPlan, listen: Listen) -> None:
    """Does all steps. Raises StartRefused."""
    try:
        asyncio.run(_found(settings, plan, listen))
    except (CatalogError, NodeRefused) as refusal:
        raise StartRefused(str(refusal)) from refusal


def there_is_catalog(where: Path | str) -> bool:
    """Whether there is one in that file or database, of whatever release. Raises CatalogError."""
    if isinstance(where, Path):
        return where.exists()
    from catalog.postgres import Postgres, revision_of

    with closing(Postgres(where).connect()) as connection:
        if revision_of(connection) is None:
            return False
        return connection.execute("SELECT 1 FROM meta").fetchone() is not None


def make_catalog(
    data: DataDir, where: Path | str, cluster_id: bytes, planned: Sequence[PlannedNode] = ()
) -> None:
    """Raises StartRefused beside a node's directory that is not empty (S18), CatalogError."""
    _refuse_data_without_catalog(data, where, planned)
    create(where, cluster_id=cluster_id, nodes_hold_data=False)


async def _found(settings: Settings, plan: FoundingPlan, listen: Listen) -> None:
    data, where = DataDir(settings.data), catalog_of(settings)
    if not await when_reached(lambda: there_is_catalog(where), where, FOUNDING_WAIT_S):
        if not plan.nodes:
            raise StartRefused(f"there is no catalog: {describe(where)}")
        make_catalog(data, where, os.urandom(ID_BYTES), plan.nodes)
    # Recorded where there is a log (S17), which begins with it; the first process that has nodes ships it.
    copies = settings.catalog_copies if isinstance(where, Path) else 0
    catalog = Catalog.open(where, CatalogSettings(copies=copies))
    await catalog.start()
    try:
        founder = _Founder(data, catalog, plan, (await catalog.meta()).cluster_id)
        await founder.settle_nodes()
        store = await founder.settle_directories()
        await founder.settle_addresses(listen(store))
    finally:
        await catalog.close()


class _Founder:
    """Steps 2 to 4 on an open catalog."""

    def __init__(self, data: DataDir, catalog: Catalog, plan: FoundingPlan, cluster_id: bytes) -> None:
        self._data = data
        self._catalog = catalog
        self._plan = plan
        self._cluster_id = cluster_id
        self._is_new = False

    async def _nodes(self) -> list[NodeRow]:
        """Those that a supervisor is to run; others are started by themselves."""
        return [row for row in await self._present() if not nodes.stands_alone(row) or self._is_old(row)]

    def _is_old(self, row: NodeRow) -> bool:
        """Whether it is of a catalog that did not have the directories yet."""
        places = {*self._plan.given, str(self._data.root / row.name)}
        return any(self._resident(Path(place)) == row.node_id for place in places)

    async def _present(self) -> list[NodeRow]:
        return [row for row in await nodes.current(self._catalog) if row.state != nodes.REMOVED]

    async def settle_nodes(self) -> None:
        """Register the planned nodes of a new store; find the directories of one that is there."""
        rows, present = await self._nodes(), await self._present()
        if not present:
            await self._catalog.write(self._register_planned)
            return
        self._refuse_too_few(present)
        homes = self._homes(rows)
        self._refuse_strange_directories(homes.values(), await nodes.current(self._catalog))
        moved = [(row, homes[row.number]) for row in rows if homes[row.number] != row.directory]
        if moved:
            await self._catalog.write(lambda tx: _move_homes(tx, moved))

    def _register_planned(self, tx: Transaction) -> None:
        if not self._plan.nodes:
            raise StartRefused("this store has no nodes yet: give --node-dir once for each of them")
        for node in self._plan.nodes:
            nodes.register(
                tx,
                node_id=os.urandom(ID_BYTES),
                name=node.name,
                region=node.region,
                zone=node.zone,
                host=str(self._data.node_socket(node.name)),
                port=0,
                directory=self._data.stored(Path(node.directory)),
            )

    def _refuse_too_few(self, rows: Sequence[NodeRow]) -> None:
        if len(rows) < self._plan.width:
            raise StartRefused(
                f"this store has {len(rows)} nodes, but its stripes are to have {self._plan.width} shards: start "
                "it with fewer shards, add nodes (trivet node add), then start it again"
            )
        if self._plan.nodes_asked not in (0, len(rows)):
            _log.warning(
                "this store has %d nodes and keeps them: --nodes is for a new one (use trivet node add)",
                len(rows),
            )

    def _homes(self, rows: Sequence[NodeRow]) -> dict[int, str]:
        """Where each node's data lies, by number: in the directory given now that is its home, or as the
        catalog has it, or, in one made before the catalog had it, as planned by its name.
        """
        given = {Path(directory) for directory in self._plan.given}
        found_in = {self._resident(directory): directory for directory in given}
        planned = {node.name: node.directory for node in self._plan.nodes}
        homes = {}
        for row in rows:
            if row.node_id in found_in:
                homes[row.number] = self._data.stored(found_in[row.node_id])
            elif row.directory is not None:
                homes[row.number] = row.directory
            else:
                homes[row.number] = self._data.stored(Path(planned.get(row.name, self._data.root / row.name)))
        return homes

    def _resident(self, directory: Path) -> bytes | None:
        try:
            return read_identity(directory, RealFiles(), cluster_id=self._cluster_id).node_id
        except (NodeRefused, OSError):
            return None

    def _refuse_strange_directories(self, homes: Iterable[str], rows: Sequence[NodeRow]) -> None:
        """The directories of removed nodes are no strangers: the command line of a service may still name
        them.
        """
        known = {*homes, *(row.directory for row in rows)}
        strange = [name for name in self._plan.given if self._data.stored(Path(name)) not in known]
        if strange:
            names = ", ".join(row.name for row in rows if row.state != nodes.REMOVED)
            raise StartRefused(
                f"{', '.join(strange)} is not a directory of this store, which has the nodes {names}: leave "
                "--node-dir out, or name the same ones as before; trivet node add adds one"
            )

    async def settle_directories(self) -> FoundedStore:
        rows, present = await self._nodes(), await self._present()
        self._is_new = all(row.state == nodes.JOINING for row in present)
        problems: dict[int, str] = {}
        for row in rows:
            if row.state == nodes.JOINING:
                try:
                    self._initialise(row)
                except NodeRefused as refusal:
                    if self._is_new:
                        raise
                    problems[row.number] = str(refusal)
                    _log.error("%s can't join: %s", row.name, refusal)
        return FoundedStore(
            cluster_id=self._cluster_id.hex(),
            nodes=[
                FoundedNode(
                    row.number,
                    row.name,
                    row.node_id.hex(),
                    str(self._data.home(row.directory or "")),
                    problems.get(row.number, ""),
                )
                for row in rows
            ],
            nodes_elsewhere=len(present) - len(rows),
        )

    def _initialise(self, row: NodeRow) -> None:
        """Raises NodeRefused."""
        assert row.directory is not None
        directory = self._data.home(row.directory)
        files = RealFiles()
        if is_initialised(directory):  # by one that died before the node was marked as known
            read_identity(directory, files, cluster_id=self._cluster_id, node_id=row.node_id)
            return
        try:
            directory.parent.mkdir(parents=True, exist_ok=True)
            initialise(
                directory,
                cluster_id=self._cluster_id,
                name=row.name,
                region=row.region,
                zone=row.zone,
                files=files,
                node_id=row.node_id,
            )
        except OSError as error:
            raise NodeRefused(
                f"{row.name}'s directory {directory} can't be used: {error.strerror}"
            ) from error

    async def settle_addresses(self, told: Addresses) -> None:
        def write(tx: Transaction) -> None:
            rows = {row.number: row for row in nodes.list_nodes(tx)}
            for node in told.nodes:
                row = rows[node.number]
                if (row.host, row.port) != (node.host, node.port):
                    nodes.move(tx, node.number, host=node.host, port=node.port)
                if self._is_new and row.state == nodes.JOINING:
                    nodes.set_state(tx, node.number, nodes.UP)

        await self._catalog.write(write)


def _move_homes(tx: Transaction, moved: Sequence[tuple[NodeRow, str]]) -> None:
    for row, directory in moved:
        nodes.move(tx, row.number, host=row.host, port=row.port, directory=directory)


def _refuse_data_without_catalog(data: DataDir, where: Path | str, planned: Sequence[PlannedNode]) -> None:
    """An empty catalog would call everything in the nodes garbage (S18)."""
    if isinstance(where, Path) and moved_path(where).exists():
        raise StartRefused(
            f"this store's catalog was moved from {where} to a database: name that with TRIVET_CATALOG_FILE or "
            "TRIVET_CATALOG"
        )
    if isinstance(where, Path) and moving_path(where).exists():
        raise StartRefused(
            f"a move of {where} to a database was cut short: run trivet catalog migrate again, or rename "
            f"{moving_path(where)} back to take it back"
        )
    for directory in sorted({*(Path(node.directory) for node in planned), *data.root.glob("node-*")}):
        if directory.exists() and set(os.listdir(directory)) - _NOT_DATA:
            place = (
                f"no catalog in {data.root}"
                if isinstance(where, Path)
                else f"no catalog at {describe(where)}"
            )
            raise StartRefused(
                f"there is {place}, but the node's directory {directory} is not empty: "
                "a new catalog would not know that data. Put the catalog back (trivet catalog restore), "
                "or name other directories"
            )


def answer(settings: Settings, read_line: Callable[[], bytes], write_line: Callable[[bytes], object]) -> None:
    """`found` as the process at the other end of two pipes (see compose.founding_plan). Raises
    StartRefused.
    """
    plan = msgspec.json.decode(read_line(), type=FoundingPlan)

    def listen(store: FoundedStore) -> Addresses:
        write_line(msgspec.json.encode(store) + b"\n")
        line = read_line()
        if not line:
            raise StartRefused("the supervisor is gone")
        return msgspec.json.decode(line, type=Addresses)

    found(settings, plan, listen)
