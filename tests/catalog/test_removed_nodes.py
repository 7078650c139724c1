"""P2: a layout never names a node that has left the store, whoever wrote or moved shards to it meanwhile."""

import pytest
from msgspec import structs

from catalog import lookup, nodes, placements
from catalog.engine import Catalog
from catalog.errors import HolderRemoved
from catalog.model import Run
from catalog.transaction import Transaction
from tests.catalog.making import new_blob, put


def _node(tx: Transaction, number: int) -> None:
    row = nodes.register(
        tx, node_id=bytes([number] * 16), name=f"node-{number}", region="r", zone="z", host="h", port=number
    )
    assert row.number == number
    nodes.set_state(tx, number, nodes.UP)


async def _five_nodes(catalog: Catalog) -> None:
    for number in range(1, 6):
        await catalog.write(lambda tx, number=number: _node(tx, number))  # type: ignore[misc]


async def _remove(catalog: Catalog, number: int) -> None:
    await catalog.write(lambda tx: nodes.set_state(tx, number, nodes.REMOVED))


async def test_p2_an_upload_that_began_before_a_node_was_removed_is_not_committed(
    catalog: Catalog, bucket_id: int
) -> None:
    """The node was drained, and empty as far as the catalog knew. Red when the commit looks at the horizon only:
    the simulation found objects that one more node took away."""
    await _five_nodes(catalog)
    under_way = new_blob(nodes=(1, 2, 3))
    in_runs = structs.replace(
        new_blob(nodes=(1, 2, 4), stripes=3), size=3 << 20, runs=(Run(1, (1, 2, 3)), Run(2, (1, 2, 4)))
    )
    others = new_blob(nodes=(1, 2, 4))
    await _remove(catalog, 3)
    for blob in (under_way, in_runs):
        with pytest.raises(HolderRemoved):
            await put(catalog, bucket_id, b"key", blob)
    await put(catalog, bucket_id, b"key", others)


async def test_p7_a_blob_is_not_moved_to_a_node_that_was_removed(catalog: Catalog, bucket_id: int) -> None:
    """While the copies were made. A layout that names such a node already may be put right step by step. Red when
    the move compares the old layout only."""
    await _five_nodes(catalog)
    blob = new_blob(nodes=(1, 2, 3))
    await put(catalog, bucket_id, b"key", blob)
    await _remove(catalog, 3)
    await _remove(catalog, 5)
    seen = await lookup.blob(catalog, blob.id)
    assert seen is not None

    async def move(to: tuple[int, ...]) -> bool:
        return await catalog.write(lambda tx: placements.move(tx, blob.id, old=seen, nodes=to, runs=()))

    with pytest.raises(HolderRemoved):
        await move((1, 2, 5))
    assert await move((4, 2, 3))
