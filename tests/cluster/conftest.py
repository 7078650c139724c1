"""Fixtures of the cluster tests: real nodes, links to them, and a loop that must not complain."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from cluster import wire
from cluster.topology import NodeSet
from tests.cluster.nodes import CLUSTER_ID, SECRET, RealNodes


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealNodes]:
    """Three nodes for tests that leave them as they were."""
    with RealNodes(tmp_path_factory.mktemp("nodes")) as running:
        yield running


@pytest.fixture
def own_nodes(tmp_path: Path) -> Iterator[RealNodes]:
    """Three nodes for a test that kills or freezes them."""
    with RealNodes(tmp_path) as running:
        yield running


@pytest.fixture(scope="session")
def settled_heap() -> Iterator[None]:
    """What was imported and collected until now is no garbage of a test: a look for that need not walk over it,
    which would take a tenth of a second each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest_asyncio.fixture
async def silent_loop(settled_heap: None) -> AsyncIterator[list[dict[str, Any]]]:
    """Fails the test when the loop reports anything, such as an exception that nobody retrieved."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    yield complaints
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []


def connect(running: RealNodes) -> NodeSet:
    return NodeSet.connecting(running.infos, secret=SECRET, cluster_id=CLUSTER_ID, role=wire.Role.FRONT)


@pytest_asyncio.fixture
async def linked(nodes: RealNodes) -> AsyncIterator[NodeSet]:
    """Links to `nodes`, all up."""
    async with connect(nodes) as node_set:
        assert await node_set.wait_up(30) == 3
        yield node_set


async def until(condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Wait until `condition` holds."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.002)
    except TimeoutError:
        pytest.fail(f"waited in vain: {what}")
