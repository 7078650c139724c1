"""The books of each bucket, and its quota (usage, usage_changes, version_rows)."""

import asyncio
import importlib
import pkgutil
import signal

import pysqlite3.dbapi2 as driver
import pytest
import sqlalchemy as sa

import catalog as catalog_package
from catalog import buckets, objects, schema, uploads, usage
from catalog.embedded import EmbeddedCatalog
from catalog.engine import Catalog
from catalog.errors import (
    BucketNotEmpty,
    CatalogFull,
    Changed,
    NoSuchBucket,
    PreconditionFailed,
    QuotaExceeded,
)
from catalog.model import Attributes, Condition, RequestedPart
from catalog.statement import Statement
from catalog.transaction import Transaction
from catalog.usage import Recount
from catalog.usage_changes import NOTHING, Usage
from tests.catalog.making import (
    SQLITE_ONLY,
    Clock,
    SqliteStore,
    Store,
    copy,
    new_blob,
    put,
    source_of,
    start_child,
)

_FILL = Statement(sa.insert(schema.manifests), "blob_id", "parts")


async def _usage(catalog: Catalog, name: str = "bucket") -> Usage:
    return (await catalog.read(lambda reader: usage.of_bucket(reader, name))).usage


async def _recount(catalog: Catalog, bucket_id: int) -> Recount:
    return await catalog.read(lambda reader: usage.recount(reader, bucket_id))


async def _put(catalog: Catalog, bucket_id: int, key: bytes, size: int) -> None:
    await put(catalog, bucket_id, key, new_blob(size=size))


async def _set_quota(catalog: Catalog, bucket_id: int, quota_bytes: int | None) -> None:
    await catalog.write(lambda tx: buckets.set_quota(tx, bucket_id, quota_bytes))


async def _delete(catalog: Catalog, bucket_id: int, key: bytes) -> None:
    await catalog.write(lambda tx: objects.delete(tx, bucket_id=bucket_id, key=key), frees=True)


# -- counting -------------------------------------------------------------------------------------------------


async def test_puts_overwrites_copies_and_deletes_are_counted(catalog: Catalog, bucket_id: int) -> None:
    """Bytes as their owner counts them: a copy by reference in full. Red when an overwrite counted as a new
    object, and when it did not take off what it replaced."""
    assert await _usage(catalog) == NOTHING
    await _put(catalog, bucket_id, b"a", 100)
    await _put(catalog, bucket_id, b"b", 10)
    assert await _usage(catalog) == Usage(2, 2, 110)
    await _put(catalog, bucket_id, b"a", 30)
    await copy(catalog, await source_of(catalog, bucket_id, b"a"), bucket_id, b"c")
    assert await _usage(catalog) == Usage(3, 3, 70)
    await _delete(catalog, bucket_id, b"b")
    await _delete(catalog, bucket_id, b"b")
    assert await _usage(catalog) == Usage(2, 2, 60)


async def test_parts_count_once_their_upload_is_completed(catalog: Catalog, bucket_id: int) -> None:
    """Completing it twice counts once. Red when `complete` did not go through the rows that count."""
    upload = await catalog.write(
        lambda tx: uploads.create(
            tx, bucket_id=bucket_id, key=b"big", owner="o", content_type="", attributes=Attributes()
        )
    )
    for number in (1, 2):
        blob = new_blob(size=1000)
        await catalog.write(
            lambda tx, n=number, b=blob: uploads.put_part(tx, upload=upload, number=n, blob=b, etag="e"),  # type: ignore[misc]
            blob=blob,
        )
    assert await _usage(catalog) == NOTHING
    assert await catalog.read(lambda reader: usage.open_uploads(reader, bucket_id)) == 1
    requested = [RequestedPart(number, "e") for number in (1, 2)]
    plan = await catalog.read(
        lambda reader: uploads.plan_completion(reader, upload, requested, part_bytes_min=1)
    )
    for _ in range(2):
        await catalog.write(lambda tx: uploads.complete(tx, plan, etag="etag", attributes=Attributes()))
        assert await _usage(catalog) == Usage(1, 1, 2000)
    assert await catalog.read(lambda reader: usage.open_uploads(reader, bucket_id)) == 0


