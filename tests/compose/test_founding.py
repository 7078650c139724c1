"""From nothing to a catalog and nodes' directories, and on from wherever an earlier start died."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from catalog import nodes
from catalog.engine import Catalog, create
from catalog.model import NodeRow
from cluster.node.files import RealFiles
from cluster.node.identity import initialise, read_identity
from compose import founding
from compose.data_dir import DataDir
from compose.founding_plan import FoundedStore, FoundingPlan, PlannedNode
from compose.refusal import StartRefused
from compose.settings import Settings


def plan(root: Path, count: int = 3, port: int = 7000) -> FoundingPlan:
    return FoundingPlan(
        [
            PlannedNode(
                f"node-{n}", f"region-{n}", f"zone-{n}", str(root / f"node-{n}"), "127.0.0.1", port + n
            )
            for n in range(1, count + 1)
        ]
    )


def found(root: Path, wanted: FoundingPlan) -> FoundedStore:
    answer = founding.found(Settings(data=root), msgspec.json.encode(wanted))
    return msgspec.json.decode(answer, type=FoundedStore)


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
                host=node.host,
                port=node.port,
            )
        )
    rows = await nodes.current(catalog)
    await catalog.close()
    return cluster_id, rows


def test_a_first_start_and_a_second_on_other_ports(tmp_path: Path) -> None:
    first = found(tmp_path, plan(tmp_path))
    second = found(tmp_path, plan(tmp_path, port=8000))
    assert second == first
    for node in first.nodes:
        identity = read_identity(tmp_path / node.name, RealFiles())
        assert (identity.node_id.hex(), identity.cluster_id.hex()) == (node.node_id, first.cluster_id)


async def test_nodes_are_known_and_where_they_listen_is_up_to_date(tmp_path: Path) -> None:
    await _in_thread(tmp_path, plan(tmp_path))
    await _in_thread(tmp_path, plan(tmp_path, port=8000))
    rows = await known_nodes(tmp_path)
    assert [(row.name, row.port, row.state) for row in rows] == [
        ("node-1", 8001, "up"),
        ("node-2", 8002, "up"),
        ("node-3", 8003, "up"),
    ]


async def _in_thread(root: Path, wanted: FoundingPlan) -> FoundedStore:
    """`found` runs an event loop of its own."""
    import asyncio

    return await asyncio.to_thread(found, root, wanted)


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
    with pytest.raises(StartRefused, match=r"node-2's directory .* is not empty"):
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


def test_other_directories_than_before_are_refused(tmp_path: Path) -> None:
    found(tmp_path, plan(tmp_path))
    with pytest.raises(StartRefused, match="node-1, node-2, node-3"):
        found(tmp_path, plan(tmp_path, count=4))


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    wanted = plan(tmp_path)
    wanted.nodes[0] = msgspec.structs.replace(wanted.nodes[0], directory=str(tmp_path / "file" / "node"))
    with pytest.raises(StartRefused, match="node-1's directory"):
        found(tmp_path, wanted)
