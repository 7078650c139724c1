"""A fresh node for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.node.node_bench import NodeBench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[NodeBench]:
    node = NodeBench(tmp_path)
    yield node
    node.store.abandon()
