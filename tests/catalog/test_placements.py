"""Blobs by where they lie, and moving them (P7, S9, S14, S20)."""

import asyncio
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from msgspec import structs
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from catalog import blobs, lookup, objects, placements, schema, sqlite, work
from catalog.engine import Catalog
from catalog.errors import Changed, LeaseLost
from catalog.model import BlobRow, ExtraCopy, FaultReport, NewBlob, Run
from catalog.statement import Reader, Statement
from catalog.transaction import Transaction
from tests.catalog.making import SQLITE_ONLY, Clock, SqliteStore, Store, copy, new_blob, put, source_of

_RUN_ROWS = Statement(sa.select(schema.blob_runs.c.blob_id, schema.blob_runs.c.first_stripe))
_HERE = (1, 2, 3)
_THERE = (4, 2, 3)
_DEGRADED = (1, 1, 0, 2, 2, 0)


def _with_runs(*runs: Run, nodes: tuple[int, ...] = _HERE, stripes: int = 9) -> NewBlob:
    blob = new_blob(nodes=(1, 2, 3), stripes=stripes)
    return structs.replace(blob, size=stripes << 20, nodes=nodes, runs=runs)


async def _row(catalog: Catalog, blob_id: bytes) -> BlobRow:
    row = await lookup.blob(catalog, blob_id)
    assert row is not None
    return row


async def _move(catalog: Catalog, old: BlobRow, nodes: tuple[int, ...], runs: tuple[Run, ...] = ()) -> bool:
    return await catalog.write(lambda tx: placements.move(tx, old.id, old=old, nodes=nodes, runs=runs))


async def _number(catalog: Catalog, nodes: tuple[int, ...]) -> int:
    (use,) = [use for use in await catalog.read(placements.in_use) if use.nodes == nodes]
    return use.number


async def _in(catalog: Catalog, number: int, *, after: bytes = b"", limit: int = 100) -> list[BlobRow]:
    def read(reader: Reader) -> list[BlobRow]:
        return placements.blobs_in(reader, catalog.placements, number, after=after, limit=limit)

    return await catalog.read(read)


async def test_s20_a_move_is_compare_and_set_on_the_whole_layout(catalog: Catalog, bucket_id: int) -> None:
    """Of two workers that copied from the same row one moves the blob; the other's copies are in no layout.
    Red when `move` compares no nodes (the stale worker drops the only copy), or no runs."""
    blob = _with_runs(Run(4, _DEGRADED))
    await put(catalog, bucket_id, b"key", blob)
    seen = await _row(catalog, blob.id)
    assert await _move(catalog, seen, _THERE)
    assert not await _move(catalog, seen, (5, 6, 7)), "the first run has changed"
    now = await _row(catalog, blob.id)
    assert (now.nodes, now.runs) == (_THERE, ())
    assert not await _move(catalog, structs.replace(now, runs=seen.runs), (5, 6, 7)), "the runs have changed"
    assert not await _move(catalog, structs.replace(now, nodes=_HERE), (5, 6, 7))
    assert await _row(catalog, blob.id) == now


async def test_s20_only_the_runs_changed(catalog: Catalog, bucket_id: int) -> None:
    """The first run is the same, and what follows is not. Red when `move` compares the first run only."""
    blob = _with_runs(Run(4, _DEGRADED))
    await put(catalog, bucket_id, b"key", blob)
    seen = await _row(catalog, blob.id)
    assert await _move(catalog, seen, _HERE, (Run(4, (5, 2, 3)),))
    assert not await _move(catalog, seen, _HERE)
    assert (await _row(catalog, blob.id)).runs == (Run(4, (5, 2, 3)),)


async def test_s20_workers_race_in_two_processes(
    store: Store, catalog: Catalog, bucket_id: int, clock: Clock
) -> None:
    """One of ten wins, whichever; both processes agree where the blob lies, and its runs are the winner's."""
    other = store.open(clock)
    await other.start()
    blob = _with_runs(Run(2, _DEGRADED))
    await put(catalog, bucket_id, b"key", blob)
    seen = await _row(catalog, blob.id)
    targets = [((10 + turn, 2, 3), (Run(1 + turn, (20 + turn, 2, 3)),)) for turn in range(10)]
    moved = await asyncio.gather(
        *(_move((catalog, other)[turn % 2], seen, *target) for turn, target in enumerate(targets))
    )
    assert sum(moved) == 1
    winner = targets[moved.index(True)]
    for opened in (catalog, other):
        now = await _row(opened, blob.id)
        assert (now.nodes, now.runs) == winner
    assert await catalog.read(lambda reader: reader.rows(_RUN_ROWS)) == [(blob.id, winner[1][0].first_stripe)]
    await other.close()


