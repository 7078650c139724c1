"""The steward works off the lifecycle's queue, and codes versions anew for another storage class."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from msgspec import structs

from catalog import blobs, buckets, lifecycle_walk, lock_clock, lookup, objects, versions
from catalog.bucket_model import BucketActions, LifecycleRule, Transition
from catalog.errors import CatalogBusy, LeaseLost
from catalog.lifecycle_rules import DAY_MS
from catalog.lifecycle_work import Move
from catalog.model import Attributes, NewBlob, ObjectRow, PartRef
from catalog.transaction import Transaction
from cluster.policies import StoragePolicies
from cluster.steward.garbage import GarbageCollector
from cluster.steward.lifecycle import Lifecycle
from cluster.steward.services import StewardServices
from cluster.steward.tenure import Tenure
from cluster.steward.transitions import Transitions
from codec.geometry import Geometry
from tests.cluster.nodes import RealNodes
from tests.cluster.steward_world import SMALL, STRIPE, World, kinds, new_world

pytestmark = pytest.mark.usefixtures("silent_loop")

KEY = b"key"
REDUCED = "REDUCED_REDUNDANCY"
POLICIES = StoragePolicies(Geometry(2, 1, STRIPE), Geometry(1, 1, STRIPE // 4 + 1))


@pytest_asyncio.fixture
async def world(tmp_path: Path, nodes: RealNodes) -> AsyncIterator[World]:
    async with new_world(tmp_path / "catalog.sqlite", nodes) as made:
        yield made


def _services(world: World, **settings: Any) -> StewardServices:
    return replace(
        world.services(replace(SMALL, lifecycle_keys=4, lifecycle_walk_keys=5, **settings)), policies=POLICIES
    )


async def _set_rules(world: World, *rules: LifecycleRule) -> None:
    """As the front does it."""

    def put(tx: Transaction) -> None:
        buckets.change_actions(tx, world.bucket_id, lambda _: BucketActions(lifecycle=rules))
        lifecycle_walk.begin(tx, world.bucket_id)

    await world.catalog.write(put)


def _rule(**fields: Any) -> LifecycleRule:
    return structs.replace(LifecycleRule("r", enabled=True, size_greater_than=-1), **fields)


async def _pass_days(world: World, days: int) -> None:
    world.pass_time(days * DAY_MS // 1000)
    await world.catalog.write(lambda tx: lock_clock.advance(tx, world.now_ms()))


async def _drive(lifecycle: Lifecycle, steps_max: int = 1000) -> int:
    """Until nothing is due: how many steps that took."""
    for steps in range(steps_max):
        if await lifecycle.step() > 0:
            return steps
    raise AssertionError("it does not come to an end")


async def _keys(world: World) -> list[bytes]:
    found = [await lookup.lookup(world.catalog, world.bucket_id, b"%d" % number) for number in range(10)]
    return [row.key for row in found if row is not None]


async def _object(world: World, key: bytes = KEY) -> ObjectRow:
    row = await lookup.lookup(world.catalog, world.bucket_id, key)
    assert row is not None
    return row


async def _move(world: World) -> Move:
    row = await _object(world)
    return Move(row.sequence, row.version_id, row.blob.id, REDUCED)


# -- the queue -----------------------------------------------------------------------------------------------


async def test_what_is_due_expires_and_a_successor_goes_on(world: World) -> None:
    """The first steward ends after each of its steps; what it has done is not done again, and one event tells of what
    the last one did.

    Red when a step did not end with the queue as a successor needs it.
    """
    for number in range(10):
        await world.put(b"%d" % number, 10)
    await _set_rules(world, _rule(expiration_days=1))
    assert await _drive(Lifecycle(_services(world), await world.tenure())) == 3, (
        "two slices of a walk, and its end"
    )
    assert len(await _keys(world)) == 10
    await _pass_days(world, 3)
    for left in (6, 2):
        first = Lifecycle(_services(world), await world.tenure())
        assert await first.step() == 0.0
        assert len(await _keys(world)) == left
    last = Lifecycle(_services(world), await world.tenure())
    assert await _drive(last) == 1
    assert await _keys(world) == []
    assert await kinds(world) == ["lifecycle"]
    assert len(await world.queued()) == 10


async def test_a_steward_that_lost_its_lease_removes_nothing(world: World) -> None:
    await world.put(KEY, 10)
    await _set_rules(world, _rule(expiration_days=1))
    old = Lifecycle(_services(world), await world.tenure())
    await _drive(old)
    await _pass_days(world, 3)
    await world.tenure("another")
    with pytest.raises(LeaseLost):
        await old.step()
    assert await _object(world)


# -- transitions ---------------------------------------------------------------------------------------------


async def test_a_version_is_coded_anew_and_stays_what_it_was(world: World) -> None:
    blob = await world.put(KEY, 5 * STRIPE + 7)
    before = await _object(world)
    await _set_rules(world, _rule(transitions=(Transition(REDUCED, 1),)))
    await _pass_days(world, 3)
    await _drive(Lifecycle(_services(world), await world.tenure()))
    after = await _object(world)
    assert (after.blob.k, after.blob.m) == (1, 1)
    assert await world.read(after.blob) == world.bytes_of[blob.id]
    assert after.attributes == Attributes(storage_class=REDUCED)
    assert structs.replace(after, blob=before.blob, attributes=before.attributes) == before
    assert await world.queued() == [blob.id]
    assert await kinds(world) == ["lifecycle"]


async def test_what_is_sealed_stays_sealed(world: World) -> None:
    """Red when the new blob's row forgot the seal: then no key opens it."""
    blob = structs.replace(await world.upload(STRIPE), transform=1, seal=bytes(range(16)))
    await world.commit(KEY, blob)
    assert await Transitions(_services(world)).move(
        await world.tenure(), world.bucket_id, KEY, await _move(world)
    )
    moved = (await _object(world)).blob
    assert moved.id != blob.id
    assert (moved.transform, moved.seal, moved.size) == (1, blob.seal, blob.size)