async def test_a_refused_request_counts_nothing_and_its_neighbours_do(
    catalog: Catalog, bucket_id: int
) -> None:
    """In one batch, before and after it; also where it had put and deleted before it failed. Red when `rolled_back`
    kept the changes, and when it dropped those of the requests before."""

    def change_then_fail(tx: Transaction) -> None:
        blob = new_blob(size=5000)
        objects.put(
            tx, bucket_id=bucket_id, key=b"half", blob=blob, etag="", content_type="", attributes=Attributes()
        )
        objects.delete(tx, bucket_id=bucket_id, key=b"before")
        raise RuntimeError("half way")

    outcomes = await asyncio.gather(
        _put(catalog, bucket_id, b"before", 7),
        catalog.write(change_then_fail),
        put(catalog, bucket_id, b"before", condition=Condition(if_none_match="*")),
        _put(catalog, bucket_id, b"after", 11),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [
        type(None),
        RuntimeError,
        PreconditionFailed,
        type(None),
    ]
    assert await _usage(catalog) == Usage(2, 2, 18)
    assert (await _recount(catalog, bucket_id)).agrees


@SQLITE_ONLY
async def test_a_batch_that_is_lost_counts_nothing_and_its_repetition_once(
    catalog: EmbeddedCatalog, bucket_id: int
) -> None:
    """The disk is full: a delete shares its batch with the put that fills it, is undone with it, and repeated. Red
    when changes were kept in the writer from one transaction to the next."""
    await _put(catalog, bucket_id, b"old", 100)
    await _put(catalog, bucket_id, b"kept", 1)
    connection = catalog._writer_connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 20}").fetchall()

    def fill(tx: Transaction) -> None:
        tx.execute(_FILL, (b"blob", b"x" * 200_000))

    outcomes = await asyncio.gather(
        _delete(catalog, bucket_id, b"old"),
        _put(catalog, bucket_id, b"lost", 1000),
        catalog.write(fill),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), CatalogFull, CatalogFull]
    assert await _usage(catalog) == Usage(1, 1, 1)
    assert (await _recount(catalog, bucket_id)).agrees


@SQLITE_ONLY
async def test_books_are_opened_and_closed_with_their_bucket(
    store: SqliteStore, catalog: Catalog, bucket_id: int
) -> None:
    """Also when the last delete shares the batch with the deletion, and a refused deletion closes nothing. Red when
    the batch's own changes were written for a bucket that it has deleted: a row came back."""

    def rows() -> dict[int, tuple[int, int, int]]:
        raw = driver.connect(str(store.path), isolation_level=None)
        found = raw.execute("SELECT bucket_id, objects, versions, bytes FROM bucket_usage").fetchall()
        raw.close()
        return {row[0]: row[1:] for row in found}

    await _put(catalog, bucket_id, b"a", 10)
    outcomes = await asyncio.gather(
        catalog.write(lambda tx: buckets.delete(tx, bucket_id)),
        _put(catalog, bucket_id, b"b", 20),
        _delete(catalog, bucket_id, b"a"),
        _delete(catalog, bucket_id, b"b"),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes[:2]] == [BucketNotEmpty, type(None)]
    assert rows() == {bucket_id: (0, 0, 0)}
    await _put(catalog, bucket_id, b"a", 10)
    await asyncio.gather(
        _delete(catalog, bucket_id, b"a"), catalog.write(lambda tx: buckets.delete(tx, bucket_id), frees=True)
    )
    assert rows() == {}
    with pytest.raises(NoSuchBucket):
        await _usage(catalog)


@SQLITE_ONLY
async def test_a_batch_writes_one_row_a_bucket(catalog: EmbeddedCatalog, bucket_id: int) -> None:
    """Whatever the number of its requests. Red when each request wrote for itself."""
    other = await catalog.write(lambda tx: buckets.create(tx, name="other", owner="o", region="r"))
    texts: list[str] = []
    catalog._writer_connection.set_trace_callback(texts.append)
    await asyncio.gather(
        *(_put(catalog, bucket_id, b"%d" % number, 1) for number in range(20)),
        *(_put(catalog, other.id, b"%d" % number, 1) for number in range(10)),
    )
    catalog._writer_connection.set_trace_callback(None)
    commits = sum(text == "COMMIT" for text in texts)
    assert commits == 1
    assert sum("UPDATE bucket_usage" in text for text in texts) == 2
    assert (await _usage(catalog)).objects == 20


