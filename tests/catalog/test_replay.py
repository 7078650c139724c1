"""A catalog that is lost comes back from any two nodes, with all that was answered (S17)."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from catalog import access_keys, backup, buckets, engine, leases, objects, outbox, replay, snapshots, work
from catalog import nodes as node_rows
from catalog.batch_records import changes_of, header_of, pack
from catalog.engine import Catalog
from catalog.errors import BucketExists, CatalogBusy, CatalogFailed, CatalogRefused
from catalog.leases import LeaseWatch
from tests.catalog.contents import contents, same
from tests.catalog.making import CLUSTER_ID, Clock, fail_on_fatal, put, small_settings
from tests.catalog.nodes_log import Name, Node, Nodes


@pytest.fixture
def path(tmp_path: Path, clock: Clock) -> Path:
    """A catalog as it is created, which no transaction has touched."""
    place = tmp_path / "catalog.sqlite"
    engine.create(place, cluster_id=CLUSTER_ID, nodes_hold_data=False, clock=clock)
    return place


@pytest.fixture
def restored(tmp_path: Path) -> Path:
    """Where a restored catalog goes."""
    (tmp_path / "restored").mkdir()
    return tmp_path / "restored" / "catalog.sqlite"


@asynccontextmanager
async def opened(path: Path, clock: Clock, nodes: Nodes | None, copies: int = 2) -> AsyncIterator[Catalog]:
    """Started, its log going to the nodes."""
    settings = msgspec.structs.replace(small_settings(), copies=copies)
    catalog = Catalog.open(path, settings, clock=clock, on_fatal=fail_on_fatal)
    await catalog.start()
    if nodes is not None:
        catalog.replicate_to(nodes)
    try:
        yield catalog
    finally:
        await catalog.close()


async def _work(catalog: Catalog, clock: Clock, rounds: int = 6) -> int:
    """Of everything a little, with requests that fail between those that pass; returns the bucket's number."""
    bucket = await catalog.write(lambda tx: buckets.create(tx, name="b", owner="o", region="r"))
    for turn in range(rounds):
        clock.now_ms += 1000
        await asyncio.gather(
            *(put(catalog, bucket.id, b"%d" % (number % 7)) for number in range(12)),
            _fails(catalog),
            catalog.write(partial(work.record_event, kind="test", detail=str(turn))),
        )
        key = b"%d" % (turn % 7)
        await catalog.write(partial(objects.delete, bucket_id=bucket.id, key=key), frees=True)
    return bucket.id


async def _fails(catalog: Catalog) -> None:
    with pytest.raises(BucketExists):
        await catalog.write(_adds_then_fails)


def _adds_then_fails(tx: Any) -> None:
    work.record_event(tx, "undone", detail="")
    buckets.create(tx, name="b", owner="o", region="r")


async def test_s17_any_two_nodes_give_the_catalog_back(path: Path, clock: Clock, tmp_path: Path) -> None:
    """From its creation on, every pair of the three nodes leads to the state that was there. Red when a request that
    was rolled back stays in the record, and when what is written once a batch is not in it."""
    nodes = Nodes()
    async with opened(path, clock, nodes) as catalog:
        await _work(catalog, clock)
    for number, pair in enumerate(itertools.combinations(nodes.all, 2)):
        target = tmp_path / f"{number}.sqlite"
        report = replay.restore_from_log(pair, target, clock=clock)
        assert report.snapshot_batch == 0
        assert report.batches == report.batch > 6
        same(contents(path), contents(target))


async def test_s17_a_snapshot_and_what_came_after_it(path: Path, clock: Clock, restored: Path) -> None:
    """The snapshot is made while others write; what came before it is not needed. Red when the newest snapshot is taken
    without what follows it."""
    nodes = Nodes()
    async with opened(path, clock, nodes) as catalog:
        bucket = await _work(catalog, clock, 2)
        batch, term, chunks = await asyncio.to_thread(snapshots.make_snapshot, path)
        nodes.add_snapshot((await catalog.meta()).catalog_id, (batch, term, list(chunks)))
        await put(catalog, bucket, b"late")
    for node in nodes.all:
        for name in node.names():
            if name.kind == 0 and name.batch <= batch:
                del node.entries[name]
    report = replay.restore_from_log(nodes.all[:2], restored, clock=clock)
    assert (report.snapshot_batch, report.batches) == (batch, 1)
    same(contents(path), contents(restored))