async def test_s20_garbage_is_not_moved(catalog: Catalog, bucket_id: int) -> None:
    """From its last reference on the collector owns it: it would delete by the old layout and leave the new
    copies behind. Red when `move` does not ask for references."""
    blob = new_blob()
    await put(catalog, bucket_id, b"key", blob)
    seen = await _row(catalog, blob.id)
    await catalog.write(lambda tx: objects.delete(tx, bucket_id=bucket_id, key=b"key"))
    assert not await _move(catalog, seen, _THERE)
    assert await catalog.write(lambda tx: work.condemn(tx, blob.id))
    assert not await _move(catalog, seen, _THERE)
    await catalog.write(lambda tx: work.collected(tx, blob.id))
    assert not await _move(catalog, seen, _THERE), "gone"


async def test_s14_references_follow_a_moved_blob(catalog: Catalog, bucket_id: int) -> None:
    """A copy prepared before the move commits after it, and what is deleted at last is the new layout. Red when
    `move` gives the blob a new row instead of changing it, or leaves its runs behind."""
    blob = _with_runs(Run(4, _DEGRADED))
    await put(catalog, bucket_id, b"key", blob)
    source = await source_of(catalog, bucket_id, b"key")
    assert await _move(catalog, await _row(catalog, blob.id), _THERE, (Run(3, (5, 2, 3)),))
    await copy(catalog, source, bucket_id, b"copy")
    await catalog.write(lambda tx: objects.delete(tx, bucket_id=bucket_id, key=b"key"))
    row = await lookup.lookup(catalog, bucket_id, b"copy")
    assert row is not None
    assert (row.blob.nodes, row.blob.runs) == (_THERE, (Run(3, (5, 2, 3)),))
    await catalog.write(lambda tx: objects.delete(tx, bucket_id=bucket_id, key=b"copy"))
    condemned = await catalog.write(lambda tx: work.condemn(tx, blob.id))
    assert condemned is not None
    assert (condemned.nodes, condemned.runs) == (_THERE, row.blob.runs)
    assert (condemned.k, condemned.m, condemned.width) == (2, 1, 3)
    with pytest.raises(Changed):
        await copy(catalog, source, bucket_id, b"late")
    await catalog.write(lambda tx: work.collected(tx, blob.id))
    assert await catalog.read(lambda reader: reader.rows(_RUN_ROWS)) == []


async def test_p7_a_move_its_extra_copies_and_the_repair_are_one_transaction(
    catalog: Catalog, bucket_id: int, clock: Clock
) -> None:
    """A worker that has lost its lease leaves no part of it: the old copies stay in the layout and off the
    queue. Red when `move` commits by itself, or when the copies are due without a grace period (S21)."""
    blob = new_blob()
    await put(catalog, bucket_id, b"key", blob)
    fault = FaultReport(0, 0, 1, "missing")
    await catalog.write(lambda tx: work.report_faults(tx, blob.id, [fault]))
    seen = await _row(catalog, blob.id)
    extra = ExtraCopy(blob.id, 0, 0, 1, 77)

    def finish(tx: Transaction) -> bool:
        moved = placements.move(tx, blob.id, old=seen, nodes=_THERE, runs=())
        work.queue_extra(tx, [extra])
        work.repaired(tx, blob.id)
        return moved

    def finish_late(tx: Transaction) -> None:
        assert finish(tx)
        raise LeaseLost("taken meanwhile")

    with pytest.raises(LeaseLost):
        await catalog.write(finish_late)
    later = clock.now_ms + catalog.settings.grace_ms
    assert await _row(catalog, blob.id) == seen
    assert await catalog.read(work.repair_count) == 1
    assert await catalog.read(work.extra_count) == 0
    assert await catalog.write(finish)
    assert (await _row(catalog, blob.id)).nodes == _THERE
    assert await catalog.read(work.repair_count) == 0
    assert await catalog.read(lambda reader: work.due_extra(reader, later - 1, 10)) == []
    assert await catalog.read(lambda reader: work.due_extra(reader, later, 10)) == [extra]


