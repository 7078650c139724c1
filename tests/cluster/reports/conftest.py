"""Worlds on real nodes, whose reports are read."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.cluster.nodes import RealNodes
from tests.cluster.steward_world import World, new_world


@pytest_asyncio.fixture
async def world(tmp_path: Path, nodes: RealNodes) -> AsyncIterator[World]:
    """A catalog of the test's own, on nodes that it leaves running."""
    async with new_world(tmp_path / "catalog.sqlite", nodes) as made:
        await made.admit()
        yield made


@pytest_asyncio.fixture
async def own_world(tmp_path: Path, own_nodes: RealNodes) -> AsyncIterator[World]:
    """For a test that kills nodes, counts what they hold, or deletes blocks as their only catalog may."""
    async with new_world(tmp_path / "catalog.sqlite", own_nodes) as made:
        await made.admit()
        yield made
