"""From nothing to a catalog and nodes' directories, and on from wherever an earlier start died."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
import sqlalchemy as sa

from catalog import nodes, schema
from catalog.engine import Catalog, create
from catalog.model import NodeRow
from catalog.statement import Statement
from catalog.transaction import Transaction
from cluster.membership import Membership
from cluster.node.files import RealFiles
from cluster.node.identity import initialise, read_identity
from compose import founding
from compose.data_dir import DataDir
from compose.founding_plan import Addresses, FoundedStore, FoundingPlan, NodeAddress, PlannedNode
from compose.refusal import StartRefused
from compose.settings import Settings


def plan(
    root: Path, count: int = 3, given: Sequence[Path] = (), asked: int = 0, width: int = 3
) -> FoundingPlan:
    directories = given or [root / f"node-{n}" for n in range(1, count + 1)]
    return FoundingPlan(
        [
            PlannedNode(f"node-{n}", f"region-{n}", f"zone-{n}", str(directory))
            for n, directory in enumerate(directories, 1)
        ],
        [str(directory) for directory in given],
        asked,
        width,
    )


NO_PLAN = FoundingPlan([])


def found(root: Path, wanted: FoundingPlan, port: int = 7000) -> FoundedStore:
    """What the supervisor hears; it listens for each node on `port` and its number."""
    heard: list[FoundedStore] = []

    def listen(store: FoundedStore) -> Addresses:
        heard.append(store)
        usable = [node for node in store.nodes if not node.problem]
        return Addresses([NodeAddress(node.number, "127.0.0.1", port + node.number) for node in usable])

    founding.found(Settings(data=root), wanted, listen)
    return heard[0]


async def known_nodes(root: Path) -> tuple[NodeRow, ...]:
    catalog = Catalog.open(DataDir(root).catalog)
    await catalog.start()
    rows = await nodes.current(catalog)
    await catalog.close()
    return rows


async def register_only(root: Path, wanted: FoundingPlan) -> tuple[bytes, tuple[NodeRow, ...]]:
    """What a start leaves that dies before it touches the nodes' directories."""
    cluster_id = os.urandom(16)
    create(DataDir(root).catalog, cluster_id=cluster_id, nodes_hold_data=False)
    catalog = Catalog.open(DataDir(root).catalog)
    await catalog.start()
    for node in wanted.nodes:
        await catalog.write(
            lambda tx, node=node: nodes.register(  # type: ignore[misc]
                tx,
                node_id=os.urandom(16),
                name=node.name,
                region=node.region,
                zone=node.zone,
                host="",
                port=0,
                directory=Path(node.directory).name,
            )
        )
    rows = await nodes.current(catalog)
    await catalog.close()
    return cluster_id, rows


def test_a_first_start_and_a_second_on_other_ports(tmp_path: Path) -> None:
    first = found(tmp_path, plan(tmp_path))
    second = found(tmp_path, plan(tmp_path), port=8000)
    assert second == first
    for node in first.nodes:
        identity = read_identity(tmp_path / node.name, RealFiles())
        assert (identity.node_id.hex(), identity.cluster_id.hex()) == (node.node_id, first.cluster_id)


async def test_nodes_are_known_and_where_they_listen_is_up_to_date(tmp_path: Path) -> None:
    await _in_thread(tmp_path, plan(tmp_path))
    await _in_thread(tmp_path, plan(tmp_path), port=8000)
    rows = await known_nodes(tmp_path)
    assert [(row.name, row.port, row.state) for row in rows] == [
        ("node-1", 8001, "up"),
        ("node-2", 8002, "up"),
        ("node-3", 8003, "up"),
    ]


async def _in_thread(root: Path, wanted: FoundingPlan, port: int = 7000) -> FoundedStore:
    """`found` runs an event loop of its own."""
    return await asyncio.to_thread(found, root, wanted, port)


async def test_goes_on_where_a_start_died_before_the_directories(tmp_path: Path) -> None:
    cluster_id, rows = await register_only(tmp_path, plan(tmp_path))
    founded = await _in_thread(tmp_path, plan(tmp_path))
    assert founded.cluster_id == cluster_id.hex()
    assert [node.node_id for node in founded.nodes] == [row.node_id.hex() for row in rows]
    assert {row.state for row in await known_nodes(tmp_path)} == {"up"}


