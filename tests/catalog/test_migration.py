"""A catalog of the first schema, with rows in it, under the present code (S25: migrations only add)."""

import asyncio
from functools import partial
from importlib.resources import files
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config

from catalog import (
    backup,
    blobs,
    buckets,
    engine,
    leases,
    lookup,
    nodes,
    placements,
    schema,
    sqlite,
    usage,
    work,
)
from catalog.engine import Catalog
from catalog.errors import CatalogRefused
from catalog.model import ObjectRow, Versioning
from catalog.usage_changes import Usage
from tests.catalog.making import CLUSTER_ID, Clock, fail_on_fatal, new_blob, put, small_settings

_OLD = bytes.fromhex("00000001" + "00000007" + "ab" * 8)
_GARBAGE = bytes.fromhex("00000001" + "00000008" + "cd" * 8)
_ROWS = (
    ("meta", (1, b"c" * 16, CLUSTER_ID, 5, 3, 1, 9, 0, 1, 1)),
    ("buckets", (1, "bucket", "owner", "region", 1, 0, None, None, None)),
    ("placements", (1, bytes.fromhex("000000010000000200000003"))),
    ("placement_nodes", (1, 1)),
    ("placement_nodes", (2, 1)),
    ("placement_nodes", (3, 1)),
    ("blobs", (_OLD, 4096, 1, 0, 1, 1, 2, 1, 1, 1 << 20, 0, 0, 0, 0)),
    ("objects", (1, b"key", 1, 4096, 1, "etag", None, None, _OLD, None, "text/plain", None)),
    ("garbage", (_GARBAGE, 5, 0, 1, 2, 0, 0)),
    ("repairs", (_OLD, 3, 4, 0, None, b"\x91\x94\x00\x00\x01\xa7missing")),
    ("nodes", (1, b"1" * 16, "node-1", "r", "z", "127.0.0.1", 4000, "up")),
    ("leases", ("steward", 12, "somebody")),
    ("events", (1, 2, "node-down", 1, "")),
)


def _first_schema(path: Path) -> None:
    """What the first release left: its migration and its rows, column by column as it wrote them."""
    database = sqlite.Sqlite(path, mmap_bytes=0, cache_bytes=1 << 20)
    config = Config()
    config.set_main_option("script_location", str(files("catalog") / "migrations"))
    config.set_main_option("path_separator", "os")
    with database.engine(database.initialise()).connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.commit()
    raw = database.connect(query_only=False)
    for table, row in _ROWS:
        raw.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
    raw.close()


async def test_rows_of_the_first_schema_serve_on(tmp_path: Path) -> None:
    """Objects, nodes, garbage and repairs, and new rows beside them. Red when an added column has no default, or
    the migration forgets one."""
    path = tmp_path / "catalog.sqlite"
    _first_schema(path)
    clock = Clock()
    catalog = Catalog.open(path, small_settings(), clock=clock, on_fatal=fail_on_fatal)
    await catalog.start()
    meta = await catalog.meta()
    assert (meta.catalog_id, meta.term, meta.orphans_allowed) == (b"c" * 16, 5, True)
    row = await lookup.lookup(catalog, 1, b"key")
    assert row is not None
    assert (row.blob.id, row.blob.nodes) == (_OLD, (1, 2, 3))
    (node,) = await nodes.current(catalog)
    assert (node.name, node.state, node.directory) == ("node-1", "up", None)
    (repair,) = await catalog.read(lambda reader: work.due_repairs(reader, clock.now_ms, 10))
    assert (repair.blob_id, repair.spare, repair.faults[0].kind) == (_OLD, 0, "missing")
    (garbage,) = await catalog.read(
        lambda reader: work.due_garbage(reader, catalog.placements, now_ms=clock.now_ms, limit=10)
    )
    assert (garbage.blob_id, garbage.nodes, garbage.width) == (_GARBAGE, (1, 2, 3), 3)
    assert await catalog.write(lambda tx: work.condemn(tx, _GARBAGE))
    assert await catalog.write(lambda tx: work.collected(tx, _GARBAGE))
    assert [use.nodes for use in await catalog.read(placements.in_use)] == [(1, 2, 3)]
    assert await catalog.write(lambda tx: placements.move(tx, _OLD, old=row.blob, nodes=(4, 2, 3), runs=()))
    await put(catalog, 1, b"new", new_blob(epoch=3))
    page = await catalog.read(lambda reader: blobs.page(reader, catalog.placements, after=b"", limit=10))
    assert [blob.nodes for blob in page] == [(4, 2, 3), (1, 2, 3)]
    assert (await catalog.read(leases.read)).counter == 12
    await catalog.close()


async def test_old_objects_become_null_versions_and_the_lock_clock_runs(tmp_path: Path) -> None:
    """Versioning can be enabled on what the first release stored. Its lock clock stood still; nothing is locked that it
    could free, and what is locked from now on must not wait for years. Red when the migration left the clock."""
    path = tmp_path / "catalog.sqlite"
    _first_schema(path)
    catalog = Catalog.open(path, small_settings(), clock=Clock(), on_fatal=fail_on_fatal)
    await catalog.start()
    assert (await catalog.meta()).clock_ms > 1_700_000_000_000
    await catalog.write(lambda tx: buckets.set_versioning(tx, 1, Versioning.ENABLED))
    await put(catalog, 1, b"key", new_blob(epoch=3))
    old = await lookup.lookup_version(catalog, 1, b"key", "null")
    assert isinstance(old, ObjectRow)
    assert old.blob.id == _OLD
    await catalog.close()


