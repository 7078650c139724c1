"""Events as people and programs are told: which, in what order, by which names."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from catalog import nodes, work
from catalog.engine import Catalog, CatalogSettings
from catalog.transaction import Transaction
from cluster.reports import events as events_module
from cluster.reports.events import events, last_number
from tests.catalog.fresh import fresh_catalog


@pytest_asyncio.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[Catalog]:
    """Numbers 1 to 8: of the removed node-1, of the one in its place, of node-11, of nobody; and so again."""
    path = tmp_path / "catalog.sqlite"
    fresh_catalog(path, cluster_id=b"test cluster 016")
    made = Catalog.open(path, CatalogSettings(ballast_bytes=1 << 16))
    await made.start()

    def fill(tx: Transaction) -> None:
        for number, name in ((1, "node-1#1"), (2, "node-1"), (3, "node-11")):
            nodes.register(
                tx,
                node_id=bytes([number]) * 16,
                name=name,
                region="r",
                zone="z",
                host="127.0.0.1",
                port=number,
            )
        for kind in ("node-down", "node-up"):
            for node in (1, 2, 3, None):
                work.record_event(tx, kind, node=node)

    await made.write(fill)
    yield made
    await made.close()


@pytest.mark.parametrize(
    ("asked", "numbers"),
    [
        ({}, [8, 7, 6, 5, 4, 3, 2, 1]),
        ({"limit": 2}, [8, 7]),
        ({"kinds": ("node-down",)}, [4, 3, 2, 1]),
        ({"kinds": ("node-down",), "limit": 1}, [4]),
        ({"kinds": ("node-down", "node-up"), "limit": 4}, [8, 7, 6, 5]),
        ({"node": "node-1"}, [6, 5, 2, 1]),
        ({"node": "node-1", "limit": 1, "before": 6}, [5]),
        ({"node": "node-11"}, [7, 3]),
        ({"after": 2, "before": 5}, [4, 3]),
        ({"after": 8}, []),
    ],
)
async def test_those_asked_for_newest_first(
    catalog: Catalog, asked: dict[str, Any], numbers: list[int]
) -> None:
    """Red when a filter looks only at as many as are wanted, and when a node's name is compared by its beginning."""
    found = await catalog.read(lambda reader: events(reader, **{"limit": 10, **asked}))
    assert [event.number for event in found] == numbers


async def test_what_is_told_of_one(catalog: Catalog) -> None:
    newest, *_, oldest = await catalog.read(lambda reader: events(reader, limit=10))
    assert (newest.kind, newest.node, newest.detail) == ("node-up", None, "")
    assert (oldest.kind, oldest.node) == ("node-down", "node-1#1")
    assert oldest.happened_at.endswith("Z")
    assert await catalog.read(last_number) == 8
    assert events_module.KEPT >= work._EVENTS_KEPT, "a filter looks at all"
