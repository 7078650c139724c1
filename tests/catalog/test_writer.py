"""Group commit: S11, S12, S16's limits, S27, P8."""

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import cast

import pysqlite3.dbapi2 as driver
import pytest
import sqlalchemy as sa
import uvloop

from catalog import buckets, lookup, objects, schema, work
from catalog.embedded import EmbeddedCatalog
from catalog.engine import Catalog
from catalog.errors import CatalogBusy, CatalogFailed, CatalogFull, PreconditionFailed
from catalog.model import Attributes, Condition, DeleteResult, GarbageItem, PutResult
from catalog.statement import Statement
from catalog.transaction import Transaction
from tests.catalog.making import (
    SQLITE_ONLY,
    Clock,
    SqliteStore,
    Store,
    new_blob,
    put,
    small_settings,
    start_child,
    wait_for_line,
)

_FILL = Statement(sa.insert(schema.outbox), "batch", "record")
ABSENT = Condition(if_none_match="*")


async def _garbage(catalog: Catalog) -> list[GarbageItem]:
    return await catalog.read(
        lambda reader: work.due_garbage(reader, catalog.placements, now_ms=1 << 60, limit=10_000)
    )


async def _garbage_ids(catalog: Catalog) -> set[bytes]:
    return {item.blob_id for item in await _garbage(catalog)}


async def test_s11_a_cancelled_caller_changes_nothing(catalog: Catalog, bucket_id: int) -> None:
    """The client disconnects while the commit is under way, and its clean-up abandons the blob. Break caught:
    `work.abandon` that does not look whether a row names the blob queues a live object's shards."""
    blob = new_blob()
    writing = asyncio.create_task(put(catalog, bucket_id, b"key", blob))
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    catalog.abandon(blob)
    await catalog.write(lambda tx: None)
    row = await lookup.lookup(catalog, bucket_id, b"key")
    assert row is not None
    assert row.blob.id == blob.id
    assert await _garbage_ids(catalog) == set()


async def test_s11_a_known_rollback_queues_the_blob(catalog: Catalog, bucket_id: int) -> None:
    """Without the caller's doing, with the very answer. Break caught: `_fail` that drops the blob."""
    await put(catalog, bucket_id, b"key")
    refused = new_blob(nodes=(3, 1, 2), stripes=7)
    with pytest.raises(PreconditionFailed):
        await put(catalog, bucket_id, b"key", refused, condition=ABSENT)
    (item,) = await _garbage(catalog)
    assert (item.blob_id, item.nodes, item.stripes) == (refused.id, (3, 1, 2), 7)


async def test_s11_an_abandoned_blob_is_queued_once(catalog: Catalog) -> None:
    """`abandon` needs no answer and may be said twice."""
    blob = new_blob()
    catalog.abandon(blob)
    catalog.abandon(blob)
    await catalog.write(lambda tx: None)
    assert await _garbage_ids(catalog) == {blob.id}


@SQLITE_ONLY
async def test_s11_an_io_error_on_commit_ends_the_process(
    store: SqliteStore, catalog: Catalog, bucket_id: int
) -> None:
    """The outcome is unknown, so nobody is told one. Break caught: `_committed` that treats every error as a
    rollback answers and goes on."""
    child = start_child("full-disk-error", str(store.path), str(bucket_id))
    said, log = child.communicate()
    assert said.split() == ["before"]
    assert child.returncode == 70
    assert "cannot say whether it committed" in log
    assert await lookup.lookup(catalog, bucket_id, b"before") is not None
    await put(catalog, bucket_id, b"goes on")


