"""The lifecycle's queue, the walk over a bucket, and looking at keys."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa
from msgspec import structs

from catalog import (
    buckets,
    lifecycle,
    lifecycle_walk,
    lifecycle_work,
    lock_clock,
    objects,
    schema,
    uploads,
    version_listing,
)
from catalog.bucket_model import BucketActions, LifecycleRule, Transition
from catalog.engine import Catalog
from catalog.lifecycle_rules import DAY_MS
from catalog.lifecycle_work import Looked, Move
from catalog.model import Attributes, Retention, Versioning
from catalog.statement import Statement
from catalog.transaction import Transaction
from tests.catalog.making import NO_ATTRIBUTES, Clock, SqliteStore, new_blob, put

KEY = b"a/key"
MIDNIGHT_MS = 30_000 * DAY_MS
"""In a year that no clock of a machine shows."""
LARGE = 1 << 20

_QUEUE = Statement(sa.select(schema.lifecycle_queue.c.key, schema.lifecycle_queue.c.due_ms))


class World:
    """A catalog with one bucket, and clocks that the test moves."""

    def __init__(self, catalog: Catalog, wall: Clock, path: Path) -> None:
        self.catalog = catalog
        self.wall = wall
        self.path = path
        self.bucket_id = 0

    async def begin(self) -> None:
        bucket = await self.catalog.write(lambda tx: buckets.create(tx, name="b", owner="o", region="r"))
        self.bucket_id = bucket.id

    async def set_versioning(self, versioning: Versioning = Versioning.ENABLED) -> None:
        await self.catalog.write(lambda tx: buckets.set_versioning(tx, self.bucket_id, versioning))

    async def set_rules(self, *rules: LifecycleRule) -> None:
        def change(tx: Transaction) -> None:
            buckets.change_actions(tx, self.bucket_id, lambda _: BucketActions(lifecycle=rules))

        await self.catalog.write(change)

    async def pass_days(self, days: float) -> None:
        """By both clocks."""
        self.wall.now_ms += int(days * DAY_MS)
        await self.catalog.write(lambda tx: lock_clock.advance(tx, self.wall.now_ms))

    async def put(
        self, key: bytes = KEY, *, size: int = 10, attributes: Attributes = NO_ATTRIBUTES
    ) -> str | None:
        return (
            await put(self.catalog, self.bucket_id, key, new_blob(size=size), attributes=attributes)
        ).version_id

    async def change(self, version_id: str | None, **fields: Any) -> None:
        await self.catalog.write(
            lambda tx: objects.change_attributes(
                tx,
                bucket_id=self.bucket_id,
                key=KEY,
                version_id=version_id,
                change=lambda attributes: structs.replace(attributes, **fields),
            )
        )

    async def delete(self, key: bytes = KEY) -> None:
        await self.catalog.write(lambda tx: objects.delete(tx, bucket_id=self.bucket_id, key=key))

    async def queue(self) -> dict[bytes, int]:
        """Days after MIDNIGHT_MS, by key."""
        rows = await self.catalog.read(lambda reader: reader.rows(_QUEUE))
        return {key: (due_ms - MIDNIGHT_MS) // DAY_MS for key, due_ms in rows}

    async def look(self, key: bytes = KEY, *, limit: int = 100, earlier: Looked | None = None) -> Looked:
        return await self.catalog.write(
            lambda tx: lifecycle_work.look(
                tx, self.bucket_id, key, self.wall.now_ms, limit=limit, earlier=earlier
            )
        )

    async def work(self) -> Looked:
        """Look at all that is due, once: the sum."""
        due = await self.catalog.read(lambda reader: lifecycle_work.due(reader, self.wall.now_ms, limit=1000))
        found = [await self.look(key) for bucket_id, key in due if bucket_id == self.bucket_id]
        return Looked(
            sum(each.expired for each in found),
            sum(each.markers for each in found),
            sum(each.uploads for each in found),
        )

    async def shape(self, key: bytes = KEY) -> str:
        """The key's versions, newest first: v a version, d a delete marker."""
        page = await self.catalog.read(
            lambda reader: version_listing.list_versions(
                reader,
                bucket_id=self.bucket_id,
                prefix=key,
                delimiter=b"",
                key_marker=b"",
                version_marker="",
                limit=1000,
            )
        )
        return "".join("d" if entry.delete_marker else "v" for entry in page.entries)


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    wall = Clock(MIDNIGHT_MS + DAY_MS // 2)
    store = SqliteStore(tmp_path)
    catalog = store.open(wall)
    await catalog.start()
    await catalog.write(lambda tx: lock_clock.advance(tx, wall.now_ms))
    made = World(catalog, wall, store.path)
    await made.begin()
    yield made
    await catalog.close()


def _rule(**fields: Any) -> LifecycleRule:
    return structs.replace(LifecycleRule("r", enabled=True), **fields)


# -- what writes note ----------------------------------------------------------------------------------------


async def test_a_write_queues_its_key_only_where_a_rule_will_concern_it(world: World) -> None:
    await world.put(b"before")
    await world.set_rules(_rule(prefix="a/", expiration_days=3, tags=(("t", "1"),)))
    await world.put(b"a/1", attributes=Attributes(tags={"t": "1"}))
    await world.put(b"a/2")
    await world.put(b"b/1", attributes=Attributes(tags={"t": "1"}))
    assert await world.queue() == {b"a/1": 4}


async def test_a_key_stays_queued_for_the_earliest_of_its_times(world: World) -> None:
    await world.set_rules(_rule(expiration_days=3))
    await world.put()
    await world.pass_days(1)
    await world.put()
    assert await world.queue() == {KEY: 4}
    await world.set_rules(_rule(expiration_days=1))
    await world.put()
    assert await world.queue() == {KEY: 3}


async def test_an_older_version_whose_tags_change_is_noted(world: World) -> None:
    """Red when only the newest noncurrent version was looked at."""
    await world.set_versioning()
    await world.set_rules(_rule(noncurrent_days=3, tags=(("t", "1"),)))
    oldest = await world.put()
    for _ in range(3):
        await world.put()
    assert await world.queue() == {}
    await world.change(oldest, tags={"t": "1"})
    assert await world.queue() == {KEY: 4}


# -- looking -------------------------------------------------------------------------------------------------


async def test_what_is_noted_between_two_slices_is_not_forgotten(world: World) -> None:
    """A version that the first slice has passed gets the rule's tag before the last one. Red when the last one dropped
    the key: the version never expired."""
    await world.set_versioning()
    await world.set_rules(_rule(noncurrent_days=1, tags=(("a", "1"),)))
    oldest, *_ = [await world.put() for _ in range(5)]
    await world.pass_days(3)
    looked = await world.look(limit=2)
    await world.change(oldest, tags={"a": "1"})
    while looked.after is not None:
        looked = await world.look(limit=2, earlier=looked)
    await world.pass_days(1)
    assert (await world.work()).expired == 1
    assert await world.queue() == {}, "and then it is at rest"


@pytest.mark.parametrize("versioned", [False, True])
async def test_a_key_of_which_nothing_is_left_leaves_the_queue(world: World, *, versioned: bool) -> None:
    """Unless an upload is open. Red when it stayed until the rule's day: the queue grew by each key ever deleted."""
    if versioned:
        await world.set_versioning()
    await world.set_rules(_rule(expiration_days=3650, abort_upload_days=7))

    async def put_and_remove() -> None:
        version_id = await world.put()
        assert KEY in await world.queue()
        await world.catalog.write(
            lambda tx: objects.delete_version(
                tx, bucket_id=world.bucket_id, key=KEY, version_id=version_id or "null"
            )
        )

    await put_and_remove()
    assert await world.queue() == {}
    if not versioned:
        await world.put()
        await world.delete()
        assert await world.queue() == {}
    await world.catalog.write(
        lambda tx: uploads.create(
            tx,
            bucket_id=world.bucket_id,
            key=KEY,
            owner="o",
            content_type="t",
            attributes=NO_ATTRIBUTES,
        )
    )
    await put_and_remove()
    assert KEY in await world.queue()


async def test_an_object_expires_when_it_is_due_and_not_before(world: World) -> None:
    await world.set_rules(_rule(expiration_days=1))
    await world.put()
    await world.pass_days(1)
    assert await world.work() == Looked()
    assert await world.look() == Looked(next_ms=MIDNIGHT_MS + 2 * DAY_MS)
    assert await world.shape() == "v"
    await world.pass_days(0.5)
    assert await world.work() == Looked(expired=1)
    assert await world.shape() == ""
    assert await world.queue() == {}


async def test_a_key_comes_round_until_nothing_of_it_is_left(world: World) -> None:
    """Current version, noncurrent version, delete marker, one after another by one row of the queue.

    Red when the row was set to what the look had seen before its own removals.
    """
    await world.set_versioning()
    await world.set_rules(_rule(expiration_days=1, noncurrent_days=2))
    await world.put()
    for day, shape in ((1, "v"), (2, "dv"), (3, "dv"), (4, "dv"), (5, "")):
        await world.pass_days(1)
        await world.work()
        assert await world.shape() == shape, f"after {day} days"
    assert await world.queue() == {}


async def test_newer_noncurrent_versions_are_spared(world: World) -> None:
    await world.set_versioning()
    await world.set_rules(_rule(noncurrent_days=1, newer_noncurrent=2))
    for _ in range(5):
        await world.put()
    await world.pass_days(2)
    assert await world.work() == Looked(expired=2)
    assert await world.queue() == {}
    await world.put()
    assert await world.queue() == {KEY: 2}, "the third of them is no longer spared, and due"
    assert await world.work() == Looked(expired=1)
    assert await world.shape() == "vvv"


async def test_a_suspended_bucket_loses_its_null_version_and_then_the_marker(world: World) -> None:
    await world.set_versioning()
    await world.set_versioning(Versioning.SUSPENDED)
    await world.set_rules(_rule(expiration_days=1))
    await world.put()
    await world.pass_days(2)
    assert await world.work() == Looked(expired=1)
    assert await world.shape() == "d"
    await world.pass_days(2)
    assert await world.work() == Looked(markers=1)
    assert await world.shape() == ""


async def test_expired_delete_markers_go_and_others_stay(world: World) -> None:
    await world.set_versioning()
    await world.set_rules(_rule(expired_delete_markers=True))
    await world.put()
    await world.delete()
    await world.delete(b"never there")
    assert await world.work() == Looked(markers=1)
    assert await world.shape() == "dv"
    assert await world.shape(b"never there") == ""


async def test_a_key_with_many_versions_is_worked_off_in_slices(world: World) -> None:
    await world.set_versioning()
    await world.set_rules(_rule(noncurrent_days=1))
    for _ in range(8):
        await world.put()
    await world.pass_days(2)
    first = await world.look(limit=3)
    assert (first.expired, first.after) == (3, 3)
    due = await world.catalog.read(lambda reader: lifecycle_work.due(reader, world.wall.now_ms, limit=1))
    assert due == [(world.bucket_id, KEY)], "it stays due: whoever comes next goes on"
    second = await world.look(limit=3, earlier=first)
    third = await world.look(limit=3, earlier=second)
    assert (second.expired, third.expired, third.after) == (3, 1, None)
    assert await world.shape() == "v"
    assert await world.queue() == {}


@pytest.mark.parametrize(
    ("attributes", "waits"),
    [
        ({"retention": Retention("COMPLIANCE", MIDNIGHT_MS + 10 * DAY_MS)}, {KEY: 10}),
        ({"retention": Retention("GOVERNANCE", MIDNIGHT_MS + 10 * DAY_MS)}, {KEY: 10}),
        ({"legal_hold": True}, {}),
    ],
)
async def test_a_locked_version_stays_until_its_lock_ends(
    world: World, attributes: dict[str, Any], waits: dict[bytes, int]
) -> None:
    """Red when versions were removed without asking the lock, and when the end of a legal hold was not noted."""
    await world.set_versioning()
    await world.set_rules(_rule(noncurrent_days=1))
    locked = await world.put()
    await world.change(locked, **attributes)
    await world.put()
    await world.put()
    await world.pass_days(2)
    assert await world.work() == Looked(expired=1)
    assert await world.shape() == "vv"
    assert await world.queue() == waits
    await world.pass_days(10)
    if "legal_hold" in attributes:
        assert await world.work() == Looked()
        await world.change(locked, legal_hold=False)
    assert await world.work() == Looked(expired=1)
    assert await world.shape() == "v"


async def test_what_cant_be_read_is_kept(world: World) -> None:
    """Red when attributes that could not be read counted as none."""
    await world.set_versioning()
    await world.set_rules(_rule(noncurrent_days=1))
    for _ in range(3):
        await world.put()
    with sqlite3.connect(world.path) as connection:
        connection.execute("UPDATE versions SET attributes = x'c1' WHERE sequence = 1")
    connection.close()
    await world.put()
    await world.pass_days(2)
    assert await world.work() == Looked(expired=2)
    assert await world.shape() == "vv"
    assert await world.queue() == {KEY: 2}


async def test_a_wall_clock_set_forward_expires_nothing(world: World) -> None:
    """Red when the wall clock alone decided."""
    await world.set_rules(_rule(expiration_days=1))
    await world.put()
    world.wall.now_ms += 1000 * DAY_MS
    assert await world.work() == Looked()
    assert (await world.look()).expired == 0
    assert await world.shape() == "v"


async def test_uploads_end(world: World) -> None:
    await world.set_rules(_rule(abort_upload_days=2))

    def create(tx: Transaction) -> None:
        uploads.create(
            tx,
            bucket_id=world.bucket_id,
            key=KEY,
            owner="o",
            content_type="t",
            attributes=Attributes(),
        )

    for _ in range(2):
        await world.catalog.write(create)
        await world.pass_days(1)
    await world.catalog.write(lambda tx: lifecycle_walk.begin(tx, world.bucket_id))
    await world.catalog.write(lambda tx: lifecycle_walk.step(tx, world.bucket_id, limit=10))
    await world.pass_days(1)
    assert await world.work() == Looked(uploads=1)
    assert await world.queue() == {KEY: 4}
    await world.pass_days(1)
    assert await world.work() == Looked(uploads=1)
    assert await world.queue() == {}


async def test_rules_that_are_gone_do_nothing(world: World) -> None:
    await world.set_rules(_rule(expiration_days=1))
    await world.put()
    await world.set_rules()
    await world.pass_days(3)
    assert await world.work() == Looked()
    assert await world.shape() == "v"
    assert await world.queue() == {}


async def test_a_transition_is_asked_for_until_it_is_done(world: World) -> None:
    await world.set_rules(_rule(transitions=(Transition("GLACIER", 1),), expiration_days=9))
    await world.put(size=LARGE)
    await world.pass_days(2)
    (move,) = (await world.look()).moves
    assert move.storage_class == "GLACIER"
    assert await world.queue() == {KEY: 2}
    other = structs.replace(move, blob_id=b"another")
    for wanted, done in ((other, False), (move, True)):
        assert await world.catalog.write(lambda tx, w=wanted: _reclassify(tx, world, w)) == done  # type: ignore[misc]
    assert await world.look() == Looked(next_ms=MIDNIGHT_MS + 10 * DAY_MS)
    assert await world.queue() == {KEY: 10}


def _reclassify(tx: Transaction, world: World, move: Move) -> bool:
    return lifecycle_work.reclassify(tx, world.bucket_id, KEY, move)


# -- what it costs -------------------------------------------------------------------------------------------


class _Counting:
    """A transaction that counts the rows it reads."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self.rows_read = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)

    def rows(self, *arguments: Any) -> Any:
        found = self._tx.rows(*arguments)
        self.rows_read += len(found)
        return found

    def row(self, *arguments: Any) -> Any:
        found = self._tx.row(*arguments)
        self.rows_read += found is not None
        return found


async def _counted_look(world: World, limit: int) -> tuple[int, Looked]:
    """How many rows it read, and what it said."""

    def look(tx: Transaction) -> tuple[int, Looked]:
        counting: Any = _Counting(tx)
        looked = lifecycle_work.look(counting, world.bucket_id, KEY, world.wall.now_ms, limit=limit)
        return counting.rows_read, looked

    return await world.catalog.write(look)


async def test_a_look_costs_what_expires_and_not_what_is_there(world: World) -> None:
    """Two versions expire below three hundred that do not: some rows more than where nothing else is.

    Red when a look read on behind the first version that no rule concerns yet.
    """
    await world.set_versioning()
    await world.set_rules(_rule(noncurrent_days=5))
    for _ in range(3):
        await world.put()
    await world.pass_days(4)
    for _ in range(300):
        await world.put()
    await world.pass_days(2)
    rows_read, looked = await _counted_look(world, limit=10)
    # A page of versions, some rows for each that is removed, and none for all the rest.
    assert rows_read <= 10 + 2 * 8 + 5
    assert (looked.expired, looked.after) == (2, None)
    assert len(await world.shape()) == 301


# -- the walk ------------------------------------------------------------------------------------------------


async def _walk(world: World, limit: int) -> int:
    """Steps until the end."""
    steps = 1
    while not await world.catalog.write(lambda tx: lifecycle_walk.step(tx, world.bucket_id, limit=limit)):
        steps += 1
    return steps


async def test_a_walk_queues_what_was_there_before_the_rules(world: World) -> None:
    """Current versions, keys with a delete marker on top, and old noncurrent versions; only below the prefixes."""
    await world.set_versioning()
    for key in (b"a/1", b"a/2", b"b/1", b"c/1", b"c/2", b"d"):
        await world.put(key)
    await world.delete(b"a/2")
    await world.put(b"c/2")
    await world.set_rules(
        _rule(prefix="a/", noncurrent_days=1, expiration_days=3), _rule(prefix="c/", expiration_days=7)
    )
    await world.catalog.write(lambda tx: lifecycle_walk.begin(tx, world.bucket_id))
    due = await world.catalog.read(lambda reader: lifecycle.due(reader, world.wall.now_ms, 10))
    assert due == [(world.bucket_id, lifecycle_walk.WALK_KEY)]
    assert await _walk(world, limit=1) == 5
    assert await world.queue() == {b"a/1": 4, b"a/2": 2, b"c/1": 8, b"c/2": 8}
    assert not await world.catalog.read(lambda reader: lifecycle.due(reader, world.wall.now_ms, 10))


async def test_a_walk_goes_on_where_it_was_and_begins_again_for_new_rules(world: World) -> None:
    for number in range(4):
        await world.put(b"%d" % number)
    await world.set_rules(_rule(expiration_days=1))
    await world.catalog.write(lambda tx: lifecycle_walk.begin(tx, world.bucket_id))
    assert not await world.catalog.write(lambda tx: lifecycle_walk.step(tx, world.bucket_id, limit=3))
    assert len(await world.queue()) == 4
    await world.set_rules(_rule(expiration_date_ms=MIDNIGHT_MS + DAY_MS))
    await world.catalog.write(lambda tx: lifecycle_walk.begin(tx, world.bucket_id))
    assert await _walk(world, limit=3) == 2
    assert await world.queue() == {b"%d" % number: 1 for number in range(4)}


async def test_a_walk_over_a_deleted_bucket_ends(world: World) -> None:
    await world.set_rules(_rule(expiration_days=1))
    await world.catalog.write(lambda tx: lifecycle_walk.begin(tx, world.bucket_id))
    await world.catalog.write(lambda tx: buckets.delete(tx, world.bucket_id))
    assert await _walk(world, limit=1) == 1
    assert await world.queue() == {}
