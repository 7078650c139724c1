"""Assignments of shards to nodes are stored once and named by number."""

import asyncio

from catalog import layouts
from catalog.engine import Catalog
from catalog.errors import PreconditionFailed
from catalog.model import Condition
from catalog.transaction import PlacementNumbers, Transaction
from tests.catalog.making import Clock, Store, new_blob, put


async def test_each_assignment_is_stored_once(
    store: Store, catalog: Catalog, bucket_id: int, clock: Clock
) -> None:
    """By two processes at once."""
    other = store.open(clock)
    await other.start()
    layouts: list[tuple[int, ...]] = [(1, 2, 3), (2, 3, 1), (3, 1, 4)]
    made = [new_blob(nodes=layouts[turn % 3]) for turn in range(30)]
    await asyncio.gather(
        *(put((catalog, other)[turn % 2], bucket_id, b"%d" % turn, blob) for turn, blob in enumerate(made))
    )
    numbers = {layout: catalog.placements.number_by_nodes.get(layout) for layout in layouts}
    assert None not in numbers.values()
    assert len(set(numbers.values())) == 3
    for layout, number in other.placements.number_by_nodes.items():
        assert numbers.get(layout, number) == number
    await other.close()


async def test_a_placement_of_a_failed_request_is_forgotten(catalog: Catalog, bucket_id: int) -> None:
    """Else the next blob would name a number that nobody stored. Break caught: `rolled_back` that keeps
    `new_placements`."""
    await put(catalog, bucket_id, b"key", new_blob(nodes=(1, 2, 3)))
    refused = new_blob(nodes=(7, 8, 9))
    taken = new_blob(nodes=(7, 8, 9))

    def fail_late(tx: Transaction) -> None:
        layouts.number_of(tx, (7, 8, 9))
        raise PreconditionFailed("late")

    outcomes = await asyncio.gather(
        catalog.write(fail_late),
        put(catalog, bucket_id, b"key", refused, condition=Condition(if_match="other")),
        put(catalog, bucket_id, b"other", taken),
        return_exceptions=True,
    )
    assert [type(outcome).__name__ for outcome in outcomes] == ["PreconditionFailed"] * 2 + ["PutResult"]
    number = catalog.placements.number_by_nodes[7, 8, 9]
    assert await catalog.read(lambda reader: layouts.nodes_of(reader, PlacementNumbers(), number)) == (
        7,
        8,
        9,
    )
