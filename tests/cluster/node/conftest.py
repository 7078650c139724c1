"""A fresh node for each test."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.node.node_bench import NodeBench


@pytest.fixture
def memory_path() -> Iterator[Path]:
    """A directory in memory where there is one: the syncs of many small index files take their time."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="trivet-node-", dir=memory) as path:
        yield Path(path)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[NodeBench]:
    node = NodeBench(tmp_path)
    yield node
    node.store.abandon()