@pytest.mark.parametrize("size", [0, 3 * STRIPE])
async def test_bytes_that_lie_as_they_should_are_not_touched(world: World, size: int) -> None:
    blob = await world.put(KEY, size)
    services = replace(_services(world), policies=StoragePolicies(POLICIES.standard, POLICIES.standard))
    assert await Transitions(services).move(await world.tenure(), world.bucket_id, KEY, await _move(world))
    row = await _object(world)
    assert (row.blob.id, row.attributes.storage_class) == (blob.id, REDUCED)


async def test_a_version_that_is_replaced_meanwhile_is_left_alone(world: World) -> None:
    """The client's new bytes stand, the steward's are garbage. Red when the new blob was left to the orphans."""
    old = await world.put(KEY, 2 * STRIPE)
    newer: list[NewBlob] = []

    class Overtaken(Transitions):
        async def _coded_anew(self, *arguments: Any) -> NewBlob:
            made = await super()._coded_anew(*arguments)
            newer.append(await world.put(KEY, STRIPE))
            newer.append(made)
            return made

    moved = await Overtaken(_services(world)).move(
        await world.tenure(), world.bucket_id, KEY, await _move(world)
    )
    assert not moved
    assert (await _object(world)).blob.id == newer[0].id
    await world.catalog.write(lambda tx: None)  # behind what was abandoned
    assert set(await world.queued()) == {old.id, newer[1].id}


async def test_a_steward_that_loses_its_lease_while_it_codes_changes_nothing(world: World) -> None:
    blob = await world.put(KEY, 2 * STRIPE)
    tenure: Tenure = await world.tenure()

    class Replaced(Transitions):
        async def _coded_anew(self, *arguments: Any) -> NewBlob:
            made = await super()._coded_anew(*arguments)
            await world.tenure("another")
            return made

    with pytest.raises(LeaseLost):
        await Replaced(_services(world)).move(tenure, world.bucket_id, KEY, await _move(world))
    row = await _object(world)
    assert (row.blob.id, row.attributes.storage_class) == (blob.id, "STANDARD")
    await world.catalog.write(lambda tx: None)
    assert len(await world.queued()) == 1


async def _put_composite(world: World, *blobs_of: NewBlob) -> None:
    """A completed upload with these parts, which may come more than once."""
    refs = tuple(PartRef(number, blob.id, blob.size, "0" * 32) for number, blob in enumerate(blobs_of, 1))
    distinct = {blob.id: blob for blob in blobs_of}

    def put(tx: Transaction) -> None:
        current = versions.target(tx, world.bucket_id, KEY, None)
        for blob in distinct.values():
            blobs.add(tx, blob)
            for _ in range(sum(ref.blob_id == blob.id for ref in refs) - 1):
                blobs.add_reference(tx, blob.id)
        size = sum(ref.size for ref in refs)
        objects.replace(
            tx,
            current,
            bucket_id=world.bucket_id,
            key=KEY,
            blob_id=blobs.add_composite(tx, size, len(refs), blobs.pack_manifest(refs)),
            size=size,
            etag="0-3",
            content_type="t",
            attributes=Attributes(),
        )

    await world.catalog.write(put)


