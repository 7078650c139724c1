"""An embedded catalog moved to PostgreSQL: whole, the same, and only once, however often it is cut short."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from catalog import buckets, listing, moving, nodes, work
from catalog.engine import Catalog, CatalogSettings
from catalog.errors import CatalogFailed, CatalogRefused
from catalog.new_file import moved_path, moving_path
from catalog.postgres import Postgres
from catalog.transaction import Transaction
from tests.catalog.making import Clock, SqliteStore, put
from tests.postgres import PostgresServer, empty_database

KEYS = 40


class Cut(Exception):
    """Stands for a kill: nothing of the open transaction stays."""


def unseen(_name: str, _done: int, _total: int) -> None:
    """Nobody watches."""


def cut_at(call: int) -> Callable[[str, int, int], None]:
    left = [call]

    def progress(_name: str, _done: int, _total: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Cut

    return progress


async def filled(store: SqliteStore) -> None:
    catalog = store.open(Clock())
    await catalog.start()
    bucket = await catalog.write(lambda tx: buckets.create(tx, name="photos", owner="o", region="r"))
    gone = await catalog.write(lambda tx: buckets.create(tx, name="gone", owner="o", region="r"))
    await catalog.write(lambda tx: buckets.delete(tx, gone.id))
    for number in range(KEYS):
        await put(catalog, bucket.id, b"\xff\x00%d" % number)
    await catalog.close()


async def looked_at(where: Path | str) -> list[object]:
    catalog = Catalog.open(where, CatalogSettings(ballast_bytes=1 << 16))
    await catalog.start()
    try:
        bucket = await buckets.get(catalog, "photos")
        assert bucket is not None
        page = await catalog.read(
            lambda reader: listing.list_objects(
                reader, bucket_id=bucket.id, prefix=b"", delimiter=b"", after=b"", limit=1000
            )
        )
        return [bucket, page, await nodes.current(catalog)]
    finally:
        await catalog.close()


async def test_what_was_there_is_there(
    tmp_path: Path, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small slices, cut at every instant at which the move tells its progress. Red when a slice and its position are
    not of one transaction (a second run then meets its own rows)."""
    monkeypatch.setattr(moving, "_ROWS", 7)
    store = SqliteStore(tmp_path)
    await filled(store)
    before = await looked_at(store.path)
    url = empty_database(postgres_server)
    calls = 0
    while True:
        with contextlib.suppress(Cut):
            report = moving.move(store.path, url, progress=cut_at(calls))
            break
        calls += 3
    assert calls > 30
    assert {table.name: table.rows for table in report}["objects"] == KEYS
    assert await looked_at(url) == before
    assert not store.path.exists()
    assert moved_path(store.path).exists()
    with pytest.raises(CatalogRefused, match="no catalog at"):
        moving.move(store.path, url, progress=unseen)


async def test_it_is_another_term_and_no_number_comes_twice(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    """S18. Red without the raised term; red without RESTART (the deleted bucket's number came again)."""
    store = SqliteStore(tmp_path)
    await filled(store)
    source = store.open(Clock())
    old = source.known_configuration.meta
    await source.close()
    url = empty_database(postgres_server)
    moving.move(store.path, url, progress=unseen)
    catalog = Catalog.open(url)
    await catalog.start()
    try:
        meta = await catalog.meta()
        assert (meta.catalog_id, meta.cluster_id) == (old.catalog_id, old.cluster_id)
        assert meta.term > old.term

        def create(tx: Transaction) -> int:
            return buckets.create(tx, name="next", owner="o", region="r").id

        assert await catalog.write(create) == 3
        kinds = [
            event.kind for event in await catalog.read(lambda reader: work.list_events(reader, limit=10))
        ]
        assert "catalog-moved" in kinds
    finally:
        await catalog.close()


async def test_a_difference_is_found(tmp_path: Path, postgres_server: PostgresServer) -> None:
    """Red without the comparison at the end: then the database would be the catalog."""
    store = SqliteStore(tmp_path)
    await filled(store)
    url = empty_database(postgres_server)

    def meddle(name: str, done: int, _total: int) -> None:
        if name == "objects: compared" and done == 0:
            connection = Postgres(url).connect()
            connection.execute(
                "UPDATE objects SET size = size + 1 WHERE key = (SELECT key FROM objects LIMIT 1)"
            )
            connection.close()

    with pytest.raises(CatalogFailed, match="table objects is not the same"):
        moving.move(store.path, url, progress=meddle)
    assert moving_path(store.path).exists()
    with pytest.raises(CatalogRefused, match="begun and not finished"):
        Catalog.open(url)


async def test_only_an_empty_database(tmp_path: Path, postgres_server: PostgresServer) -> None:
    """Neither over another catalog nor over another catalog's unfinished move."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    url = empty_database(postgres_server)
    with pytest.raises(Cut):
        moving.move(SqliteStore(first).path, url, progress=cut_at(5))
    with pytest.raises(CatalogRefused, match="another catalog's move"):
        moving.move(SqliteStore(second).path, url, progress=unseen)
    moving.move(first / "catalog.sqlite", url, progress=unseen)
    with pytest.raises(CatalogRefused, match="there is a catalog in"):
        moving.move(second / "catalog.sqlite", url, progress=unseen)