def test_only_the_rows_that_count_are_ever_written() -> None:
    """Every statement of the package that inserts, changes or removes a version stands in version_rows, whose
    functions count. Red when `objects` deleted with a statement of its own."""
    writers: set[str] = set()
    for module in pkgutil.iter_modules(catalog_package.__path__):
        for value in vars(importlib.import_module(f"catalog.{module.name}")).values():
            expression = value._expression if isinstance(value, Statement) else None
            if isinstance(expression, sa.Insert | sa.Update | sa.Delete) and expression.table in (
                schema.objects,
                schema.versions,
            ):
                writers.add(module.name)
    assert writers == {"version_rows"}


@SQLITE_ONLY
async def test_p1_the_books_are_right_after_sigkill(
    store: SqliteStore, catalog: Catalog, bucket_id: int, clock: Clock
) -> None:
    """Of two processes that write at once, too. Red when the books were written with every tenth batch only."""
    for turn in range(2):
        children = [
            start_child("put", str(store.path), str(bucket_id), f"{turn}{name}", "16", "100000")
            for name in "ab"
        ]
        for child in children:
            assert child.stdout is not None
            for _ in range(200 + 31 * turn):
                await asyncio.to_thread(child.stdout.readline)
        for child in children:
            child.send_signal(signal.SIGKILL)
            await asyncio.to_thread(child.communicate)
        found = await _recount(catalog, bucket_id)
        assert found.agrees
        assert found.stored.objects > 400


# -- recount and report ---------------------------------------------------------------------------------------


def _falsify(tx: Transaction) -> None:
    tx.usage.add(1, 5, 5, 500)


async def test_recount_finds_what_is_wrong_and_correct_puts_it_right(
    catalog: Catalog, bucket_id: int
) -> None:
    """Writes between the two don't matter; a second correction of the same find is refused, since it would add the
    difference twice. Red when `correct` set what was counted, and without the number of corrections."""
    await _put(catalog, bucket_id, b"a", 10)
    await catalog.write(_falsify)
    found = await _recount(catalog, bucket_id)
    assert (found.stored, found.counted) == (Usage(6, 6, 510), Usage(1, 1, 10))
    assert not found.agrees
    await _put(catalog, bucket_id, b"b", 20)
    await catalog.write(lambda tx: usage.correct(tx, found))
    with pytest.raises(Changed):
        await catalog.write(lambda tx: usage.correct(tx, found))
    assert await _usage(catalog) == Usage(2, 2, 30)
    assert (await _recount(catalog, bucket_id)).agrees


@SQLITE_ONLY
async def test_a_bucket_without_books_gets_them(store: SqliteStore, catalog: Catalog, bucket_id: int) -> None:
    """A program of the release before may still run when the schema is brought up to date: what it creates has no
    books. Red when only existing rows were changed."""
    raw = driver.connect(str(store.path), isolation_level=None)
    raw.execute("DELETE FROM bucket_usage")
    raw.close()
    assert await _usage(catalog) == NOTHING
    await _put(catalog, bucket_id, b"a", 10)
    assert await _usage(catalog) == Usage(1, 1, 10)
    assert (await _recount(catalog, bucket_id)).agrees


async def test_lists_and_totals(catalog: Catalog, bucket_id: int) -> None:
    """By name, in pages; the sum of all."""
    for name in ("a", "c"):
        made = await catalog.write(lambda tx, n=name: buckets.create(tx, name=n, owner="o", region="r"))  # type: ignore[misc]
        await _put(catalog, made.id, b"k", 5)
    await _put(catalog, bucket_id, b"k", 100)
    await _set_quota(catalog, bucket_id, 7)
    page = await catalog.read(lambda reader: usage.listed(reader, after="a", limit=1))
    assert [(one.name, one.usage, one.quota_bytes) for one in page] == [("bucket", Usage(1, 1, 100), 7)]
    assert [one.name for one in await catalog.read(usage.listed)] == ["a", "bucket", "c"]
    assert await catalog.read(usage.totals) == (3, Usage(3, 3, 110))


