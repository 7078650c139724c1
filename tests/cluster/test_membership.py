"""What an operator may do to the nodes of a store, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import pytest

from catalog import buckets, leases, nodes, objects, work
from catalog.engine import Catalog
from catalog.model import Attributes, NewBlob, NodeRow
from catalog.transaction import Transaction
from cluster.errors import LinkDown
from cluster.membership import Membership, MembershipRefused
from cluster.node.files import RealFiles
from cluster.node.identity import initialise
from cluster.reports.nodes import node_report
from cluster.steward.health import HealthWatch
from cluster.steward.services import StewardServices
from cluster.steward.tenure import Tenure
from compose.data_dir import DataDir
from tests.catalog.fresh import fresh_catalog

if TYPE_CHECKING:
    from cluster.topology import NodeSet

CLUSTER_ID = b"test cluster 016"
T = TypeVar("T")


class Store:
    """A catalog and directories, without processes."""

    def __init__(self, root: Path, catalog: Catalog) -> None:
        self.data = DataDir(root)
        self.catalog = catalog

    async def do(self, function: Callable[[Membership], T]) -> T:
        return await self.catalog.write(lambda tx: function(Membership(self.data, tx, 3)))

    async def refused(self, function: Callable[[Membership], object]) -> str:
        """The refusal, which must have changed nothing."""
        before = await self.rows()
        with pytest.raises(MembershipRefused) as refusal:
            await self.do(function)
        assert await self.rows() == before
        return str(refusal.value)

    async def rows(self) -> dict[str, NodeRow]:
        return {row.name: row for row in await nodes.current(self.catalog)}

    async def set(self, name: str, state: str) -> None:
        number = (await self.rows())[name].number
        await self.catalog.write(lambda tx: nodes.set_state(tx, number, state))

    async def add_up(self, directory: str) -> NodeRow:
        """A node that has joined, with its directory made."""
        row = await self.do(lambda members: members.add(self.data.root / directory))
        initialise(
            self.data.root / directory,
            cluster_id=CLUSTER_ID,
            name=row.name,
            region=row.region,
            zone=row.zone,
            files=RealFiles(),
            node_id=row.node_id,
        )
        await self.set(row.name, nodes.UP)
        return row

    async def store_blob(self, layout: tuple[int, ...], *, k: int = 2, m: int = 1) -> None:
        epoch = (await self.catalog.meta()).upload_epoch
        blob = NewBlob(epoch.to_bytes(4, "big") + bytes(12), 10, k, m, 1 << 20, layout, 1)

        def commit(tx: Transaction) -> None:
            bucket = buckets.create(tx, name="bucket", owner="owner", region="us-east-1")
            objects.put(
                tx,
                bucket_id=bucket.id,
                key=b"key",
                blob=blob,
                etag="0" * 32,
                content_type="",
                attributes=Attributes(),
            )

        await self.catalog.write(commit, blob=blob)

    async def delete_blob(self) -> None:
        bucket = await buckets.get(self.catalog, "bucket")
        assert bucket is not None
        number = bucket.id
        await self.catalog.write(lambda tx: objects.delete(tx, bucket_id=number, key=b"key"))

    async def events(self) -> list[str]:
        found = await self.catalog.read(work.list_events)
        return [event.kind for event in found]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """Three nodes that are up."""
    path = DataDir(tmp_path).catalog
    fresh_catalog(path, cluster_id=CLUSTER_ID)
    catalog = Catalog.open(path)
    await catalog.start()
    made = Store(tmp_path, catalog)
    for number in (1, 2, 3):
        await made.add_up(f"node-{number}")
    yield made
    await catalog.close()


async def test_nodes_are_added_under_free_names_and_spread_over_regions(store: Store) -> None:
    rows = [await store.add_up(f"disk-{n}") for n in (4, 5)]
    assert [(row.name, row.region, row.zone) for row in rows] == [
        ("node-4", "us-east-1", "us-east-1a"),
        ("node-5", "us-west-1", "us-west-1a"),
    ]
    await store.set("node-4", nodes.DRAINING)
    await store.set("node-5", nodes.DRAINING)
    await store.do(lambda members: members.remove("node-4"))
    again = await store.do(lambda members: members.add(store.data.root / "disk-6", region="mars", zone="m1"))
    assert (again.name, again.region, again.zone, again.state) == ("node-4", "mars", "m1", "joining")
    assert again.directory == "disk-6"


@pytest.mark.parametrize(
    "name", ["a/b", "..", "node 4", "front-1", "steward", "control", "node-1#1", "x" * 41]
)
async def test_names_that_files_cannot_have_are_refused(store: Store, name: str) -> None:
    said = await store.refused(lambda members: members.add(store.data.root / "new", name=name))
    assert "can't be a node's name" in said


async def test_a_taken_name_or_directory_is_refused(store: Store) -> None:
    root = store.data.root
    assert "another --name" in await store.refused(lambda members: members.add(root / "new", name="node-2"))
    assert "node-3" in await store.refused(lambda members: members.add(root / "node-3"))
    (root / "link").symlink_to(root / "node-3")
    assert "node-3" in await store.refused(lambda members: members.add(root / "link"))
    (root / "photos").mkdir()
    (root / "photos" / "holiday.jpg").write_text("")
    assert "not empty" in await store.refused(lambda members: members.add(root / "photos"))
    assert "can't be used" in await store.refused(
        lambda members: members.add(root / "photos" / "holiday.jpg")
    )


async def test_p2_a_drain_leaves_enough_nodes(store: Store) -> None:
    """Red when nodes that are down counted as staying."""
    said = await store.refused(lambda members: members.drain("node-2"))
    assert "need 3 nodes" in said
    assert "trivet node add" in said
    await store.add_up("node-4")
    await store.set("node-4", nodes.DOWN)
    await store.refused(lambda members: members.drain("node-2"))
    await store.set("node-4", nodes.UP)
    assert (await store.do(lambda members: members.drain("node-2"))).state == "draining"
    assert (await store.do(lambda members: members.drain("node-2"))).state == "draining", "again is no fault"
    await store.refused(lambda members: members.drain("node-1"))
    assert (await store.do(lambda members: members.undrain("node-2"))).state == "up"
    assert "not being drained" in await store.refused(lambda members: members.undrain("node-2"))


async def test_p7_a_node_is_removed_only_when_it_is_empty(store: Store) -> None:
    """Red without the look at the placements."""
    await store.add_up("node-4")
    await store.store_blob((1, 2, 3))
    assert "trivet node drain node-2" in await store.refused(lambda members: members.remove("node-2"))
    await store.do(lambda members: members.drain("node-2"))
    assert "still holds 1 objects" in await store.refused(lambda members: members.remove("node-2"))
    await store.delete_blob()
    assert "deleted or replaced lately" in await store.refused(lambda members: members.remove("node-2"))
    report = await store.catalog.read(lambda reader: node_report(reader, store.data))
    assert [(node["state"], node.get("blobs_left"), node.get("empty")) for node in report][1:3] == [
        ("draining", 0, False),
        ("up", None, None),
    ]
    await store.do(lambda members: members.undrain("node-2"))
    await store.do(lambda members: members.drain("node-4"))
    gone = await store.do(lambda members: members.remove("node-4"))
    assert (gone.name, gone.state) == ("node-4#4", "removed")
    assert (await store.events())[-2:] == ["node-draining", "node-removed"]
    assert "there is no node node-4" in await store.refused(lambda members: members.drain("node-4"))


async def test_p2_only_a_silent_node_is_removed_as_lost(store: Store) -> None:
    """Red when any state would do."""
    await store.add_up("node-4")
    await store.store_blob((1, 2, 3))
    said = await store.refused(lambda members: members.remove("node-2", lost=True))
    assert "is not lost" in said
    await store.set("node-2", nodes.DRAINING)
    await store.refused(lambda members: members.remove("node-2", lost=True))
    await store.set("node-2", nodes.DOWN)
    await store.set("node-1", nodes.SUSPECT)
    assert "need 3 nodes" in await store.refused(lambda members: members.remove("node-2", lost=True))
    await store.set("node-1", nodes.UP)
    assert (await store.do(lambda members: members.remove("node-2", lost=True))).state == "removed"


async def test_a_node_that_never_was_up_may_go_at_once(store: Store) -> None:
    await store.do(lambda members: members.add(store.data.root / "new"))
    assert "remove node-4" in await store.refused(lambda members: members.drain("node-4"))
    assert (await store.do(lambda members: members.remove("node-4"))).state == "removed"


async def test_s23_a_node_that_lost_its_data_is_replaced_under_its_name(store: Store) -> None:
    old = (await store.rows())["node-2"]
    await store.store_blob((1, 2, 3))
    shutil.rmtree(store.data.root / "node-2")
    new = await store.do(lambda members: members.replace("node-2"))
    rows = await store.rows()
    assert (rows["node-2#2"].number, rows["node-2#2"].state) == (old.number, "removed")
    assert rows["node-2"] == new
    assert (new.state, new.region, new.zone, new.directory) == ("joining", old.region, old.zone, "node-2")
    assert new.number != old.number
    assert new.node_id != old.node_id


async def test_s23_a_replacement_gets_an_empty_directory(store: Store) -> None:
    await store.set("node-2", nodes.DOWN)
    root = store.data.root
    assert "not empty" in await store.refused(lambda members: members.replace("node-2"))
    assert "directory of node-1" in await store.refused(
        lambda members: members.replace("node-2", root / "node-1")
    )
    assert (await store.do(lambda members: members.replace("node-2", root / "new"))).directory == "new"


@pytest.mark.parametrize("state", [nodes.UP, nodes.DRAINING])
async def test_s23_a_node_that_has_its_data_is_not_replaced(store: Store, state: str) -> None:
    """Red without the look into the directory."""
    await store.set("node-2", state)
    said = await store.refused(lambda members: members.replace("node-2", store.data.root / "new"))
    assert "is not lost" in said


async def test_p2_the_last_copies_are_not_given_up(store: Store) -> None:
    """A second node goes silent before the first one is rebuilt: what it holds is still needed. Red without the
    count of shards.
    """
    root = store.data.root
    await store.store_blob((1, 2, 3))
    shutil.rmtree(root / "node-1")
    await store.do(lambda members: members.replace("node-1"))
    await store.set("node-2", nodes.DOWN)
    said = await store.refused(lambda members: members.replace("node-2", root / "new"))
    assert "can't be read without" in said
    shutil.rmtree(root / "node-2")  # now it is lost, whoever likes it or not
    await store.do(lambda members: members.replace("node-2", root / "new"))


async def test_what_is_stored_says_how_many_nodes_are_needed(store: Store) -> None:
    """The command's own environment may not know that the store runs with more shards. Red when only that was
    asked.
    """
    for number in (4, 5):
        await store.add_up(f"node-{number}")
    await store.store_blob((1, 2, 3, 4, 5), k=3, m=2)
    assert "need 5 nodes" in await store.refused(lambda members: members.drain("node-5"))


@pytest.mark.parametrize("decision", ["drain", "remove"])
async def test_an_operators_decision_outlives_the_stewards_judgement(store: Store, decision: str) -> None:
    """The steward asks a node how it is; meanwhile an operator drains or removes it. Red when the answer was
    written over that: a removed node was `suspect` again, and new blocks could go to a draining one.
    """
    await store.add_up("node-4")
    number = (await store.rows())["node-4"].number

    class Silent:
        failure = "no answer"
        tried = True

        async def call(self, *_: object) -> None:
            raise LinkDown("no answer")

    class DecidesMeanwhile(Silent):
        async def call(self, *_: object) -> None:
            await store.do(lambda members: members.drain("node-4"))
            if decision == "remove":
                await store.do(lambda members: members.remove("node-4"))
            raise LinkDown("no answer")

    class Nodes:
        def link(self, asked: int) -> Silent:
            return DecidesMeanwhile() if asked == number else Silent()

    lease = await store.catalog.read(leases.read)
    tenure = await Tenure.begin(store.catalog, "steward", lease)
    await HealthWatch(StewardServices(store.catalog, cast("NodeSet", Nodes()))).step(tenure)
    rows = {row.number: row.state for row in await nodes.current(store.catalog)}
    assert rows[number] == ("removed" if decision == "remove" else "draining")
    assert rows[1] == "suspect", "the others are judged"


def _leave_node(directory: Path, *, cluster_id: bytes, node_id: bytes) -> None:
    initialise(
        directory,
        cluster_id=cluster_id,
        name="later",
        region="mars",
        zone="mars-b",
        files=RealFiles(),
        node_id=node_id,
    )


async def test_s18_a_node_of_after_the_backup_comes_back_with_its_data(store: Store) -> None:
    """A restored catalog does not know the nodes that came later; what was moved there lies nowhere else."""
    replacement, addition = b"replaced node 16", b"additional no 16"
    root = store.data.root
    shutil.rmtree(root / "node-2")
    _leave_node(root / "node-2", cluster_id=CLUSTER_ID, node_id=replacement)
    _leave_node(root / "more", cluster_id=CLUSTER_ID, node_id=addition)
    replaced = await store.do(lambda members: members.replace("node-2"))
    assert (replaced.name, replaced.node_id, replaced.region) == ("node-2", replacement, "us-west-1")
    added = await store.do(lambda members: members.add(root / "more"))
    assert (added.node_id, added.region, added.zone) == (addition, "mars", "mars-b")
    assert (replaced.state, added.state) == (nodes.JOINING, nodes.JOINING)


async def test_s23_no_other_node_directory_is_taken(store: Store) -> None:
    """Neither that of another cluster, nor a copy of a present node's, nor a removed node's, which is out of
    date. Red when an id that the catalog knows, or another cluster's, is taken."""
    root = store.data.root
    _leave_node(root / "foreign", cluster_id=b"another cluster!", node_id=b"some other id 16")
    shutil.copytree(root / "node-1", root / "copy")
    await store.add_up("node-4")
    await store.set("node-4", nodes.DRAINING)
    await store.do(lambda members: members.remove("node-4"))
    for name, why in (("foreign", "another cluster"), ("copy", "data of node-1"), ("node-4", "node-4#4")):
        said = await store.refused(lambda members, name=name: members.add(root / name))  # type: ignore[misc]
        assert "is not empty" in said
        assert why in said


async def test_a_directory_that_can_not_be_made_is_refused(store: Store, tmp_path: Path) -> None:
    """Red when the node is registered first: it then stays `joining` for ever. A name that is taken leaves no
    directory behind."""
    (tmp_path / "file").write_text("no directory")
    said = await store.refused(lambda members: members.add(tmp_path / "file" / "node"))
    assert "can't be used" in said
    said = await store.refused(lambda members: members.add(Path("/proc/no-such-directory/node")))
    assert "can't be made" in said
    await store.refused(lambda members: members.add(tmp_path / "unused", name="node-1"))
    assert not (tmp_path / "unused").exists()
