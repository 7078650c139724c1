"""What each request touches, asked of the database itself, and what it must refuse (S15, S13, P9)."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pysqlite3.dbapi2 as driver
import pytest

from catalog import listing, lookup, uploads
from catalog.engine import Catalog
from catalog.model import Attributes, RequestedPart
from catalog.statement import Cursor, Parameters, Reader
from catalog.transaction import Transaction
from tests.catalog.making import SQLITE_ONLY, SqliteStore, new_blob, put

KEY = (1, b"key")


class _Recorder:
    """A cursor that notes each statement before it runs it."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self.rowcount = 0
        self.texts: list[str] = []
        self.plans: list[str] = []

    def execute(self, text: str, parameters: Parameters = ()) -> Any:
        self._cursor.execute(f"EXPLAIN QUERY PLAN {text}", parameters)
        self.plans += [row[3] for row in self._cursor.fetchall()]
        self.texts.append(" ".join(text.split()))
        done = self._cursor.execute(text, parameters)
        self.rowcount = self._cursor.rowcount
        return done

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._cursor.fetchall()


@contextmanager
def recorded(reader: Reader) -> Iterator[_Recorder]:
    """All statements that go through the reader or transaction meanwhile."""
    recorder = _Recorder(reader._cursor)
    before, reader._cursor = reader._cursor, recorder
    try:
        yield recorder
    finally:
        reader._cursor = before


@SQLITE_ONLY
async def test_s15_list_touches_the_current_versions_and_nothing_else(
    catalog: Catalog, bucket_id: int
) -> None:
    """Every statement of a page, with and without a delimiter, is a stretch of one table in its own order. Red
    when a join to `blobs` was added, and when the order was another than that of the table's key."""
    for name in (b"a", b"d/1", b"d/2", b"e/1", b"z"):
        await put(catalog, bucket_id, name)

    def page(reader: Reader, delimiter: bytes, prefix: bytes) -> tuple[_Recorder, int]:
        with recorded(reader) as recorder:
            found = listing.list_objects(
                reader, bucket_id=bucket_id, delimiter=delimiter, prefix=prefix, after=b"", limit=10
            )
        return recorder, len(found.entries) + len(found.prefixes)

    for delimiter, prefix, shown in ((b"", b"", 5), (b"/", b"", 4), (b"/", b"d/", 2)):
        recorder, elements = await catalog.read(lambda reader, d=delimiter, p=prefix: page(reader, d, p))  # type: ignore[misc]
        assert elements == shown
        assert recorder.plans
        for step in recorder.plans:
            assert step.startswith("SEARCH objects USING PRIMARY KEY (bucket_id=? AND "), step


@SQLITE_ONLY
async def test_s15_get_is_two_rows_by_their_keys(catalog: Catalog, bucket_id: int) -> None:
    """The current version and its blob, however many older ones there are; meta is one row. Red when `versions`
    was asked too."""
    await put(catalog, bucket_id, b"key")

    def plan(reader: Reader) -> list[str]:
        with recorded(reader) as recorder:
            assert reader.row(lookup._LOOKUP, (bucket_id, b"key")) is not None
        return recorder.plans

    assert sorted(await catalog.read(plan)) == [
        "SCALAR SUBQUERY 1",
        "SCAN meta",
        "SEARCH blobs USING PRIMARY KEY (id=?)",
        "SEARCH objects USING PRIMARY KEY (bucket_id=? AND key=?)",
    ]


@SQLITE_ONLY
async def test_s15_completing_an_upload_rewrites_no_part_row(catalog: Catalog, bucket_id: int) -> None:
    """Neither part rows nor the parts' blobs are written, whatever their number: the manifest takes over their
    references. The first slice of the rows is dropped, the rest waits for the sweep. Red when the parts'
    references were counted anew, one update each."""

    async def statements(parts: int) -> list[str]:
        upload = await catalog.write(
            lambda tx: uploads.create(
                tx,
                bucket_id=bucket_id,
                key=b"of %d" % parts,
                owner="owner",
                content_type="text/plain",
                attributes=Attributes(),
            )
        )

        async def part(number: int) -> RequestedPart:
            blob = new_blob()
            etag = blob.id.hex()
            await catalog.write(
                lambda tx: uploads.put_part(tx, upload=upload, number=number, blob=blob, etag=etag), blob=blob
            )
            return RequestedPart(number, etag)

        requested = await asyncio.gather(*(part(number) for number in range(1, parts + 1)))
        plan = await catalog.read(
            lambda reader: uploads.plan_completion(reader, upload, requested, part_bytes_min=1)
        )

        def complete(tx: Transaction) -> list[str]:
            with recorded(tx) as recorder:
                uploads.complete(tx, plan, etag="etag", attributes=Attributes())
            return recorder.texts

        return await catalog.write(complete)

    few, many = await statements(3), await statements(300)
    written = [text.split("(")[0].split("WHERE")[0].strip() for text in many if not text.startswith("SELECT")]
    assert sorted(written) == [
        "DELETE FROM parts",
        "DELETE FROM uploads",
        "INSERT INTO blobs",
        "INSERT INTO completions",
        "INSERT INTO manifests",
        "INSERT INTO objects",
        "INSERT INTO sweeps",
    ]
    assert len(many) <= len(few) + 1, "the sweep of a short upload is done at once, which drops its row"


# -- what the tables refuse, whoever writes -------------------------------------------------------------------


def _version(sequence: int, version_id: str | None, key: tuple[int, bytes] = KEY) -> tuple[Any, ...]:
    return (*key, sequence, 1, 0, "etag", None, None, b"blob", version_id, "text/plain", None, 0, None)


def _insert(store: SqliteStore, table: str, *rows: tuple[Any, ...]) -> None:
    connection = driver.connect(str(store.path))
    try:
        with connection:
            for row in rows:
                connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
    finally:
        connection.close()


def _refused(store: SqliteStore, table: str, *rows: tuple[Any, ...]) -> None:
    with pytest.raises(driver.IntegrityError, match="UNIQUE"):
        _insert(store, table, *rows)


@SQLITE_ONLY
def test_s15_versions_are_unique(store: SqliteStore) -> None:
    """By version id, by sequence (S13), and one null version a key; one current version a key. Red without the
    indexes `versions_by_id` and `versions_null`."""
    _insert(store, "versions", _version(1, "a"), _version(2, None), _version(3, "c"))
    _refused(store, "versions", _version(4, "a"))
    _refused(store, "versions", _version(4, None))
    _refused(store, "versions", _version(3, "d"))
    other = (1, b"other")
    _insert(store, "versions", _version(1, "a", other), _version(2, None, other))
    _insert(store, "objects", _version(5, None)[:-2])
    _refused(store, "objects", _version(6, "f")[:-2])


@SQLITE_ONLY
def test_s15_a_blob_a_part_and_a_run_are_there_once(store: SqliteStore) -> None:
    """A blob id is never given out twice (P5): if it were, the catalog refuses it."""
    blob = (b"b" * 16, 1, 1, 0, 1, 1, 2, 1, 1, 1 << 20, 0, 0, 0, 0, None)
    for table, row in (
        ("blobs", blob),
        ("blob_runs", (b"b" * 16, 3, 1)),
        ("parts", (1, 1, 5, 0, "etag", None, b"b" * 16)),
        ("placements", (1, b"\x00\x00\x00\x01")),
    ):
        _insert(store, table, row)
        _refused(store, table, row)
    _refused(store, "placements", (2, b"\x00\x00\x00\x01"))
