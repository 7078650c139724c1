"""Before anything else of a store starts: its catalog and its nodes' directories, made, checked or
brought up to date.

Runs in a short-lived process of its own (``trivet found``). Each step is one transaction or one durable
file, in an order that a crash at any instant leaves in a state from which the next start goes on:

1. no catalog: refused beside a node's directory that is not empty (S18), else made;
2. nodes unknown to the catalog: registered as `joining`, with their ids;
3. directories of `joining` nodes: initialised with those ids, then the nodes are known (`up`).

A known node's directory is never touched: an empty one is an unmounted disk, which the node refuses (S23).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from catalog import nodes
from catalog.engine import Catalog, create
from catalog.errors import CatalogError
from catalog.model import NodeRow
from catalog.transaction import Transaction
from cluster.node.files import RealFiles
from cluster.node.identity import NodeRefused, initialise, is_initialised, read_identity
from compose.data_dir import DataDir
from compose.founding_plan import FoundedNode, FoundedStore, FoundingPlan, PlannedNode
from compose.refusal import StartRefused
from compose.settings import Settings

ID_BYTES = 16
_NOT_DATA = {"lost+found"}


def found(settings: Settings, request: bytes) -> bytes:
    """A FoundingPlan as JSON to a FoundedStore as JSON. Raises StartRefused."""
    plan = msgspec.json.decode(request, type=FoundingPlan)
    try:
        founded = asyncio.run(_found(DataDir(settings.data), plan))
    except (CatalogError, NodeRefused) as refusal:
        raise StartRefused(str(refusal)) from refusal
    return msgspec.json.encode(founded)


async def _found(data: DataDir, plan: FoundingPlan) -> FoundedStore:
    if not data.catalog.exists():
        _refuse_data_without_catalog(data, plan.nodes)
        create(data.catalog, cluster_id=os.urandom(ID_BYTES), nodes_hold_data=False)
    catalog = Catalog.open(data.catalog)
    await catalog.start()
    try:
        rows = {row.name: row for row in await nodes.current(catalog)}
        _refuse_other_nodes(rows, plan.nodes)
        await catalog.write(lambda tx: _bring_up_to_date(tx, rows, plan.nodes))
        rows = {row.name: row for row in await nodes.current(catalog)}
        cluster_id = (await catalog.meta()).cluster_id
        joining = [node for node in plan.nodes if rows[node.name].state == nodes.JOINING]
        for node in joining:
            _initialise(node, rows[node.name], cluster_id)
        if joining:
            await catalog.write(lambda tx: _mark_known(tx, [rows[node.name].number for node in joining]))
        return FoundedStore(
            cluster_id=cluster_id.hex(),
            nodes=[FoundedNode(node.name, rows[node.name].node_id.hex()) for node in plan.nodes],
        )
    finally:
        await catalog.close()


def _refuse_data_without_catalog(data: DataDir, planned: Sequence[PlannedNode]) -> None:
    """An empty catalog would call everything in the nodes garbage (S18)."""
    for node in planned:
        directory = Path(node.directory)
        if directory.exists() and set(os.listdir(directory)) - _NOT_DATA:
            raise StartRefused(
                f"there is no catalog in {data.root}, but {node.name}'s directory {directory} is not empty: "
                f"a new catalog would not know that data. Put {data.catalog.name} back, or name other directories"
            )


def _refuse_other_nodes(rows: Mapping[str, NodeRow], planned: Sequence[PlannedNode]) -> None:
    names = {node.name for node in planned}
    if rows and set(rows) != names:
        raise StartRefused(
            f"this store has the nodes {', '.join(sorted(rows))}, but {len(names)} directories were given: name "
            "the same ones as before, in the same order"
        )


def _bring_up_to_date(tx: Transaction, rows: Mapping[str, NodeRow], planned: Sequence[PlannedNode]) -> None:
    for node in planned:
        row = rows.get(node.name)
        if row is None:
            nodes.register(
                tx,
                node_id=os.urandom(ID_BYTES),
                name=node.name,
                region=node.region,
                zone=node.zone,
                host=node.host,
                port=node.port,
            )
        else:
            nodes.move(tx, row.number, host=node.host, port=node.port)


def _mark_known(tx: Transaction, numbers: Sequence[int]) -> None:
    for number in numbers:
        nodes.set_state(tx, number, nodes.UP)


def _initialise(node: PlannedNode, row: NodeRow, cluster_id: bytes) -> None:
    directory = Path(node.directory)
    files = RealFiles()
    if is_initialised(directory):  # by a start that died before the node was marked as known
        read_identity(directory, files, cluster_id=cluster_id, node_id=row.node_id)
        return
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        initialise(
            directory,
            cluster_id=cluster_id,
            name=row.name,
            region=row.region,
            zone=row.zone,
            files=files,
            node_id=row.node_id,
        )
    except OSError as error:
        raise StartRefused(f"{node.name}'s directory {directory} can't be used: {error.strerror}") from error
