"""What steward and reports ask one node about its blocks, in requests of a bounded size. All raise LinkError."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple, Protocol

import msgspec

from cluster import wire
from cluster.errors import LinkDown, LinkError
from cluster.steward.services import StewardServices
from cluster.topology import NodeSet
from codec.block import BlockKey, pack_key

DEEP_BYTES_MAX: Final = 16 << 20
"""Read from the disk for one request: it must end within its deadline."""


class Asker(Protocol):
    """Who asks: over which links, and how many seconds it waits for each answer. StewardServices is one."""

    @property
    def nodes(self) -> NodeSet: ...
    @property
    def deadline_s(self) -> float: ...


class Found(NamedTuple):
    """How a block lies on a node; `sequence` names the copy (S20) and is 0 when there is none."""

    ok: bool
    missing: bool
    sequence: int


async def call(asker: Asker, node: int, op: wire.Op, message: wire.Message) -> wire.Frame:
    """One request to one node, under the deadline of who asks."""
    link = asker.nodes.link(node)
    if link is None:
        raise LinkDown(f"node {node} is not part of the cluster")
    return await link.call(int(op), wire.encode(message), None, asker.deadline_s)


def keys_in_one_request(shard_bytes: int, deep_bytes_max: int = DEEP_BYTES_MAX) -> int:
    """How many blocks of at most `shard_bytes` a deep VERIFY_BLOCKS may name."""
    return max(1, min(wire.VERIFY_BLOCKS_MAX, deep_bytes_max // max(1, shard_bytes)))


async def verify_blocks(
    asker: Asker, node: int, keys: Sequence[BlockKey], *, shard_bytes: int, deep: bool
) -> list[Found]:
    """How each of these blocks lies on the node, in their order. `deep` reads them again from the disk itself,
    past every cache (S2, STYLE 12); `shard_bytes` bounds how many one request may name then."""
    step = keys_in_one_request(shard_bytes) if deep else wire.VERIFY_BLOCKS_MAX
    found: list[Found] = []
    for at in range(0, len(keys), step):
        part = [pack_key(key) for key in keys[at : at + step]]
        reply = await call(asker, node, wire.Op.VERIFY_BLOCKS, wire.VerifyBlocks(part, deep))
        with _sense_from(node):
            blocks = wire.decode_blocks_verified(reply.header).blocks
        if len(blocks) != len(part):
            raise LinkError(f"node {node} answered {len(blocks)} of {len(part)} blocks")
        found += [
            Found(state == wire.Status.OK, state == wire.Status.NOT_FOUND, sequence)
            for state, sequence, _ in blocks
        ]
    return found


async def status(asker: Asker, node: int) -> wire.NodeStatus:
    """What the node knows of itself."""
    reply = await call(asker, node, wire.Op.STATUS, wire.StatusRequest())
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