async def test_s18_a_restored_catalog_is_another_one(path: Path, clock: Clock, restored: Path) -> None:
    """Its term is higher, nothing is collected before an operator says so, and its own log goes on from there: lost
    again before any snapshot, it comes back again. Red when what the restore changed is in no record."""
    nodes = Nodes()
    async with opened(path, clock, nodes) as catalog:
        bucket = await _work(catalog, clock, 1)
        before = await catalog.meta()
    replay.restore_from_log(nodes.all, restored, clock=clock)
    async with opened(restored, clock, nodes) as catalog:
        meta = await catalog.meta()
        assert meta.catalog_id == before.catalog_id
        assert meta.term > before.term
        assert not meta.orphans_allowed
        await put(catalog, bucket, b"after")
    again = restored.with_name("again.sqlite")
    report = replay.restore_from_log(nodes.all[1:], again, clock=clock)
    assert report.term == meta.term
    same(contents(restored), contents(again))


@pytest.mark.parametrize("which", ["two nodes", "a stranger", "a copy is rotten", "all"])
async def test_s17_nothing_is_acknowledged_that_rests_on_one_node_alone(
    path: Path, clock: Clock, restored: Path, which: str
) -> None:
    """The node that was not asked may be lost for good, and then the one that has the other copy. Red (also as seed 811
    of `make simulate`) when writes do not wait for a snapshot: they were acknowledged, and nothing led to them."""
    nodes = Nodes()
    async with opened(path, clock, nodes) as catalog:
        bucket = await _work(catalog, clock, 1)
    if which == "a copy is rotten":
        nodes.all[0].rotten.add(nodes.all[0].names()[0])
    asked = nodes.all if which in {"all", "a copy is rotten"} else nodes.all[:2]
    if which == "a stranger":
        stranger = Node("of another store")
        for name in nodes.all[2].names():
            stranger.add(bytes(16), name, nodes.all[2].entries[name])
        asked = [*asked, stranger]
    report = replay.restore_from_log(asked, restored, clock=clock)
    assert report.needs_snapshot == (which != "all")
    async with opened(restored, clock, nodes) as catalog:
        if report.needs_snapshot:
            with pytest.raises(CatalogBusy, match="need a snapshot"):
                await put(catalog, bucket, b"too early")
            await catalog.write(_gap_is_closed, unshipped=True)
        await put(catalog, bucket, b"after")


async def test_s17_what_a_replaced_catalog_left_behind_is_not_taken(
    path: Path, clock: Clock, tmp_path: Path, restored: Path
) -> None:
    """Two backups were put back, the earlier one first: there are three histories with the same numbers, and the newest
    goes on from the first one. Red when of each number the highest term is taken, without asking what it follows."""
    nodes, backups = Nodes(), [tmp_path / "backup 1", tmp_path / "backup 2"]
    async with opened(path, clock, nodes) as catalog:
        bucket = await _work(catalog, clock, 1)
        for old in backups:
            await asyncio.to_thread(backup.backup, path, old)
            for number in range(5):
                await put(catalog, bucket, b"old%d" % number)
    for old in backups:
        clock.now_ms += 60_000
        restored.unlink(missing_ok=True)
        backup.restore(old, restored, clock=clock)
        async with opened(restored, clock, None) as catalog:
            await catalog.write(_gap_is_closed)
        async with opened(restored, clock, nodes) as catalog:
            for number in range(9):
                await put(catalog, bucket, b"new%d" % number)
    again = restored.with_name("again.sqlite")
    replay.restore_from_log(nodes.all, again, clock=clock)
    same(contents(restored), contents(again))


def _gap_is_closed(tx: Any) -> int:
    at = outbox.position(tx)
    outbox.gap_closed(tx, at.batch)
    return at.batch


async def test_s17_a_gap_is_told_and_never_passed_over(path: Path, clock: Clock, restored: Path) -> None:
    """Red when the batches after the gap are left out without a word, or replayed over it."""
    nodes = Nodes()
    async with opened(path, clock, nodes) as catalog:
        bucket = await _work(catalog, clock, 1)
        for number in range(3):
            await put(catalog, bucket, b"k%d" % number)
    newest = max(name.batch for node in nodes.all for name in node.names())
    for node in nodes.all:
        node.entries.pop(Name(0, 1, newest - 1, 0), None)
    with pytest.raises(CatalogRefused, match=f"without a gap it goes to batch {newest - 2}"):
        replay.restore_from_log(nodes.all, restored, clock=clock)
    assert not restored.exists()
    report = replay.restore_from_log(nodes.all, restored, past_gaps=True, clock=clock)
    assert report.batch == newest - 2


