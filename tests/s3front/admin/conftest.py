"""A small front for the tests of the admin API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.s3front.admin.small_front import Client, small_client


@pytest_asyncio.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    """Signs with the root key."""
    async with small_client(tmp_path) as made:
        yield made
