"""Buckets, nodes and epoch from memory, proved fresh over processes (S16, P4)."""

import asyncio

import pytest

from catalog import buckets, leases, nodes
from catalog.engine import Catalog
from catalog.errors import BucketExists, NodeExists, NoSuchBucket
from catalog.model import Bucket, NodeRow, Versioning
from catalog.transaction import Transaction
from tests.catalog.making import SQLITE_ONLY, Clock, SqliteStore, Store, put, start_child


async def _create(catalog: Catalog, name: str, owner: str = "owner") -> Bucket:
    return await catalog.write(lambda tx: buckets.create(tx, name=name, owner=owner, region="region"))


async def test_buckets(catalog: Catalog, clock: Clock) -> None:
    """Created once, found, listed in order and by owner, deleted when empty."""
    made = [await _create(catalog, name, owner) for name, owner in (("b", "x"), ("a", "y"), ("c", "x"))]
    assert (made[0].name, made[0].owner, made[0].region, made[0].created_ms) == (
        "b",
        "x",
        "region",
        clock.now_ms,
    )
    assert made[0].versioning is Versioning.NEVER
    with pytest.raises(BucketExists) as taken:
        await _create(catalog, "b", "z")
    assert taken.value.owner == "x"
    assert await buckets.get(catalog, "b") == made[0]
    assert await buckets.get(catalog, "d") is None
    assert [one.name for one in await catalog.read(buckets.list_buckets)] == ["a", "b", "c"]
    page = await catalog.read(lambda reader: buckets.list_buckets(reader, owner="x", after="b", limit=5))
    assert [one.name for one in page] == ["c"]
    await catalog.write(lambda tx: buckets.delete(tx, made[0].id))
    assert await buckets.get(catalog, "b") is None
    with pytest.raises(NoSuchBucket):
        await catalog.write(lambda tx: buckets.delete(tx, made[0].id))


@SQLITE_ONLY
async def test_s16_another_process_changes_a_bucket(store: SqliteStore, catalog: Catalog) -> None:
    """The cached copy is not used once more. Break caught: `configuration` that does not look at
    `data_version`, or does not drop its copies when the generation moved."""
    first = await _create(catalog, "bucket", "first owner")
    assert await buckets.get(catalog, "bucket") == first
    child = start_child("replace-bucket", str(store.path), "bucket", "second owner")
    _, log = await asyncio.to_thread(child.communicate)
    assert child.returncode == 0, log
    second = await buckets.get(catalog, "bucket")
    assert second is not None
    assert (second.owner, second.id == first.id) == ("second owner", False)


async def test_s16_every_opening_sees_a_change_at_its_next_look(store: Store, clock: Clock) -> None:
    """Two openings take turns in replacing the bucket; each always sees the last."""
    one, two = store.open(clock), store.open(clock)
    await one.start()
    await two.start()
    for turn in range(20):
        changing, looking = (one, two) if turn % 2 else (two, one)
        made = await _create(changing, "bucket", f"owner {turn}")
        assert await buckets.get(looking, "bucket") == made
        assert await buckets.get(changing, "bucket") == made
        await changing.write(lambda tx, b=made: buckets.delete(tx, b.id))  # type: ignore[misc]
        assert await buckets.get(looking, "bucket") is None
        assert await buckets.get(changing, "bucket") is None
    await one.close()
    await two.close()


async def test_configuration_is_read_again_only_when_it_changed(
    store: Store, catalog: Catalog, bucket_id: int, clock: Clock
) -> None:
    """Puts move the version of the data, not the generation: the copies stay."""
    other = store.open(clock)
    await other.start()
    before = await other.configuration()
    bucket = await buckets.get(other, "bucket")
    for number in range(10):
        await put(catalog, bucket_id, b"key-%d" % number)
        assert await other.configuration() is before
        assert await buckets.get(other, "bucket") is bucket
    await catalog.write(leases.advance_epoch)
    assert await other.configuration() is not before
    assert (await other.meta()).upload_epoch == 2
    await other.close()


async def test_nodes(catalog: Catalog) -> None:
    """Registered as joining, known when up, moved; the cached tuple follows."""
    assert await nodes.current(catalog) == ()
    first = await catalog.write(
        lambda tx: nodes.register(
            tx, node_id=b"1" * 16, name="node-1", region="r", zone="z", host="127.0.0.1", port=1
        )
    )
    assert first.state == nodes.JOINING
    assert await nodes.current(catalog) == (first,)
    assert await nodes.current(catalog) is await nodes.current(catalog)
    await catalog.write(lambda tx: nodes.set_state(tx, first.number, nodes.UP))
    await catalog.write(lambda tx: nodes.move(tx, first.number, host="10.0.0.1", port=2))
    (now,) = await nodes.current(catalog)
    assert (now.state, now.host, now.port, now.node_id) == ("up", "10.0.0.1", 2, b"1" * 16)
    assert await catalog.read(nodes.list_nodes) == (now,)


async def test_s23_a_replaced_node_leaves_its_name(catalog: Catalog) -> None:
    """The old row is removed and renamed, the new one joins under the name with a number and an id of its own. A
    directory stays as it is unless another is given."""

    def register(tx: Transaction, node_id: bytes, directory: str | None) -> NodeRow:
        return nodes.register(
            tx, node_id=node_id, name="node-1", region="r", zone="z", host="h", port=1, directory=directory
        )

    old = await catalog.write(lambda tx: register(tx, b"1" * 16, "/old"))
    await catalog.write(lambda tx: nodes.move(tx, old.number, host="h", port=2))

    def replace(tx: Transaction) -> NodeRow:
        nodes.set_state(tx, old.number, nodes.REMOVED)
        nodes.rename(tx, old.number, "node-1.1")
        return register(tx, b"2" * 16, "/new")

    new = await catalog.write(replace)
    await catalog.write(lambda tx: nodes.move(tx, new.number, host="h", port=3, directory="/moved"))
    rows = await nodes.current(catalog)
    assert [(row.name, row.state, row.port, row.directory) for row in rows] == [
        ("node-1.1", "removed", 2, "/old"),
        ("node-1", "joining", 3, "/moved"),
    ]
    assert new.number > old.number
    assert await catalog.read(nodes.counts) == {"joining": 1, "removed": 1}


async def test_names_and_ids_of_nodes_are_unique(catalog: Catalog) -> None:
    """Refused with a word to the operator, and nothing is changed."""

    def register(tx: Transaction, name: str, node_id: bytes) -> NodeRow:
        return nodes.register(tx, node_id=node_id, name=name, region="", zone="", host="", port=0)

    first = await catalog.write(lambda tx: register(tx, "node-1", b"1" * 16))
    second = await catalog.write(lambda tx: register(tx, "node-2", b"2" * 16))
    with pytest.raises(NodeExists, match="the name node-1"):
        await catalog.write(lambda tx: register(tx, "node-1", b"3" * 16))
    with pytest.raises(NodeExists, match=r"the id 3232.* is that of node 2, node-2"):
        await catalog.write(lambda tx: register(tx, "node-3", b"2" * 16))
    with pytest.raises(NodeExists, match="the name node-1"):
        await catalog.write(lambda tx: nodes.rename(tx, second.number, "node-1"))
    assert await nodes.current(catalog) == (first, second)