async def test_goes_on_where_a_start_died_before_the_nodes_were_known(tmp_path: Path) -> None:
    cluster_id, rows = await register_only(tmp_path, plan(tmp_path))
    for row in rows[:2]:
        initialise(
            tmp_path / row.name,
            cluster_id=cluster_id,
            name=row.name,
            region=row.region,
            zone=row.zone,
            files=RealFiles(),
            node_id=row.node_id,
        )
    await _in_thread(tmp_path, plan(tmp_path))
    assert {row.state for row in await known_nodes(tmp_path)} == {"up"}


async def test_a_joining_node_does_not_take_over_a_strangers_directory(tmp_path: Path) -> None:
    await register_only(tmp_path, plan(tmp_path))
    initialise(tmp_path / "node-1", cluster_id=bytes(16), name="x", region="r", zone="z", files=RealFiles())
    with pytest.raises(StartRefused, match="another cluster"):
        await _in_thread(tmp_path, plan(tmp_path))


def test_s18_no_catalog_beside_a_directory_that_is_not_empty(tmp_path: Path) -> None:
    """Went red (a catalog was made) with the call of _refuse_data_without_catalog taken out."""
    (tmp_path / "node-2").mkdir()
    (tmp_path / "node-2" / "node.json").write_text("{}")
    with pytest.raises(StartRefused, match="node-2 is not empty"):
        found(tmp_path, plan(tmp_path))
    assert not DataDir(tmp_path).catalog.exists()


def test_s18_a_fresh_file_system_is_empty(tmp_path: Path) -> None:
    (tmp_path / "node-2" / "lost+found").mkdir(parents=True)
    assert len(found(tmp_path, plan(tmp_path)).nodes) == 3


def test_s23_a_known_nodes_directory_is_never_made_again(tmp_path: Path) -> None:
    found(tmp_path, plan(tmp_path))
    (tmp_path / "node-2").rename(tmp_path / "unmounted")
    found(tmp_path, plan(tmp_path))
    assert not (tmp_path / "node-2").exists()


def test_the_catalog_says_which_nodes_there_are(tmp_path: Path) -> None:
    """Later starts give the same directories, some of them, none, or hints that no longer count."""
    disks = [tmp_path / "disks" / str(n) for n in (1, 2, 3)]
    data = tmp_path / "data"
    data.mkdir()
    first = found(data, plan(data, given=disks))
    for again in (plan(data, given=disks), plan(data, given=disks[1:]), plan(data, asked=5), NO_PLAN):
        assert found(data, again) == first
    assert [node.directory for node in first.nodes] == [str(disk) for disk in disks]


def test_a_directory_that_is_not_of_the_store_is_refused(tmp_path: Path) -> None:
    found(tmp_path, plan(tmp_path))
    with pytest.raises(StartRefused, match=r"elsewhere is not .* node-1, node-2, node-3.*trivet node add"):
        found(tmp_path, plan(tmp_path, given=[tmp_path / "node-1", tmp_path / "elsewhere"]))


def test_more_shards_than_nodes_are_refused(tmp_path: Path) -> None:
    found(tmp_path, plan(tmp_path))
    with pytest.raises(StartRefused, match=r"has 3 nodes, .* 6 shards"):
        found(tmp_path, plan(tmp_path, count=6, width=6))


def test_a_data_directory_can_be_moved_as_a_whole(tmp_path: Path) -> None:
    """Red when directories inside it were kept as absolute paths."""
    (tmp_path / "here").mkdir()
    first = found(tmp_path / "here", plan(tmp_path / "here"))
    (tmp_path / "here").rename(tmp_path / "there")
    second = found(tmp_path / "there", plan(tmp_path / "there"))
    assert [node.node_id for node in second.nodes] == [node.node_id for node in first.nodes]
    assert {Path(node.directory).parent for node in second.nodes} == {tmp_path / "there"}


def test_a_node_whose_directory_moved_is_found_when_it_is_named(tmp_path: Path) -> None:
    found(tmp_path, plan(tmp_path))
    (tmp_path / "node-2").rename(tmp_path / "disk2")
    moved = found(tmp_path, plan(tmp_path, given=[tmp_path / "disk2"]))
    assert moved.nodes[1].directory == str(tmp_path / "disk2")
    assert found(tmp_path, NO_PLAN) == moved