@pytest.mark.parametrize("of_snapshot", [False, True])
async def test_s17_what_is_there_and_unreadable_is_never_passed_over(
    path: Path, clock: Clock, restored: Path, *, of_snapshot: bool
) -> None:
    """The only copy of the newest batch, or of a chunk of the snapshot that took the place of all before it, is rotten;
    what an older state leads from is whole. Red when the restore takes what it can't read for not there: it went back
    to the older state without a word."""
    nodes = Nodes()
    async with opened(path, clock, nodes) as catalog:
        bucket = await _work(catalog, clock, 1)
        away = Node("away")
        for node in nodes.all:
            for name in node.names():
                away.add(node.catalog_id, name, node.entries[name])
        await put(catalog, bucket, b"k")
        catalog_id = (await catalog.meta()).catalog_id
        made = await asyncio.to_thread(snapshots.make_snapshot, path)
    batch, term, chunks = made[0], made[1], list(made[2])
    here = Node("here")
    if of_snapshot:
        here.add(catalog_id, newest := Name(1, term, batch, 0), chunks[0])
    else:
        here.add(catalog_id, newest := Name(0, term, batch, 0), b"not to be had")
    here.rotten = {newest}
    with pytest.raises(CatalogRefused, match=f"batch {batch} of term {term} is there"):
        replay.restore_from_log([here, away], restored, clock=clock)
    report = replay.restore_from_log([here, away], restored, past_gaps=True, clock=clock)
    assert report.batch == batch - 1


async def test_s17_two_histories_under_one_term_are_not_mixed(
    path: Path, clock: Clock, restored: Path
) -> None:
    """The catalog's file was copied, and the copy put in its place by hand: it goes on under the same term, and its
    batches take the names of others, on two nodes of three. Red when the first copy of a batch is taken: the restore
    gave a state that never was."""
    nodes = Nodes()
    async with opened(path, clock, nodes) as catalog:
        bucket = await _work(catalog, clock, 1)
        await asyncio.to_thread(backup.backup, path, restored)
        for number in range(8):
            await put(catalog, bucket, b"before%d" % number)
    async with opened(restored, clock, nodes) as catalog:
        for number in range(7):
            await put(catalog, bucket, b"after%d" % number)
    with pytest.raises(CatalogRefused, match="two different batches"):
        replay.restore_from_log(nodes.all, restored.with_name("again.sqlite"), clock=clock)


async def test_s17_too_few_nodes_may_not_have_the_newest_part(
    path: Path, clock: Clock, restored: Path
) -> None:
    """One that was away has a whole log that ends too early. Red when one of three, or two of four, are enough."""
    nodes = Nodes()
    async with opened(path, clock, nodes) as catalog:
        for number in range(1, 4):
            await catalog.write(partial(_register, number=number))
        early = Node("early")
        for node in nodes.all:
            for name, payload in node.entries.items():
                early.add(node.catalog_id, name, payload)
        await catalog.write(partial(work.record_event, kind="test", detail="late"))
    with pytest.raises(CatalogRefused, match="it takes 2"):
        replay.restore_from_log([early], restored, clock=clock)
    assert not restored.exists()
    replay.restore_from_log(nodes.all[:2], restored, clock=clock)
    restored.unlink()
    replay.restore_from_log([early], restored, past_gaps=True, clock=clock)
    async with opened(path, clock, nodes) as catalog:
        await catalog.write(partial(_register, number=4))
    restored.unlink()
    with pytest.raises(CatalogRefused, match="it takes 3"):
        replay.restore_from_log(nodes.all[:2], restored, clock=clock)


def _register(tx: Any, *, number: int) -> None:
    node_id = number.to_bytes(16, "big")
    row = node_rows.register(
        tx, node_id=node_id, name=f"n{number}", region="r", zone="", host="h", port=number
    )
    node_rows.set_state(tx, row.number, node_rows.UP)


async def test_s17_a_batch_that_does_something_else_ends_the_restore(
    path: Path, clock: Clock, restored: Path
) -> None:
    """Red when row counts are not compared."""
    nodes = Nodes()
    async with opened(path, clock, nodes) as catalog:
        await _work(catalog, clock, 1)
    node = Node("forged")
    for source in nodes.all:
        for name in source.names():
            node.add(source.catalog_id, name, source.entries[name])
    newest = max(node.names())
    changes = changes_of(node.entries[newest])
    steps = [msgspec.structs.replace(step, outcome=7) for step in changes.steps]
    changed = msgspec.structs.replace(changes, steps=steps)
    node.entries[newest] = pack(header_of(node.entries[newest]), changed)
    with pytest.raises(CatalogFailed, match="does not do again"):
        replay.restore_from_log([node], restored, clock=clock)
    assert not restored.exists()


