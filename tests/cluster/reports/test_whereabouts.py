"""Where objects lie, and whether their blocks verify, on real nodes with real damage."""

import asyncio
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa

from catalog import placements, schema, uploads
from catalog.errors import NoSuchBucket, NoSuchKey
from catalog.model import Attributes, NewBlob, RequestedPart, Run
from catalog.statement import Statement
from cluster.placement import copies
from cluster.reports.blob_whereabouts import BlobReport, Checking, CopyReport, blob_report, sample
from cluster.reports.blocks import OK, UNANSWERED, UNCHECKED, BlockChecker, NodeAsker
from cluster.reports.survival import Survival
from cluster.reports.whereabouts import ObjectReport, object_report
from cluster.stripe_read import CORRUPT, MISSING
from codec.block import BlockKey
from tests.cluster.nodes import RealNodes
from tests.cluster.steward_world import STRIPE, World

pytestmark = pytest.mark.usefixtures("silent_loop")

NOT_VERIFIED = Checking(verify=False)
EVERYTHING = Checking(bytes_max=None, parts_max=None)
_OLDER_NAMES = (
    "bucket_id key sequence size modified_ms etag blob_id version_id content_type delete_marker".split()
)
_INSERT_OLDER = Statement(sa.insert(schema.versions), *_OLDER_NAMES)


async def where(world: World, key: bytes = b"k", **options: Any) -> ObjectReport:
    asker = NodeAsker(world.nodes, deadline_s=5.0)
    async with asyncio.timeout(20):
        return await object_report(world.catalog, asker, "b", key, **options)


async def where_blob(world: World, blob: NewBlob, **options: Any) -> BlobReport:
    report = await blob_report(world.catalog, NodeAsker(world.nodes, deadline_s=5.0), blob.id, **options)
    assert report is not None
    return report


def copies_of(report: ObjectReport) -> list[CopyReport]:
    assert report.blob is not None
    (run,) = report.blob.runs
    return run.copies


def states(copy: CopyReport) -> list[str]:
    """Stripe by stripe."""
    return [one.state for one in copy.ranges for _ in range(one.first_stripe, one.stop_stripe)]


def holder(blob: NewBlob, shard: int) -> int:
    return blob.nodes[shard]