async def test_in_use_follows_what_blobs_name(catalog: Catalog, bucket_id: int) -> None:
    """First runs and later ones; no longer once the last blob has moved away. Red when later runs don't
    count: a drained node would be called empty."""
    plain, two_runs, wide = new_blob(), _with_runs(Run(4, _DEGRADED)), new_blob(nodes=(1, 2, 3, 4, 5, 6))
    wide = structs.replace(wide, k=4, m=2)
    for number, blob in enumerate((plain, two_runs, wide)):
        await put(catalog, bucket_id, b"%d" % number, blob)
    uses = await catalog.read(placements.in_use)
    assert {use.nodes: (use.k, use.m) for use in uses} == {
        _HERE: (2, 1),
        _DEGRADED: (2, 1),
        wide.nodes: (4, 2),
    }
    number = await _number(catalog, _DEGRADED)
    assert await _in(catalog, number) == [await _row(catalog, two_runs.id)]
    assert await catalog.read(lambda reader: placements.count(reader, number)) == (1, 9 << 20)
    assert await _move(catalog, await _row(catalog, two_runs.id), (7, 8, 9))
    assert {use.nodes for use in await catalog.read(placements.in_use)} == {_HERE, (7, 8, 9), wide.nodes}
    assert await _in(catalog, number) == []


async def test_a_node_is_in_use_until_no_layout_names_it(catalog: Catalog, bucket_id: int) -> None:
    """In a later run of one blob, and of a deleted blob until it is collected: its readers are not cut off
    (S21). Nobody, number 0, is never in use."""
    blob = _with_runs(Run(4, (4, 2, 3)), Run(6, _DEGRADED))
    await put(catalog, bucket_id, b"key", blob)

    async def in_use() -> set[int]:
        return {
            node
            for node in range(10)
            if await catalog.read(lambda reader, node=node: placements.node_in_use(reader, node))  # type: ignore[misc]
        }

    assert await in_use() == {1, 2, 3, 4}
    assert await _move(catalog, await _row(catalog, blob.id), (5, 2, 3))
    assert await in_use() == {2, 3, 5}
    await catalog.write(lambda tx: objects.delete(tx, bucket_id=bucket_id, key=b"key"))
    assert await in_use() == {2, 3, 5}
    await catalog.write(lambda tx: work.condemn(tx, blob.id))
    await catalog.write(lambda tx: work.collected(tx, blob.id))
    assert await in_use() == set()


async def test_blobs_in_a_placement_come_in_pages_each_once(catalog: Catalog, bucket_id: int) -> None:
    """By first and by later runs, in one order, without garbage. Red when a blob that names the placement in two
    runs comes twice, or when the page is cut before both kinds are merged."""
    made: list[NewBlob] = []
    for turn in range(30):
        blob = (
            new_blob(nodes=(7, 8, 9)),
            _with_runs(Run(2, (7, 8, 9)), Run(4, _HERE), Run(6, (7, 8, 9))),
            _with_runs(Run(2, _HERE), Run(4, (7, 8, 9)), nodes=(7, 8, 9)),
            new_blob(),
            new_blob(nodes=(7, 8, 9)),
        )[turn % 5]
        made.append(blob)
        await put(catalog, bucket_id, b"%d" % turn, blob)
        if turn % 5 == 4:
            await catalog.write(lambda tx, key=b"%d" % turn: objects.delete(tx, bucket_id=bucket_id, key=key))  # type: ignore[misc]
    expected = sorted(blob.id for turn, blob in enumerate(made) if turn % 5 in (0, 1, 2))
    number = await _number(catalog, (7, 8, 9))
    found: list[BlobRow] = []
    while page := await _in(catalog, number, after=found[-1].id if found else b"", limit=4):
        assert len(page) == min(4, len(expected) - len(found))
        found += page
    assert [row.id for row in found] == expected
    by_id = {blob.id: blob for blob in made}
    assert all((row.nodes, row.runs) == (by_id[row.id].nodes, by_id[row.id].runs) for row in found)
    bytes_in = sum(by_id[blob_id].size for blob_id in expected)
    assert await catalog.read(lambda reader: placements.count(reader, number)) == (len(expected), bytes_in)


