"""A catalog for tests of keys."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from catalog.engine import Catalog
from tests.catalog.making import Clock, SqliteStore


@pytest.fixture
def clock() -> Clock:
    """The wall clock of every catalog of the test."""
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    """A new, empty catalog that can be opened."""
    return SqliteStore(tmp_path)


@pytest_asyncio.fixture
async def catalog(store: SqliteStore, clock: Clock) -> AsyncIterator[Catalog]:
    """One opening, started."""
    opened = store.open(clock)
    await opened.start()
    yield opened
    await opened.close()
