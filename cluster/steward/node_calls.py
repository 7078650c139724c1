"""What the steward asks one node about its blocks, in requests of a bounded size. All raise LinkError."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

import msgspec

from cluster import wire
from cluster.errors import LinkDown, LinkError
from cluster.steward.services import StewardServices
from codec.block import BlockKey, pack_key

_DEEP_BYTES_MAX: Final = 16 << 20  # read from the disk for one request: it must end within its deadline


class Found(NamedTuple):
    """How a block lies on a node; `sequence` names the copy (S20) and is 0 when there is none."""

    ok: bool
    missing: bool
    sequence: int


async def call(services: StewardServices, node: int, op: wire.Op, message: wire.Message) -> wire.Frame:
    """One request to one node, under the deadline of background work."""
    link = services.nodes.link(node)
    if link is None:
        raise LinkDown(f"node {node} is not part of the cluster")
    return await link.call(int(op), wire.encode(message), None, services.settings.delete_deadline_s)


async def verify_blocks(
    services: StewardServices, node: int, keys: Sequence[BlockKey], *, shard_bytes: int, deep: bool
) -> list[Found]:
    """How each of these blocks lies on the node, in their order. `deep` reads them again from the disk itself,
    past every cache (S2, STYLE 12); `shard_bytes` bounds how many one request may name then."""
    step = wire.VERIFY_BLOCKS_MAX
    if deep:
        step = max(1, min(step, _DEEP_BYTES_MAX // max(1, shard_bytes)))
    found: list[Found] = []
    for at in range(0, len(keys), step):
        part = [pack_key(key) for key in keys[at : at + step]]
        reply = await call(services, node, wire.Op.VERIFY_BLOCKS, wire.VerifyBlocks(part, deep))
        with _sense_from(node):
            blocks = wire.decode_blocks_verified(reply.header).blocks
        if len(blocks) != len(part):
            raise LinkError(f"node {node} answered {len(blocks)} of {len(part)} blocks")
        found += [
            Found(state == wire.Status.OK, state == wire.Status.NOT_FOUND, sequence)
            for state, sequence, _ in blocks
        ]
    return found


async def status(services: StewardServices, node: int) -> wire.NodeStatus:
    """What the node knows of itself."""
    reply = await call(services, node, wire.Op.STATUS, wire.StatusRequest())
    with _sense_from(node):
        return wire.decode_node_status(reply.header)


async def inventory_page(services: StewardServices, node: int, after: bytes) -> wire.InventoryPage:
    """One page of the blocks that a node holds, behind the key `after`, in key order."""
    ask = wire.Inventory(after, services.settings.inventory_entries)
    reply = await call(services, node, wire.Op.INVENTORY, ask)
    with _sense_from(node):
        return wire.decode_inventory_page(reply.header)


async def inventory(
    services: StewardServices, node: int, after: bytes
) -> AsyncGenerator[tuple[bytes, int, int], None]:
    """(packed key, sequence, payload length) of all blocks a node holds behind the key `after`, in key order."""
    while True:
        page = await inventory_page(services, node, after)
        for entry in page.entries:
            yield entry
        if not page.more or not page.entries:
            return
        after = page.entries[-1][0]


async def damaged(services: StewardServices, node: int, after: bytes) -> wire.DamagedPage:
    """One page of the blocks that the node found bad by itself, behind the key `after`."""
    ask = wire.Damaged(after, services.settings.inventory_entries)
    reply = await call(services, node, wire.Op.DAMAGED, ask)
    with _sense_from(node):
        return wire.decode_damaged_page(reply.header)


@contextmanager
def _sense_from(node: int) -> Iterator[None]:
    """A reply that can't be understood is the node's trouble: it must not end the steward."""
    try:
        yield
    except msgspec.DecodeError as error:
        raise LinkError(f"node {node} answered nonsense: {error}") from None