async def test_what_lies_in_old_buckets_is_counted(tmp_path: Path) -> None:
    """Current and older versions and delete markers, an empty bucket too; and from then on with every change. Red when
    the migration leaves the older versions out, and when it forgets buckets without objects."""
    path = tmp_path / "catalog.sqlite"
    _first_schema(path)
    raw = sqlite.Sqlite(path, mmap_bytes=0, cache_bytes=1 << 20).connect(query_only=False)
    for sequence, size, version_id, marker in ((2, 100, "v2", 0), (3, 20, "v3", 0), (4, 0, "v4", 1)):
        row = (1, b"key", sequence, size, 1, "etag", None, None, _OLD, version_id, "text/plain", None, marker)
        raw.execute(f"INSERT INTO versions VALUES ({', '.join('?' * len(row))})", row)
    raw.execute("INSERT INTO buckets VALUES (2, 'empty', 'owner', 'region', 1, 0, NULL, NULL, NULL)")
    raw.close()
    catalog = Catalog.open(path, small_settings(), clock=Clock(), on_fatal=fail_on_fatal)
    await catalog.start()
    reports = await catalog.read(usage.listed)
    assert [(one.name, one.usage) for one in reports] == [
        ("bucket", Usage(objects=1, versions=4, bytes=4096 + 120)),
        ("empty", Usage()),
    ]
    raw = sqlite.Sqlite(path, mmap_bytes=0, cache_bytes=1 << 20).connect()
    assert raw.execute("SELECT bucket_id FROM bucket_usage").fetchall() == [(1,), (2,)]
    raw.close()
    await put(catalog, 1, b"key", new_blob(epoch=3, size=96))
    await put(catalog, 2, b"key", new_blob(epoch=3, size=5))
    for bucket_id in (1, 2):
        assert (await catalog.read(partial(usage.recount, bucket_id=bucket_id))).agrees
    assert (await catalog.read(usage.totals)) == (2, Usage(2, 5, 96 + 120 + 5))
    await catalog.close()


async def test_a_backup_of_the_first_schema_is_restored(tmp_path: Path) -> None:
    """Taken before the release was changed, without migrating the catalog it is taken of. Red when `restore` relies
    on the opening that follows to bring the schema up to date."""
    _first_schema(tmp_path / "old.sqlite")
    backup.backup(tmp_path / "old.sqlite", tmp_path / "backup")
    with sqlite.finished_file(tmp_path / "backup") as connection:
        assert sqlite.revision_of(connection) == "0001"
    path = tmp_path / "catalog.sqlite"
    backup.restore(tmp_path / "backup", path, clock=Clock(0))
    catalog = Catalog.open(path, small_settings(), on_fatal=fail_on_fatal)
    await catalog.start()
    meta = await catalog.meta()
    assert (meta.term, meta.upload_epoch, meta.orphans_allowed) == (5 + (1 << 32), 3 + 1024, False)
    assert await lookup.lookup(catalog, 1, b"key") is not None
    await catalog.close()


async def test_openings_at_once_migrate_once(tmp_path: Path) -> None:
    """All processes of a store start together on the old file; those that come late find it done. Red when
    the migration is not made under the lock."""
    path = tmp_path / "catalog.sqlite"
    _first_schema(path)
    opened = await asyncio.gather(
        *(asyncio.to_thread(Catalog.open, path, small_settings()) for _ in range(4))
    )
    for one in opened:
        await one.close()
    connection = sqlite.Sqlite(path, mmap_bytes=0, cache_bytes=1 << 20).connect()
    assert sqlite.revision_of(connection) == schema.HEAD_REVISION
    connection.close()


def test_s25_what_the_first_release_writes_still_fits(tmp_path: Path) -> None:
    """It names its columns when it inserts, and knows none of the new ones. Red when an added column must be
    given."""
    path = tmp_path / "catalog.sqlite"
    engine.create(path, cluster_id=CLUSTER_ID, nodes_hold_data=False)
    connection = sqlite.Sqlite(path, mmap_bytes=0, cache_bytes=1 << 20).connect(query_only=False)
    connection.execute("DELETE FROM meta")
    for table, row in _ROWS:
        columns = [column.name for column in schema.metadata.tables[table].columns][: len(row)]
        places = ", ".join("?" * len(row))
        connection.execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})", row)
    assert connection.execute("SELECT orphans_allowed FROM meta").fetchone() == (1,)
    connection.close()


async def test_s25_nobody_migrates_a_catalog_that_an_older_release_may_be_at_work_on(tmp_path: Path) -> None:
    """Its processes would write on without the books of the buckets. Red when a command of the new release, on a store
    that the old one runs, migrated the catalog underneath it."""
    path = tmp_path / "catalog.sqlite"
    _first_schema(path)
    with pytest.raises(CatalogRefused, match=r"another release.*start it again"):
        Catalog.open(path, small_settings(), clock=Clock(), on_fatal=fail_on_fatal, may_migrate=False)
    raw = sqlite.Sqlite(path, mmap_bytes=0, cache_bytes=1 << 20).connect()
    assert sqlite.revision_of(raw) == "0001"
    raw.close()
    for may_migrate in (True, False):  # the second finds it as it should be
        catalog = Catalog.open(
            path, small_settings(), clock=Clock(), on_fatal=fail_on_fatal, may_migrate=may_migrate
        )
        await catalog.start()
        await catalog.close()