async def test_s17_a_catalog_that_had_no_log_needs_a_snapshot_first(
    path: Path, clock: Clock, restored: Path
) -> None:
    """Written to without a log, then with one: from the log alone there is no way back, with a snapshot there is. Red
    when the first record of such a catalog passes for its creation."""
    nodes = Nodes()
    async with opened(path, clock, None, copies=0) as catalog:
        bucket = await _work(catalog, clock, 1)
    async with opened(path, clock, nodes) as catalog:
        await put(catalog, bucket, b"first")
        with pytest.raises(CatalogRefused, match="no snapshot"):
            replay.restore_from_log(nodes.all, restored, clock=clock)
        batch, term, chunks = await asyncio.to_thread(snapshots.make_snapshot, path)
        nodes.add_snapshot((await catalog.meta()).catalog_id, (batch, term, list(chunks)))
    replay.restore_from_log(nodes.all, restored, clock=clock)
    same(contents(path), contents(restored))


async def test_s17_writing_without_a_log_for_a_while_breaks_the_chain(
    path: Path, clock: Clock, restored: Path
) -> None:
    """Red when such a process uses up no number."""
    nodes = Nodes()
    async with opened(path, clock, nodes) as catalog:
        bucket = await _work(catalog, clock, 1)
    async with opened(path, clock, None, copies=0) as catalog:
        await put(catalog, bucket, b"unlogged")
    async with opened(path, clock, nodes) as catalog:
        await put(catalog, bucket, b"logged")
    with pytest.raises(CatalogRefused, match="not all that leads to it"):
        replay.restore_from_log(nodes.all, restored, clock=clock)


async def test_s17_a_process_without_the_log_beside_one_with_it_breaks_the_chain(
    path: Path, clock: Clock, restored: Path
) -> None:
    """From the creation on, and again after a snapshot has closed the first gap. Red when such a process breaks the
    chain only once, or only if there was a log when it began: the restore comes out without what it wrote."""
    nodes = Nodes()
    async with opened(path, clock, None, copies=0) as unlogged, opened(path, clock, nodes) as logged:
        bucket = await _work(logged, clock, 1)
        for turn in range(2):
            await put(unlogged, bucket, b"unlogged-%d" % turn)
            await put(logged, bucket, b"logged-%d" % turn)
            with pytest.raises(CatalogRefused, match=r"not all that leads to it|no snapshot"):
                replay.restore_from_log(nodes.all, restored, clock=clock)
            batch, term, chunks = await asyncio.to_thread(snapshots.make_snapshot, path)
            nodes.add_snapshot((await logged.meta()).catalog_id, (batch, term, list(chunks)))
            await put(logged, bucket, b"after-the-snapshot-%d" % turn)
    replay.restore_from_log(nodes.all, restored, clock=clock)
    same(contents(path), contents(restored))


async def test_s17_terms_and_leases_are_replayed(path: Path, clock: Clock, restored: Path) -> None:
    """A change of the steward raises the term in the middle of the log."""
    nodes = Nodes()
    async with opened(path, clock, nodes) as catalog:
        bucket = await _work(catalog, clock, 1)
        seen = await catalog.read(leases.read)
        assert LeaseWatch(lambda: 0.0, 1.0).expired(seen)
        await catalog.write(lambda tx: leases.acquire(tx, "me", seen=seen), unshipped=True)
        await put(catalog, bucket, b"under the new term")
        await catalog.write(access_keys.list_keys)
    report = replay.restore_from_log(nodes.all[:2], restored, clock=clock)
    assert report.term == 2
    same(contents(path), contents(restored))


def test_chunks_are_of_one_snapshot(path: Path, tmp_path: Path) -> None:
    """Red when the digest is not compared."""
    _, _, chunks = snapshots.make_snapshot(path)
    whole = list(chunks)
    assert not path.with_name("catalog.snapshot").exists()
    target = tmp_path / "copy"
    snapshots.write_file(whole, target)
    assert contents(target) == contents(path)
    last = bytearray(whole[-1])
    last[45] ^= 1
    with pytest.raises(snapshots.SnapshotDamaged, match="digest"):
        snapshots.write_file([*whole[:-1], bytes(last)], target)