def damage(nodes: RealNodes, world: World, blob: NewBlob, stripe: int, shard: int) -> None:
    """Flip a bit of a data shard on its node's disk."""
    length = min(STRIPE, blob.size - stripe * STRIPE)
    at = stripe * STRIPE + shard * -(-length // 2)
    nodes[holder(blob, shard)].damage(world.bytes_of[blob.id][at : at + 32])


async def test_a_whole_object_verifies_block_by_block(world: World) -> None:
    blob = await world.put(b"k", 3 * STRIPE + 100)
    report = await where(world)
    assert report.blob is not None
    assert (report.blob.blob, report.blob.stripes, report.blob.checked_stripes) == (blob.id.hex(), 4, 4)
    assert report.blob.checked_bytes == 3 * (3 * STRIPE // 2 + 50)
    seen = [(copy.shard, copy.kind, copy.number, states(copy)) for copy in copies_of(report)]
    kinds = ("data", "data", "parity")
    assert seen == [(shard, kinds[shard], blob.nodes[shard], [OK] * 4) for shard in range(3)]
    assert {(copy.node, copy.region, copy.state, copy.connected) for copy in copies_of(report)} == {
        (f"node-{number}", f"region-{number}", "up", True) for number in (1, 2, 3)
    }
    assert report.survives == Survival(True, 1, True, "verified")
    assert report.versions == [report.version]
    assert (report.version.size_bytes, report.version.etag) == (3 * STRIPE + 100, "0" * 32)


async def test_rotten_and_missing_blocks_are_told_apart(own_world: World, own_nodes: RealNodes) -> None:
    """Red when blocks were not read from the disk (deep)."""
    blob = await own_world.put(b"k")
    damage(own_nodes, own_world, blob, 1, 0)
    await own_world.drop(await own_world.tenure(), (blob, (2, 2, holder(blob, 2))))
    first, second, third = copies_of(report := await where(own_world))
    assert states(first) == [OK, CORRUPT, OK]
    assert states(second) == [OK] * 3
    assert states(third) == [OK, OK, MISSING]
    assert (first.corrupt, third.missing, second.ok) == (1, 1, 3)
    assert report.survives == Survival(True, 0, False, "verified")
    damage(own_nodes, own_world, blob, 1, 1)
    report = await where(own_world)
    assert report.survives == Survival(False, 0, False, "verified")


async def test_a_node_that_is_gone_is_said_to_be_silent(own_world: World, own_nodes: RealNodes) -> None:
    """Not that its blocks are missing. Red when a LinkError counted as missing."""
    await own_world.put(b"k")
    own_nodes[2].kill()
    await own_world.down(2)
    report = await where(own_world)
    for copy in copies_of(report):
        assert states(copy) == [UNANSWERED if copy.number == 2 else OK] * 3
        assert copy.connected == (copy.number != 2)
    assert report.survives == Survival(True, 0, False, "verified")


async def test_without_verifying_no_node_is_asked(own_world: World, own_nodes: RealNodes) -> None:
    """What the catalog and the connections say. Red when nodes that are gone counted as holding what they had."""
    blob = await own_world.put(b"k")
    damage(own_nodes, own_world, blob, 1, 0)
    report = await where(own_world, checking=NOT_VERIFIED)
    assert all(states(copy) == [UNCHECKED] * 3 for copy in copies_of(report))
    assert report.survives == Survival(True, 1, True, "layout")
    assert report.blob is not None
    assert (report.blob.checked_stripes, report.blob.checked_bytes) == (0, 0)
    own_nodes[3].kill()
    await own_world.down(3)
    assert (await where(own_world, checking=NOT_VERIFIED)).survives == Survival(True, 0, False, "layout")


async def test_what_was_written_while_a_node_was_away_lies_otherwise(
    own_world: World, own_nodes: RealNodes
) -> None:
    """A degraded layout: each copy on its own line, survival counted from distinct shards."""
    own_nodes[1].kill()
    await own_world.down(1)
    blob = await own_world.put(b"k")
    report = await where(own_world)
    assert report.blob is not None
    (run,) = report.blob.runs
    assert not run.standard
    assert [(copy.shard, copy.number) for copy in run.copies] == sorted(copies(blob.nodes, 3))
    assert report.survives is not None
    assert report.survives.nodes_lost_max == 1


async def move(own_world: World, blob: NewBlob, nodes: tuple[int, ...], runs: tuple[Run, ...] = ()) -> None:
    """Only in the catalog: no bytes go with it."""
    row = await own_world.row(blob)
    assert await own_world.catalog.write(
        lambda tx: placements.move(tx, blob.id, old=row, nodes=nodes, runs=runs)
    )


async def test_each_run_lies_where_its_own_layout_says(world: World) -> None:
    """Red when later runs were looked for where the first one lies."""
    blob = await world.put(b"k", 5 * STRIPE)
    turned = (*blob.nodes[1:], blob.nodes[0])
    await move(world, blob, blob.nodes, (Run(3, turned),))
    report = await where(world)
    assert report.blob is not None
    first, second = report.blob.runs
    assert (first.first_stripe, first.stop_stripe, second.first_stripe, second.stop_stripe) == (0, 3, 3, 5)
    assert [copy.number for copy in second.copies] == list(turned)
    assert all(states(copy) == [OK] * 3 for copy in first.copies)
    assert all(states(copy) == [MISSING] * 2 for copy in second.copies)
    assert report.blob.survives == Survival(False, 0, False, "verified")


async def test_what_is_moved_meanwhile_is_not_missing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red when what was missed was told without a second look at the layout."""
    blob = await world.put(b"k")
    await move(world, blob, (*blob.nodes[1:], blob.nodes[0]))
    check = BlockChecker.check
    looks: list[dict[Any, str]] = []

    async def moved_in_between(
        self: BlockChecker, wanted: Mapping[int, Sequence[BlockKey]], shard_bytes: int
    ) -> Any:
        found = await check(self, wanted, shard_bytes)
        if not looks:
            await move(world, blob, blob.nodes)
        looks.append(found)
        return found

    monkeypatch.setattr(BlockChecker, "check", moved_in_between)
    report = await where_blob(world, blob)
    assert len(looks) == 2
    assert MISSING in looks[0].values()
    assert all(states(copy) == [OK] * 3 for copy in report.runs[0].copies)


async def test_of_a_large_object_a_sample_is_read(world: World) -> None:
    """First, last and some; the rest is said to be unchecked. Red when the limit counted object bytes only, not those
    of the parity."""
    blob = await world.put(b"k", 30 * STRIPE)
    limit = Checking(bytes_max=5 * 3 * STRIPE // 2)
    seen: set[int] = set()
    for seed in range(4):
        report = await where_blob(world, blob, checking=limit, chance=Random(seed))
        checked = [at for at, state in enumerate(states(report.runs[0].copies[0])) if state == OK]
        assert (checked[0], checked[-1], len(checked), report.checked_stripes) == (0, 29, 5, 5)
        assert report.checked_bytes <= 5 * 3 * STRIPE // 2
        seen.update(checked)
    assert len(seen) > 5
    assert (await where_blob(world, blob, checking=EVERYTHING)).checked_stripes == 30


def test_a_sample_has_both_ends() -> None:
    assert sample(range(3, 20), 1, Random(1)) == [3, 19]
    assert sample(range(3, 4), 1, Random(1)) == [3]
    assert sample(range(0), 5, Random(1)) == []
    assert sample(range(100), None, Random(1)) == list(range(100))
    assert len(set(sample(range(100), 10, Random(1)))) == 10


async def multipart(world: World, key: bytes, sizes: Sequence[int]) -> list[NewBlob]:
    row = await world.catalog.write(
        lambda tx: uploads.create(
            *(tx,), bucket_id=world.bucket_id, key=key, owner="o", content_type="", attributes=Attributes()
        )
    )
    made = []
    for number, size in enumerate(sizes, 1):
        blob = await world.upload(size)
        made.append(blob)
        await world.catalog.write(
            lambda tx, number=number, blob=blob: uploads.put_part(  # type: ignore[misc]
                tx, upload=row, number=number, blob=blob, etag="e"
            )
        )
    wanted = [RequestedPart(number, "e") for number in range(1, len(sizes) + 1)]
    row = await uploads.get(world.catalog, world.bucket_id, key, row.upload_id)
    plan = await world.catalog.read(
        lambda reader: uploads.plan_completion(reader, row, wanted, part_bytes_min=1)
    )
    await world.catalog.write(
        lambda tx: uploads.complete(tx, plan=plan, etag="whole", attributes=Attributes())
    )
    return made


async def test_a_multipart_object_is_shown_part_by_part(world: World, nodes: RealNodes) -> None:
    """Bounded: the first, the last and some. Red when a bad part did not count for the whole object."""
    made = await multipart(world, b"m", [STRIPE, 2 * STRIPE, 3 * STRIPE, 4 * STRIPE, STRIPE])
    report = await where(world, b"m")
    assert report.blob is None
    assert [(part.number, part.blob and part.blob.blob) for part in report.parts] == [
        (number, blob.id.hex()) for number, blob in enumerate(made, 1)
    ]
    assert report.parts_total == 5
    assert report.survives == Survival(True, 1, True, "verified")
    few = await where(world, b"m", checking=Checking(parts_max=3))
    assert len(few.parts) == 3
    assert (few.parts[0].number, few.parts[-1].number, few.parts_total) == (1, 5, 5)
    damage(nodes, world, made[3], 2, 1)
    report = await where(world, b"m")
    assert report.survives == Survival(True, 0, False, "verified")
    assert [part.number for part in report.parts if part.blob and _bad(part.blob)] == [4]


def _bad(blob: BlobReport) -> int:
    return sum(copy.corrupt for run in blob.runs for copy in run.copies)


async def test_each_version_lies_where_its_own_blob_does(world: World) -> None:
    """Red when the current version's blob was shown for an older one."""
    old, new = await world.upload(), await world.put(b"k")
    await world.commit(b"other", old)
    values = (world.bucket_id, b"k", 0, old.size, 5, "older", old.id, "v0", "", 0)
    marker = (world.bucket_id, b"gone", 7, 0, 5, "", None, "v1", "", 1)
    await world.catalog.write(lambda tx: tx.execute(_INSERT_OLDER, values))
    await world.catalog.write(lambda tx: tx.execute(_INSERT_OLDER, marker))
    current, older = await where(world), await where(world, version_id="v0")
    assert current.blob is not None
    assert older.blob is not None
    assert (current.blob.blob, older.blob.blob) == (new.id.hex(), old.id.hex())
    assert [version.version_id for version in older.versions] == [None, "v0"]
    assert (older.version.etag, older.version.modified_at) == ("older", "1970-01-01T00:00:00.005Z")
    deleted = await where(world, b"gone")
    assert (deleted.version.delete_marker, deleted.blob, deleted.survives) == (True, None, None)
    with pytest.raises(NoSuchKey, match="v9"):
        await where(world, version_id="v9")


async def test_what_is_not_there_and_what_is_empty(world: World) -> None:
    await world.put(b"k", 0)
    empty = await where(world)
    assert empty.blob is not None
    assert (empty.blob.runs, empty.survives) == ([], None)
    with pytest.raises(NoSuchKey, match="nothing"):
        await where(world, b"nothing")
    with pytest.raises(NoSuchBucket):
        await object_report(world.catalog, NodeAsker(world.nodes), "no-bucket", b"k")
    assert await blob_report(world.catalog, NodeAsker(world.nodes), b"x" * 16) is None
