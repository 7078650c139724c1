"""One contract suite for all databases: tests that take `store` or `catalog` run on each backend."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from catalog import buckets
from catalog.engine import Catalog
from tests.catalog.making import Clock, SqliteStore


@pytest.fixture
def clock() -> Clock:
    """The wall clock of every catalog of the test."""
    return Clock()


@pytest.fixture(params=["sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SqliteStore:
    """A new, empty catalog that can be opened; PostgreSQL joins here."""
    assert request.param == "sqlite"
    return SqliteStore(tmp_path)


@pytest_asyncio.fixture
async def catalog(store: SqliteStore, clock: Clock) -> AsyncIterator[Catalog]:
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