# -- quota ----------------------------------------------------------------------------------------------------


async def test_a_quota_refuses_growth_and_nothing_else(catalog: Catalog, bucket_id: int) -> None:
    """Up to the very byte; an overwrite counts by its difference. Red when the whole size of an overwrite counted,
    and with >= in the place of >."""
    await _set_quota(catalog, bucket_id, 100)
    await _put(catalog, bucket_id, b"a", 60)
    with pytest.raises(QuotaExceeded):
        await _put(catalog, bucket_id, b"b", 41)
    await _put(catalog, bucket_id, b"b", 40)
    await _put(catalog, bucket_id, b"empty", 0)
    await _put(catalog, bucket_id, b"a", 60)
    with pytest.raises(QuotaExceeded):
        await _put(catalog, bucket_id, b"a", 61)
    with pytest.raises(QuotaExceeded):
        await copy(catalog, await source_of(catalog, bucket_id, b"b"), bucket_id, b"c")
    await _set_quota(catalog, bucket_id, 10)
    await _put(catalog, bucket_id, b"a", 59)
    with pytest.raises(QuotaExceeded):
        await _put(catalog, bucket_id, b"a", 60)
    await _set_quota(catalog, bucket_id, None)
    await _put(catalog, bucket_id, b"b", 1000)
    assert await _usage(catalog) == Usage(3, 3, 1059)
    assert (await _recount(catalog, bucket_id)).agrees


async def test_a_quota_is_not_overshot_within_a_batch_or_by_two_openings(
    store: Store, catalog: Catalog, bucket_id: int, clock: Clock
) -> None:
    """Of a hundred writers exactly as many pass as there is room for. Red when the batch's own changes were left out
    of the check, and when usage was read before the transaction."""
    other = store.open(clock)
    await other.start()
    await _set_quota(catalog, bucket_id, 1000)
    outcomes = await asyncio.gather(
        *(_put((catalog, other)[number % 2], bucket_id, b"%d" % number, 30) for number in range(100)),
        return_exceptions=True,
    )
    await other.close()
    assert sum(outcome is None for outcome in outcomes) == 33
    assert all(outcome is None or isinstance(outcome, QuotaExceeded) for outcome in outcomes)
    assert await _usage(catalog) == Usage(33, 33, 990)


async def test_a_quota_is_known_at_once_to_every_opening(
    store: Store, catalog: Catalog, bucket_id: int, clock: Clock
) -> None:
    """Through the cached bucket, which is what the check before the body sees (S16). Red when `set_quota` did not
    touch the configuration."""
    other = store.open(clock)
    await other.start()
    for quota_bytes in (100, None, 50):
        assert (await buckets.get(other, "bucket")) is not None
        await _set_quota(catalog, bucket_id, quota_bytes)
        known = await buckets.get(other, "bucket")
        assert known is not None
        assert known.quota_bytes == quota_bytes
    await other.close()


async def test_what_cannot_fit_is_refused_before_its_body(catalog: Catalog, bucket_id: int) -> None:
    """By the size that the request announces, less what it would replace. Red when the replaced object was not taken
    off: an overwrite that fits was refused."""
    await _put(catalog, bucket_id, b"a", 60)
    await _set_quota(catalog, bucket_id, 100)
    bucket = await buckets.get(catalog, "bucket")
    assert bucket is not None
    await usage.check_before_body(catalog, bucket, b"b", 40)
    await usage.check_before_body(catalog, bucket, b"a", 100)
    for key, size in ((b"b", 41), (b"a", 101)):
        with pytest.raises(QuotaExceeded):
            await usage.check_before_body(catalog, bucket, key, size)
    await _set_quota(catalog, bucket_id, 10)
    bucket = await buckets.get(catalog, "bucket")
    assert bucket is not None
    await usage.check_before_body(catalog, bucket, b"a", 60)