async def test_a_composite_blob_moves_part_by_part(world: World) -> None:
    """One part comes twice, one is empty. When the version is deleted afterwards nothing is left.

    Red when a part that comes twice was counted once.
    """
    large, small, empty = [await world.upload(size) for size in (3 * STRIPE, 10, 0)]
    await _put_composite(world, large, small, large, empty)
    before = await _object(world)
    assert await Transitions(_services(world)).move(
        await world.tenure(), world.bucket_id, KEY, await _move(world)
    )
    after = await _object(world)
    assert before.blob.manifest is not None
    assert after.blob.manifest is not None
    assert (after.size, after.etag, after.attributes.storage_class) == (before.size, before.etag, REDUCED)
    for old, new in zip(before.blob.manifest, after.blob.manifest, strict=True):
        assert structs.replace(new, blob_id=old.blob_id) == old
        row = await lookup.blob(world.catalog, new.blob_id)
        assert row is not None
        assert (row.k, row.m) == (1, 1) or not row.size
        assert await world.read(row) == world.bytes_of[old.blob_id]
    collector, tenure = GarbageCollector(world.services()), await world.tenure()
    while await collector.step(tenure):
        pass
    assert await world.blocks_of(large) == await world.blocks_of(small) == 0
    await world.delete(KEY)
    while await collector.step(tenure):
        pass
    assert await world.queued() == []
    for part in after.blob.manifest:
        assert await lookup.blob(world.catalog, part.blob_id) is None


async def test_parts_of_a_version_that_is_replaced_meanwhile_are_garbage(world: World) -> None:
    parts = [await world.upload(STRIPE) for _ in range(2)]
    await _put_composite(world, *parts)
    move = structs.replace(await _move(world), sequence=99)
    tenure = await world.tenure()
    assert not await Transitions(_services(world)).move(tenure, world.bucket_id, KEY, move)
    await world.catalog.write(lambda tx: None)
    queued = await world.queued()
    assert len(queued) == 2
    assert not set(queued) & {part.id for part in parts}


async def test_what_cant_move_now_waits_and_holds_up_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red when the key stayed due: the steward would have come back to it without a pause."""
    for key in (b"1", b"2"):
        await world.put(key, STRIPE)
    await _set_rules(world, _rule(transitions=(Transition(REDUCED, 1),)))
    await _pass_days(world, 3)
    lifecycle = Lifecycle(_services(world), await world.tenure())
    replace_blob = objects.replace_blob

    def busy(tx: Transaction, **arguments: Any) -> bool:
        if arguments["key"] == b"1":
            raise CatalogBusy("not now")
        return replace_blob(tx, **arguments)

    monkeypatch.setattr(objects, "replace_blob", busy)
    await _drive(lifecycle)
    assert [(await _object(world, key)).attributes.storage_class for key in (b"1", b"2")] == [
        "STANDARD",
        REDUCED,
    ]
    monkeypatch.undo()
    world.pass_time(60)
    await _drive(lifecycle)
    assert (await _object(world, b"1")).attributes.storage_class == REDUCED


async def test_a_version_whose_parts_are_missing_does_not_keep_the_steward_busy(world: World) -> None:
    """A damaged catalog: the manifest names a blob without a row. Red when the steward looked at the key again without
    a pause, for ever, and at no other any more."""
    lost = PartRef(1, bytes(16), STRIPE, "etag", None)

    def put(tx: Transaction) -> None:
        objects.replace(
            tx,
            versions.target(tx, world.bucket_id, KEY, None),
            bucket_id=world.bucket_id,
            key=KEY,
            blob_id=blobs.add_composite(tx, STRIPE, 1, blobs.pack_manifest((lost,))),
            size=STRIPE,
            etag="etag-1",
            content_type="",
            attributes=Attributes(),
        )

    await world.catalog.write(put)
    await world.put(b"other", STRIPE)
    await _set_rules(world, _rule(transitions=(Transition(REDUCED, 1),)))
    await _pass_days(world, 3)
    async with asyncio.timeout(30):
        await _drive(Lifecycle(_services(world), await world.tenure()))
    assert (await _object(world, b"other")).attributes.storage_class == REDUCED
