"""S16, the library and its connections."""

import asyncio

import pysqlite3.dbapi2 as driver
import pytest
import sqlalchemy as sa

from catalog import buckets, listing, lookup, schema, sqlite
from catalog.embedded import EmbeddedCatalog
from catalog.engine import Catalog
from catalog.errors import CatalogRefused
from catalog.statement import Reader, Statement
from tests.catalog.making import SQLITE_ONLY, SqliteStore, Store, put, start_child, wait_for_line


@pytest.mark.parametrize("version", [(3, 40, 1), (3, 51, 2), (3, 52, 0), (3, 52, 9)])
def test_s16_a_library_with_the_wal_reset_bug_is_refused(version: tuple[int, ...]) -> None:
    """Break caught: comparing with `>= (3, 51, 3)` alone lets 3.52 through."""
    with pytest.raises(CatalogRefused, match="WAL-reset"):
        sqlite.check_version(version)


@pytest.mark.parametrize("version", [(3, 51, 3), (3, 51, 4), (3, 53, 0), (3, 53, 4), (4, 0, 0)])
def test_s16_a_library_without_it_is_taken(version: tuple[int, ...]) -> None:
    """Fixed ones, and ours is one of them."""
    sqlite.check_version(version)
    sqlite.check_version(sqlite.runtime_version())


@SQLITE_ONLY
async def test_s16_a_read_on_the_loop_leaves_no_snapshot_open(
    store: SqliteStore, catalog: Catalog, bucket_id: int
) -> None:
    """A checkpoint that must reset the log fails while any connection's snapshot lies in it. Break caught:
    `Reader.row` and `rows` that fetch one row and leave the rest of the statement unfinished."""
    for number in range(3):
        await put(catalog, bucket_id, b"key-%d" % number)
    await lookup.lookup(catalog, bucket_id, b"key-1")
    await buckets.get(catalog, "bucket")
    await catalog.read(lambda reader: listing.list_objects(reader, bucket_id=bucket_id, limit=1))
    other = driver.connect(str(store.path), isolation_level=None)
    busy, log_frames, done_frames = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    other.close()
    assert (busy, log_frames, done_frames) == (0, 0, 0)


@SQLITE_ONLY
async def test_s16_a_row_out_of_many_ends_its_statement(
    store: SqliteStore, catalog: EmbeddedCatalog, bucket_id: int
) -> None:
    """`row` takes the first and lets go of the others. Break caught: `fetchone` instead of `fetchall`."""
    await asyncio.gather(*(put(catalog, bucket_id, b"key-%d" % number) for number in range(3)))
    connection = catalog._database.connect()
    reader = Reader(connection.cursor(), catalog._database.dialect)
    every_key = Statement(sa.select(schema.objects.c.key))
    assert reader.row(every_key) == (b"key-0",)
    await put(catalog, bucket_id, b"key-3")
    other = driver.connect(str(store.path), isolation_level=None)
    assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
    other.close()
    connection.close()


async def test_s16_reads_see_each_commit_at_once(store: Store, catalog: Catalog, bucket_id: int) -> None:
    """A reader whose snapshot froze would go on without the second key (P4)."""
    for number in range(20):
        key = b"key-%d" % number
        assert await lookup.lookup(catalog, bucket_id, key) is None
        await put(catalog, bucket_id, key)
        assert await lookup.lookup(catalog, bucket_id, key) is not None


@SQLITE_ONLY
async def test_s16_a_busy_read_is_repeated_in_a_thread(
    store: SqliteStore, catalog: Catalog, bucket_id: int
) -> None:
    """The loop's connection has no busy timeout: it must not be the one that waits. Break caught: `point`
    without its way out answers CatalogFailed."""
    await put(catalog, bucket_id, b"key")
    with start_child("recover", str(store.path)) as child:
        wait_for_line(child, "held")
        looking = asyncio.create_task(lookup.lookup(catalog, bucket_id, b"key"))
        # The loop is free while the thread waits.
        assert (await asyncio.wait([looking], timeout=0.05))[1] == {looking}
        child.communicate()
        assert await looking is not None
