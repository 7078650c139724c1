"""One contract suite for all databases: tests that take `store` or `catalog` run on each backend."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from catalog import buckets
from catalog.engine import Catalog
from tests.catalog.emptied import EmptiedDatabases
from tests.catalog.making import Clock, PostgresStore, SqliteStore, Store
from tests.postgres import PostgresServer


@pytest.fixture
def clock() -> Clock:
    """The wall clock of every catalog of the test."""
    return Clock()


@pytest.fixture(scope="session")
def databases(postgres_server: PostgresServer) -> EmptiedDatabases:
    """Those that the contract suite uses again and again."""
    return EmptiedDatabases(postgres_server)


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A new, empty catalog that can be opened. A test of what SQLite alone does says so (`making.SQLITE_ONLY`)."""
    if request.param == "sqlite":
        yield SqliteStore(tmp_path)
        return
    databases: EmptiedDatabases = request.getfixturevalue("databases")
    url = databases.take()
    yield PostgresStore(databases.server, url)
    databases.give_back(url)


@pytest_asyncio.fixture
async def catalog(store: Store, clock: Clock) -> AsyncIterator[Catalog]:
    """One opening, started."""
    opened = store.open(clock)
    await opened.start()
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def bucket_id(catalog: Catalog) -> int:
    """A bucket."""
    created = await catalog.write(
        lambda tx: buckets.create(tx, name="bucket", owner="owner", region="region")
    )
    return created.id