async def test_s12_requests_of_a_batch_see_each_other(catalog: Catalog, bucket_id: int) -> None:
    """Of twenty writers who all want the key to be absent exactly one wins. Break caught: conditions that are
    evaluated before the batch's transaction."""
    outcomes = await asyncio.gather(
        *(put(catalog, bucket_id, b"key", condition=ABSENT) for _ in range(20)), return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == sorted(
        ["PutResult"] + ["PreconditionFailed"] * 19
    )


@SQLITE_ONLY
async def test_s12_refusals_wait_for_the_commit_they_rest_on(
    store: SqliteStore, catalog: Catalog, bucket_id: int
) -> None:
    """When the loser hears 412, the winner's row must already be there for everyone. Break caught: answering
    from `_evaluate`."""
    other = driver.connect(str(store.path), isolation_level=None)
    seen: list[int] = []

    async def lose() -> None:
        with pytest.raises(PreconditionFailed):
            await put(catalog, bucket_id, b"key", condition=ABSENT)
        seen.append(other.execute("SELECT count(*) FROM objects").fetchone()[0])

    await asyncio.gather(put(catalog, bucket_id, b"key"), lose(), lose())
    other.close()
    assert seen == [1, 1]


async def test_s12_a_failed_request_leaves_nothing_of_itself(catalog: Catalog, bucket_id: int) -> None:
    """Its neighbours in the batch are committed. Break caught: no savepoint around each request."""

    def put_then_fail(tx: Transaction) -> None:
        blob = new_blob(nodes=(7, 8, 9))  # a placement that only this request has met
        objects.put(
            tx, bucket_id=bucket_id, key=b"half", blob=blob, etag="", content_type="", attributes=Attributes()
        )
        raise RuntimeError("half way")

    outcomes = await asyncio.gather(
        put(catalog, bucket_id, b"before"),
        catalog.write(put_then_fail),
        put(catalog, bucket_id, b"after", new_blob(nodes=(7, 8, 9))),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [PutResult, RuntimeError, PutResult]
    assert await lookup.lookup(catalog, bucket_id, b"half") is None
    after = await lookup.lookup(catalog, bucket_id, b"after")
    assert after is not None
    assert after.blob.nodes == (7, 8, 9)


@SQLITE_ONLY
async def test_s12_a_lost_batch_takes_its_refusals_with_it(catalog: EmbeddedCatalog, bucket_id: int) -> None:
    """A: puts the key. B: is refused because of A. C: the disk is full, so A never was: B must not hear 412.
    Break caught: `_fail_batch` that keeps the answers of requests that had failed by themselves."""
    _limit_pages(catalog, spare=20)
    big = b"x" * 200_000

    def fill(tx: Transaction) -> None:
        tx.execute(_FILL, (1, big))

    outcomes = await asyncio.gather(
        put(catalog, bucket_id, b"key"),
        put(catalog, bucket_id, b"key", condition=ABSENT),
        catalog.write(fill),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [CatalogFull] * 3
    assert await lookup.lookup(catalog, bucket_id, b"key") is None


async def test_s12_a_write_to_a_bucket_deleted_meanwhile_is_refused(catalog: Catalog, bucket_id: int) -> None:
    """DeleteBucket and a PUT that was authorised before it, in one batch, either way round."""
    deleting, putting = await asyncio.gather(
        catalog.write(lambda tx: buckets.delete(tx, bucket_id)),
        put(catalog, bucket_id, b"key"),
        return_exceptions=True,
    )
    assert (deleting, type(putting).__name__) == (None, "NoSuchBucket")
    again = await catalog.write(lambda tx: buckets.create(tx, name="bucket", owner="o", region="r"))
    assert again.id != bucket_id
    putting, deleting = await asyncio.gather(
        put(catalog, again.id, b"key"),
        catalog.write(lambda tx: buckets.delete(tx, again.id)),
        return_exceptions=True,
    )
    assert (type(putting), type(deleting).__name__) == (PutResult, "BucketNotEmpty")


async def test_an_unexpected_database_error_fails_its_request_alone(catalog: Catalog, bucket_id: int) -> None:
    """A blob id used twice is such a bug."""
    blob = new_blob()
    outcomes = await asyncio.gather(
        put(catalog, bucket_id, b"a", blob), put(catalog, bucket_id, b"b", blob), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [PutResult, CatalogFailed]
    assert await _garbage_ids(catalog) == set()


async def test_p8_the_queue_of_writes_is_bounded(store: Store, clock: Clock) -> None:
    """Above the limit: refused at once, and the blob is cleared away."""
    catalog = store.open(clock, small_settings(waiting_writes_max=3, batch_writes_max=2))
    await catalog.start()
    blobs = [new_blob() for _ in range(5)]
    outcomes = await asyncio.gather(
        *(catalog.write(lambda tx: None, blob=blob) for blob in blobs), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [type(None)] * 3 + [CatalogBusy] * 2
    await catalog.write(lambda tx: None)
    assert await _garbage_ids(catalog) == {blob.id for blob in blobs[3:]}
    await catalog.close()


@SQLITE_ONLY
async def test_s16_a_frozen_holder_of_the_lock_means_busy_not_stuck(
    store: SqliteStore, clock: Clock, bucket_id: int
) -> None:
    """Writes are refused in time, reads go on, and once the supervisor has ended the holder writes go on and
    what was refused is cleared away. Break caught: no deadline on waiting requests."""
    catalog = store.open(clock, small_settings(lock_wait_s=0.2))
    await catalog.start()
    blobs = [new_blob(), new_blob()]
    with start_child("hold", str(store.path)) as child:
        wait_for_line(child, "held")
        for blob in blobs:  # the second comes when the thread already waits
            began = time.monotonic()
            with pytest.raises(CatalogBusy):
                await put(catalog, bucket_id, b"key", blob)
            assert 0.15 < time.monotonic() - began < 10
            assert await lookup.lookup(catalog, bucket_id, b"key") is None
        child.kill()
    await put(catalog, bucket_id, b"key")
    assert await _garbage_ids(catalog) == {blob.id for blob in blobs}
    await catalog.close()


@SQLITE_ONLY
async def test_closing_does_not_wait_for_a_frozen_holder(store: SqliteStore, clock: Clock) -> None:
    """The supervisor is waiting for us to end."""
    catalog = store.open(clock, small_settings(lock_wait_s=0.05))
    await catalog.start()
    with start_child("hold", str(store.path)) as child:
        wait_for_line(child, "held")
        await asyncio.wait_for(catalog.close(), timeout=10)
        child.kill()


@SQLITE_ONLY
async def test_s16_a_program_that_ignores_the_lock_is_waited_out(
    store: SqliteStore, catalog: Catalog, bucket_id: int
) -> None:
    """An operator's SQLite shell in a write transaction."""
    other = driver.connect(str(store.path), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writing = asyncio.create_task(put(catalog, bucket_id, b"key"))
    assert (await asyncio.wait([writing], timeout=0.05))[1] == {writing}
    other.execute("ROLLBACK")
    other.close()
    assert isinstance(await writing, PutResult)


@SQLITE_ONLY
async def test_s16_the_log_is_checkpointed_under_the_lock(store: SqliteStore, clock: Clock) -> None:
    """The write-ahead log does not grow without end. Break caught: `_checkpoint_due` never set."""
    catalog = store.open(clock, small_settings(wal_bytes_max=400_000))
    await catalog.start()
    bucket = await catalog.write(lambda tx: buckets.create(tx, name="bucket", owner="o", region="r"))
    wal = Path(f"{store.path}-wal")
    for number in range(300):
        await put(catalog, bucket.id, b"key-%d" % number)
    await catalog.write(lambda tx: None)
    assert wal.stat().st_size < 1_000_000
    assert store.path.stat().st_size > 100_000
    await catalog.close()
    assert not wal.exists()


@SQLITE_ONLY
async def test_s16_sqlite_never_checkpoints_by_itself(
    store: SqliteStore, catalog: Catalog, bucket_id: int
) -> None:
    """Which it would do in the middle of somebody's commit, before the next one is let in: the file stands
    still until we say so. Break caught: connections without `wal_autocheckpoint = 0`."""
    before = store.path.read_bytes()
    await asyncio.gather(
        *(put(catalog, bucket_id, sha256(b"%d" % number).digest()) for number in range(3000))
    )
    assert Path(f"{store.path}-wal").stat().st_size > 5 << 20  # its own limit is 4 MiB
    assert store.path.read_bytes() == before


def test_a_busy_loop_does_not_starve_the_writer(tmp_path: Path, clock: Clock) -> None:
    """A uvloop that is never idle, as a loaded front's is, while one client writes: tenths of a second. Break
    caught: without `settle` the thread does not get the interpreter back, and the same takes many times as
    long (side_thread.py)."""
    catalog = SqliteStore(tmp_path).open(clock)
    assert isinstance(catalog, EmbeddedCatalog)
    uvloop.run(_write_beside_busy_callbacks(catalog))


async def _write_beside_busy_callbacks(catalog: EmbeddedCatalog) -> None:
    await catalog.start()
    bucket = await catalog.write(lambda tx: buckets.create(tx, name="bucket", owner="o", region="r"))
    ends = [end for _ in range(4) for end in socket.socketpair()]
    transports = []
    for end in ends:
        end.setblocking(False)
        transport, _ = await asyncio.get_running_loop().create_connection(lambda: _Busy(catalog), sock=end)
        transports.append(transport)
    async with asyncio.timeout(10):
        for number in range(200):
            await put(catalog, bucket.id, b"key-%d" % number)
    for transport in transports:
        transport.abort()
    await catalog.close()


class _Busy(asyncio.Protocol):
    """Two of these keep each other busy: 50 µs of work and a look at the catalog for each byte."""

    def __init__(self, catalog: EmbeddedCatalog) -> None:
        self._catalog = catalog

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The first byte."""
        self._transport = cast(asyncio.WriteTransport, transport)
        self._transport.write(b"x")

    def data_received(self, data: bytes) -> None:
        """A request, as it were."""
        until = time.perf_counter() + 50e-6
        while time.perf_counter() < until:
            pass
        self._catalog._settle()
        self._transport.write(b"x")


def _limit_pages(catalog: EmbeddedCatalog, *, spare: int) -> None:
    """The catalog's file may grow by `spare` pages only: SQLite's own SQLITE_FULL."""
    connection = catalog._writer_connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + spare}").fetchall()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system takes root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], check=False)
    if mounted.returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


async def test_s27_a_full_disk_refuses_writes_but_not_deletes(small_disk: Path, clock: Clock) -> None:
    """The disk fills up: puts are refused, deletes and the collection of garbage pass, until there is room
    again. Break caught: without the ballast the deletes fail as well."""
    settings = small_settings(ballast_bytes=512 << 10, wal_bytes_max=256 << 10)
    store = SqliteStore(small_disk)
    catalog = store.open(clock, settings)
    assert isinstance(catalog, EmbeddedCatalog)
    await catalog.start()
    bucket = await catalog.write(lambda tx: buckets.create(tx, name="bucket", owner="o", region="r"))
    keys = await _fill_until_refused(catalog, bucket.id)
    ballast = small_disk / "catalog.ballast"
    assert not ballast.exists()
    with pytest.raises(CatalogFull):
        await put(catalog, bucket.id, b"one more")
    for key in keys:
        await _delete(catalog, bucket.id, key)
    assert await lookup.lookup(catalog, bucket.id, keys[-1]) is None
    clock.now_ms += 3_600_000
    for blob_id in await _garbage_ids(catalog):
        await catalog.write(lambda tx, b=blob_id: work.condemn(tx, b), frees=True)  # type: ignore[misc]
        await catalog.write(lambda tx, b=blob_id: work.collected(tx, b), frees=True)  # type: ignore[misc]
    assert await _garbage_ids(catalog) == set()
    await catalog.close()
    (small_disk / "other data").unlink()
    catalog = store.open(clock, settings)
    await catalog.start()
    assert ballast.stat().st_size == 512 << 10
    await put(catalog, bucket.id, b"room again")
    await catalog.close()


async def _fill_until_refused(catalog: EmbeddedCatalog, bucket_id: int) -> list[bytes]:
    keys = [b"early-%02d" % number for number in range(50)]
    for key in keys:
        await put(catalog, bucket_id, key)
    # Something else takes the disk's last room, as it will.
    with (catalog._database.path.parent / "other data").open("wb", buffering=0) as other:
        try:
            while True:
                other.write(b"x" * 65536)
        except OSError:
            pass
    for number in range(5000):
        key = b"key-%04d" % number
        try:
            await put(catalog, bucket_id, key)
        except CatalogFull:
            return keys
        keys.append(key)
    raise AssertionError("the disk never filled up")


async def _delete(catalog: Catalog, bucket_id: int, key: bytes) -> DeleteResult:
    return await catalog.write(lambda tx: objects.delete(tx, bucket_id=bucket_id, key=key), frees=True)


@SQLITE_ONLY
async def test_s27_a_delete_that_meets_the_full_disk_is_repeated(
    catalog: EmbeddedCatalog, bucket_id: int
) -> None:
    """It shares its batch with the put that fills the disk, is undone with it, and still passes; the put's
    blob is queued. Break caught: `_fail_batch` that fails every request."""
    await put(catalog, bucket_id, b"old")
    _limit_pages(catalog, spare=20)
    blob = new_blob()

    def fill(tx: Transaction) -> None:
        tx.execute(_FILL, (1, b"x" * 200_000))

    deleting, filling = await asyncio.gather(
        _delete(catalog, bucket_id, b"old"), catalog.write(fill, blob=blob), return_exceptions=True
    )
    assert (type(filling), deleting) == (CatalogFull, DeleteResult(existed=True))
    assert await lookup.lookup(catalog, bucket_id, b"old") is None
    while blob.id not in await _garbage_ids(catalog):
        await asyncio.sleep(0.05)