def test_a_store_of_the_first_release_gets_its_directories(tmp_path: Path) -> None:
    """Its catalog knows none: they are those of --node-dir in the same order, else the ones in the data
    directory.
    """
    disks = [tmp_path / "disks" / str(n) for n in (1, 2, 3)]
    for name, given, homes in (("a", (), []), ("b", disks, disks)):
        root = tmp_path / name
        root.mkdir()
        first = found(root, plan(root, given=given))
        change(root, lambda tx: tx.execute(_FORGET_DIRECTORIES))
        assert found(root, plan(root, given=given)) == first
        rows = asyncio.run(known_nodes(root))
        assert [row.directory for row in rows] == (
            [str(home) for home in homes] or ["node-1", "node-2", "node-3"]
        )


_FORGET_DIRECTORIES = Statement(sa.update(schema.nodes).values(directory=sa.null()))
T = TypeVar("T")


def change(root: Path, function: Callable[[Transaction], T]) -> T:
    async def write() -> T:
        catalog = Catalog.open(DataDir(root).catalog)
        await catalog.start()
        try:
            return await catalog.write(function)
        finally:
            await catalog.close()

    return asyncio.run(write())


def test_a_node_that_joins_a_store_gets_its_directory_and_waits_to_be_known(tmp_path: Path) -> None:
    found(tmp_path, plan(tmp_path))
    change(tmp_path, lambda tx: Membership(DataDir(tmp_path), tx, 3).add(tmp_path / "fourth"))
    founded = found(tmp_path, NO_PLAN)
    assert [node.name for node in founded.nodes] == ["node-1", "node-2", "node-3", "node-4"]
    assert read_identity(tmp_path / "fourth", RealFiles()).node_id.hex() == founded.nodes[3].node_id
    rows = asyncio.run(known_nodes(tmp_path))
    assert [(row.state, row.port) for row in rows] == [("up", 7000 + n) for n in (1, 2, 3)] + [
        ("joining", 7004)
    ]


def test_a_node_that_cannot_join_does_not_stop_the_others(tmp_path: Path) -> None:
    """Red when its refusal ended the start."""
    found(tmp_path, plan(tmp_path))
    change(tmp_path, lambda tx: Membership(DataDir(tmp_path), tx, 3).add(tmp_path / "fourth"))
    (tmp_path / "fourth" / "holiday.jpg").write_text("")
    founded = found(tmp_path, NO_PLAN)
    assert [bool(node.problem) for node in founded.nodes] == [False, False, False, True]
    assert "not empty" in founded.nodes[3].problem


def test_s18_no_catalog_beside_a_node_that_was_added_later(tmp_path: Path) -> None:
    """Red when only the planned directories were looked at."""
    found(tmp_path, plan(tmp_path))
    change(tmp_path, lambda tx: Membership(DataDir(tmp_path), tx, 3).add(tmp_path / "node-4"))
    found(tmp_path, NO_PLAN)
    for path in (*tmp_path.glob("catalog.*"), *(tmp_path / f"node-{n}" for n in (1, 2, 3))):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(StartRefused, match="node-4 is not empty"):
        found(tmp_path, plan(tmp_path))
    with pytest.raises(StartRefused, match="no catalog"):
        found(tmp_path, NO_PLAN)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    wanted = plan(tmp_path)
    wanted.nodes[0] = msgspec.structs.replace(wanted.nodes[0], directory=str(tmp_path / "file" / "node"))
    with pytest.raises(StartRefused, match="node-1's directory"):
        found(tmp_path, wanted)


@pytest.mark.parametrize(("copies", "recorded"), [(2, True), (0, False)])
def test_the_founding_is_recorded_where_there_is_a_log(tmp_path: Path, copies: int, recorded: bool) -> None:
    """Rows that nobody ever ships stay for good. Red when the founding was recorded whatever the settings said."""
    founding.found(
        Settings(data=tmp_path, catalog_copies=copies),
        plan(tmp_path),
        lambda store: Addresses([NodeAddress(node.number, "127.0.0.1", 7000) for node in store.nodes]),
    )
    with closing(sqlite3.connect(DataDir(tmp_path).catalog)) as catalog:
        (rows,) = catalog.execute("SELECT count(*) FROM outbox").fetchone()
    assert bool(rows) is recorded
