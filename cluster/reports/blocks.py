"""How single blocks lie on the nodes now: asked of the nodes themselves, deep, from their disks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from catalog.model import BlobRow
from cluster import wire
from cluster.errors import LinkBusy, LinkError, RemoteFault
from cluster.placement import Copy, copies
from cluster.steward.node_calls import DEEP_BYTES_MAX, keys_in_one_request, verify_blocks
from cluster.stripe_read import CORRUPT, MISSING
from cluster.topology import NodeSet
from codec.block import BlockKey

OK: Final = "ok"
UNANSWERED: Final = "unanswered"
"""Its node does not answer, or is no longer part of the store."""
UNCHECKED: Final = "unchecked"

STATES: Final = (OK, MISSING, CORRUPT, UNANSWERED, UNCHECKED)

_BUSY_TRIES: Final = 6
_BUSY_PAUSE_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class NodeAsker:
    """Over which links nodes are asked, and how. `deadline_s` of one request, which makes a node read
    `request_bytes_max` from its disk: small where the links also serve requests of clients, to whose patience a
    link that is busy with us looks stuck. `patience_s`: a connection that is lost may take so long to come back (none
    is waited for that was not there from the beginning).
    """

    nodes: NodeSet
    deadline_s: float = 30.0
    request_bytes_max: int = DEEP_BYTES_MAX
    patience_s: float = 0.0


class Stretch(NamedTuple):
    """The stripes `first` … `stop` - 1 of a blob, whose copies lie alike."""

    first: int
    stop: int
    nodes: tuple[int, ...]
    copies: tuple[Copy, ...]


def stretches(blob: BlobRow, stripes: int) -> Iterator[Stretch]:
    """The runs of a blob of so many stripes that have any."""
    starts = [0, *(run.first_stripe for run in blob.runs)]
    for first, stop in zip(starts, [*starts[1:], stripes], strict=True):
        if first < min(stop, stripes):
            nodes = blob.nodes_at(first)
            yield Stretch(first, min(stop, stripes), nodes, tuple(sorted(copies(nodes, blob.k + blob.m))))


Place = tuple[int, BlockKey]
"""A node's number and a block that should lie there."""


class BlockChecker:
    """Has blocks verified. Remembers which nodes answered last, so that one that is lost costs its wait only once."""

    def __init__(self, asker: NodeAsker) -> None:
        self._asker = asker
        self._answering: set[int] = set()

    async def check(self, wanted: Mapping[int, Sequence[BlockKey]], shard_bytes: int) -> dict[Place, str]:
        """The state of each of these blocks, by node; none of them is longer than `shard_bytes`. All nodes are asked
        side by side, each one request after the other."""
        async with asyncio.TaskGroup() as tasks:
            asked = [
                (node, keys, tasks.create_task(self._node(node, keys, shard_bytes)))
                for node, keys in wanted.items()
            ]
        found: dict[Place, str] = {}
        for node, keys, task in asked:
            for key, state in zip(keys, task.result(), strict=True):
                found[node, key] = state
        return found

    async def _node(self, node: int, keys: Sequence[BlockKey], shard_bytes: int) -> list[str]:
        step = keys_in_one_request(shard_bytes, self._asker.request_bytes_max)
        states: list[str] = []
        for at in range(0, len(keys), step):
            answered = await self._ask(node, keys[at : at + step], shard_bytes)
            if answered is None:
                break
            states += answered
        return states + [UNANSWERED] * (len(keys) - len(states))

    async def _ask(self, node: int, keys: Sequence[BlockKey], shard_bytes: int) -> list[str] | None:
        """None when the node does not answer."""
        for attempt in range(_BUSY_TRIES):
            try:
                found = await verify_blocks(self._asker, node, keys, shard_bytes=shard_bytes, deep=True)
            except LinkError as error:
                if attempt + 1 == _BUSY_TRIES or not await self._again(node, error, attempt):
                    self._answering.discard(node)
                    return None
            else:
                self._answering.add(node)
                return [OK if one.ok else MISSING if one.missing else CORRUPT for one in found]
        raise AssertionError("the last attempt returns")

    async def _again(self, node: int, error: LinkError, attempt: int) -> bool:
        """Whether to ask once more, after a wait."""
        if isinstance(error, LinkBusy) or (
            isinstance(error, RemoteFault) and error.status == wire.Status.BUSY
        ):
            await asyncio.sleep(_BUSY_PAUSE_S * 2**attempt)
            return True
        link = self._asker.nodes.link(node)
        if link is None or attempt or node not in self._answering or isinstance(error, RemoteFault):
            return False
        try:
            async with asyncio.timeout(self._asker.patience_s):
                await link.wait_up()
        except TimeoutError:
            return False
        return True
