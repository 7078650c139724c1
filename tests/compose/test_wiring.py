"""A running process follows the nodes that the catalog names."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from catalog import nodes, usage
from catalog.engine import Catalog, CatalogSettings, create
from catalog.errors import CatalogBusy
from catalog.model import NodeRow
from catalog.transaction import Transaction
from cluster import wire
from cluster.topology import NodeSet
from compose import wiring
from compose.data_dir import DataDir
from compose.refusal import StartRefused
from compose.settings import Settings
from compose.wiring import follow_nodes, opened_catalog
from tests.cluster.conftest import until

CLUSTER_ID = b"test cluster 016"
PERIOD_S = 0.005


@asynccontextmanager
async def followed(path: Path) -> AsyncIterator[tuple[Catalog, NodeSet]]:
    """A catalog without nodes, and a set that follows it."""
    create(path, cluster_id=CLUSTER_ID, nodes_hold_data=False)
    catalog = Catalog.open(path, CatalogSettings(ballast_bytes=1 << 16))
    await catalog.start()
    node_set = NodeSet.connecting([], secret=b"s" * 32, cluster_id=CLUSTER_ID, role=wire.Role.FRONT)
    async with node_set, asyncio.TaskGroup() as tasks:
        following = tasks.create_task(follow_nodes(node_set, catalog, (), PERIOD_S))
        yield catalog, node_set
        following.cancel()
    await catalog.close()


def register(tx: Transaction, number: int) -> NodeRow:
    return nodes.register(
        tx,
        node_id=bytes([number]) * 16,
        name=f"n{number}",
        region="r",
        zone="z",
        host="127.0.0.1",
        port=number,
    )


def states(node_set: NodeSet) -> dict[str, str]:
    return {node.name: node.state for node in node_set.nodes}


async def test_added_drained_moved_and_removed_nodes_take_effect(tmp_path: Path) -> None:
    """Red when the tuple was compared with itself: the cache gives the same one until something changes."""
    async with followed(tmp_path / "catalog.sqlite") as (catalog, node_set):
        for number in (1, 2):
            await catalog.write(lambda tx, number=number: register(tx, number))  # type: ignore[misc]
        await until(lambda: states(node_set) == {"n1": "joining", "n2": "joining"}, "both are there")
        link = node_set.link(1)
        assert link is not None
        await catalog.write(lambda tx: nodes.set_state(tx, 1, "draining"))
        await until(lambda: states(node_set)["n1"] == "draining", "node 1 drains")
        assert node_set.link(1) is link
        await catalog.write(lambda tx: nodes.move(tx, 1, host="127.0.0.1", port=9))
        await until(lambda: link.address == ("127.0.0.1", 9), "node 1 moved")
        await catalog.write(lambda tx: nodes.set_state(tx, 1, "removed"))
        await until(lambda: states(node_set) == {"n2": "joining"}, "node 1 is gone")
        assert node_set.link(1) is None
        # And here it is cancelled in the middle of closing that link. Red when `Link.close` swallowed that.


async def test_an_unreadable_catalog_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red without the except: the first hiccup ended the process."""
    async with followed(tmp_path / "catalog.sqlite") as (catalog, node_set):
        await catalog.write(lambda tx: register(tx, 1))
        await until(lambda: len(node_set.nodes) == 1, "it is there")
        readable = nodes.current
        tried = asyncio.Event()

        async def unreadable(_: Catalog) -> tuple[NodeRow, ...]:
            tried.set()
            raise CatalogBusy("busy")

        monkeypatch.setattr(nodes, "current", unreadable)
        await catalog.write(lambda tx: register(tx, 2))
        await tried.wait()
        assert len(node_set.nodes) == 1
        monkeypatch.setattr(nodes, "current", readable)
        await until(lambda: len(node_set.nodes) == 2, "it is read again")


async def test_s25_a_command_does_not_migrate_the_catalog_of_a_store_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That one is of the older release, or the catalog would not be. Without one, whoever comes first migrates it. Red
    when the state of the store was not looked at."""
    older = """
        DROP TABLE bucket_documents; DROP TABLE encryption_keys; DROP TABLE lifecycle_queue;
        DROP TABLE bucket_usage_shares;
        DROP INDEX versions_newest; ALTER TABLE versions DROP COLUMN noncurrent_ms; ALTER TABLE blobs DROP COLUMN seal;
        UPDATE alembic_version SET version_num = '0003';
    """
    settings = Settings(data=tmp_path)
    create(DataDir(tmp_path).catalog, cluster_id=CLUSTER_ID, nodes_hold_data=False)
    raw = sqlite3.connect(DataDir(tmp_path).catalog, isolation_level=None)
    raw.executescript(older)
    raw.close()
    monkeypatch.setattr(wiring, "processes", lambda _place: {"front": 4711})
    with pytest.raises(StartRefused, match="a store runs on it"):
        async with opened_catalog(settings):
            pass
    monkeypatch.setattr(wiring, "processes", lambda _place: {})
    async with opened_catalog(settings) as catalog:
        assert (await catalog.read(usage.totals))[0] == 0