async def test_all_blobs_with_stripes_in_pages(catalog: Catalog, bucket_id: int) -> None:
    """With their runs; empty, deleted and composite ones are left out."""
    made = [_with_runs(Run(3, (4, 2, 3))) if turn % 3 else new_blob() for turn in range(10)]
    empty, deleted = new_blob(size=0, stripes=0), new_blob()
    for turn, blob in enumerate([*made, empty, deleted]):
        await put(catalog, bucket_id, b"%d" % turn, blob)
    await catalog.write(lambda tx: objects.delete(tx, bucket_id=bucket_id, key=b"11"))
    await catalog.write(lambda tx: blobs.add_composite(tx, 1, 1, blobs.pack_manifest(())))
    found: list[BlobRow] = []

    def read(reader: Reader) -> list[BlobRow]:
        after = found[-1].id if found else b""
        return blobs.page(reader, catalog.placements, after=after, limit=4)

    while page := await catalog.read(read):
        found += page
    assert [(row.id, row.runs) for row in found] == sorted((blob.id, blob.runs) for blob in made)


async def test_many_blobs_by_id_as_few_statements(
    catalog: Catalog, bucket_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some tens on the loop, more in a thread, all with their runs; unknown ids are left out."""
    made = [_with_runs(Run(3, (4, 2, 3))) if turn % 7 == 0 else new_blob() for turn in range(70)]
    for turn, blob in enumerate(made):
        await put(catalog, bucket_id, b"%d" % turn, blob)
    statements = 0
    rows: Callable[..., object] = Reader.rows

    def counted(self: Reader, statement: Statement, parameters: object = ()) -> object:
        nonlocal statements
        statements += statement is blobs.BY_IDS
        return rows(self, statement, parameters)

    monkeypatch.setattr(Reader, "rows", counted)
    for count, expected in ((0, 0), (1, 1), (31, 1), (32, 1), (33, 2), (70, 3)):
        statements = 0
        wanted = [blob.id for blob in made if not blob.runs][:count]
        wanted += [b"?" * 16] * (count - len(wanted))
        found = await lookup.blobs_by_id(catalog, wanted)
        assert set(found) == set(wanted) - {b"?" * 16}
        assert statements == expected
    found = await lookup.blobs_by_id(catalog, [blob.id for blob in made])
    assert {row.id: (row.nodes, row.runs) for row in found.values()} == {
        blob.id: (blob.nodes, blob.runs) for blob in made
    }


async def test_s9_a_read_between_two_moves_sees_one_layout(
    store: Store, catalog: Catalog, bucket_id: int, clock: Clock
) -> None:
    """Its row is read, then the blob moves, then its runs are read. Red when only the runs are read again: first
    run of the old layout, the rest of the new one."""
    blob = _with_runs(Run(4, (7, 8, 9)))
    await put(catalog, bucket_id, b"key", blob)
    seen = await _row(catalog, blob.id)
    point = catalog.point

    async def point_then_move(statement: Statement, parameters: tuple[bytes, ...] = ()) -> object:
        rows = await point(statement, parameters)
        assert await _move(catalog, seen, (4, 5, 6), (Run(2, (3, 2, 1)),))
        return rows

    catalog.point = point_then_move  # type: ignore[method-assign,assignment]
    found = await lookup.blob(catalog, blob.id)
    assert found is not None
    assert (found.nodes, found.runs) == ((4, 5, 6), (Run(2, (3, 2, 1)),))


@SQLITE_ONLY
def test_queries_follow_indexes(store: SqliteStore) -> None:
    """In SQLite's own words, so that their cost is what their docstrings say: no table is read from end to end but
    `placements`, and no page is sorted. Red when the index of runs by placement is dropped."""
    connection = sqlite.Sqlite(store.path, mmap_bytes=0, cache_bytes=1 << 20).connect()
    dialect = SQLiteDialect_pysqlite(paramstyle="qmark")
    scanning = {placements._IN_USE: {"placements"}}
    for statement in (
        placements._IN_USE,
        placements._NODE_IN_USE,
        placements._BY_FIRST_RUN,
        placements._BY_LATER_RUN,
        placements._COUNT_BY_FIRST_RUN,
        placements._COUNT_BY_LATER_RUN,
        blobs._PAGE,
        blobs.BY_IDS,
        work._REPAIRS_DUE,
        work._LEAST_SPARE,
        work._EXTRA_DUE,
        work._LATEST_EVENTS,
    ):
        text = "EXPLAIN QUERY PLAN " + statement.text(dialect)
        plan = [row[3] for row in connection.execute(text, [0] * text.count("?"))]
        assert {line.split()[1] for line in plan if line.startswith("SCAN")} == scanning.get(statement, set())
        assert not any("TEMP B-TREE" in line for line in plan), plan
    connection.close()
