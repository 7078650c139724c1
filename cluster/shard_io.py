"""Whole shards of one stripe, to and from the nodes: for the writer, for repair, never for a client's range.

`fetch` gives verified blocks, from which the codec rebuilds what is missing; `put` sends one shard.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

from cluster import wire
from cluster.errors import LinkError, RemoteFault
from cluster.link import Link
from cluster.placement import Copy
from cluster.stripe_read import CORRUPT, MISSING
from cluster.topology import NodeSet
from codec.block import (
    CODEC_ISA_L_RS_CAUCHY,
    BlockCorrupt,
    BlockKey,
    Buffer,
    VerifiedBlock,
    page_checksums,
    verify,
)
from codec.erasure import ErasureCode, matches
from codec.geometry import Geometry

_PUT: Final = int(wire.Op.PUT_BLOCK)
_READ: Final = int(wire.Op.READ_BLOCK)
_NEVER: Final = float("inf")
_BAD: Final = {int(wire.Status.NOT_FOUND): MISSING, int(wire.Status.CORRUPT): CORRUPT}


class Fetched(NamedTuple):
    """What `fetch` got, and what it learned about copies that it asked for in vain."""

    blocks: dict[int, VerifiedBlock]
    """By shard; k of them, or fewer when no more can be had now."""
    holders: dict[int, int]
    """By shard, the node that the block came from."""
    bad: list[tuple[int, int, str]]
    """(shard, node, kind): the node answered, and does not have it (MISSING) or not whole (CORRUPT)."""
    unreached: list[Copy]
    """(shard, node): no answer, which says nothing about the block."""


async def fetch(  # noqa: PLR0917 - a stripe is named by many things, the same everywhere
    nodes: NodeSet,
    code: ErasureCode,
    blob_id: bytes,
    stripe: int,
    stripe_length: int,
    copies: Sequence[Copy],
    deadline_s: float,
) -> Fetched:
    """Read k distinct whole shards of a stripe, verified (P3), within `deadline_s`.

    Asks in the order of `copies`, k shards at once, and one more for each that can't be had; no copy is read
    twice and no shard from two nodes that both have it. Never raises LinkError: the result says what failed.
    """
    return await _Fetch(nodes, code, BlockKey(blob_id, stripe, 0), stripe_length).run(copies, deadline_s)


class _Fetch:
    """One `fetch` under way."""

    def __init__(self, nodes: NodeSet, code: ErasureCode, stripe: BlockKey, stripe_length: int) -> None:
        self._nodes = nodes
        self._code = code
        self._stripe = stripe
        self._stripe_length = stripe_length
        self._flying: dict[asyncio.Future[wire.Frame], Copy] = {}
        self._fetched = Fetched({}, {}, [], [])

    async def run(self, copies: Sequence[Copy], deadline_s: float) -> Fetched:
        clock = asyncio.get_running_loop().time
        until_s = clock() + deadline_s
        waiting = list(copies)
        try:
            while True:
                waiting = self._launch(waiting, until_s - clock())
                if not self._flying:
                    return self._fetched
                done, _ = await asyncio.wait(self._flying, return_when=asyncio.FIRST_COMPLETED)
                for reply in done:
                    self._land(self._flying.pop(reply), reply)
        finally:
            for reply in self._flying:
                reply.cancel()

    def _launch(self, waiting: list[Copy], left_s: float) -> list[Copy]:
        """Ask for copies until k distinct shards are there or under way; returns those not asked for."""
        k = self._code.geometry.k
        coming = {shard for shard, _ in self._flying.values()} | self._fetched.blocks.keys()
        later = []
        for shard, node in waiting:
            if shard in coming or len(coming) >= k:
                later.append((shard, node))
            elif self._ask(shard, node, left_s):
                coming.add(shard)
            else:
                self._fetched.unreached.append((shard, node))
        return later

    def _ask(self, shard: int, node: int, left_s: float) -> bool:
        link = self._nodes.link(node)
        if link is None or left_s <= 0:
            return False
        blob_id, stripe, _ = self._stripe
        header = wire.encode(wire.ReadBlock(blob_id, stripe, shard, 0, 0, link.trace_context()))
        try:
            self._flying[link.call(_READ, header, None, left_s)] = shard, node
        except LinkError:
            return False
        return True

    def _land(self, copy: Copy, reply: "asyncio.Future[wire.Frame]") -> None:
        """Sort one reply into the result."""
        shard, node = copy
        fetched = self._fetched
        try:
            block = verify(reply.result().payload, self._stripe._replace(shard=shard))
        except RemoteFault as fault:
            kind = _BAD.get(fault.status)
            if kind is None:
                fetched.unreached.append(copy)
            else:
                fetched.bad.append((shard, node, kind))
        except LinkError:
            fetched.unreached.append(copy)
        except BlockCorrupt:
            fetched.bad.append((shard, node, CORRUPT))
        else:
            if matches(block, self._code.geometry, self._stripe_length):
                fetched.blocks[shard] = block
                fetched.holders[shard] = node
            else:
                fetched.bad.append((shard, node, CORRUPT))


def put(  # noqa: PLR0917 - as above
    link: Link,
    blob_id: bytes,
    stripe: int,
    shard: int,
    payload: Buffer,
    geometry: Geometry,
    stripe_length: int,
    *,
    sync: bool,
    repair: bool = False,
    deadline_s: float,
    late_s: float = _NEVER,
) -> "asyncio.Future[wire.Frame]":
    """Send one shard; the reply's header is `wire.Appended`.

    `sync`: it is answered when durable (S1). `repair`: always a new copy (S20). `late_s` as `Link.call` has
    it. `payload` is not copied: it must not change until the reply. Raises LinkDown or LinkBusy at once;
    the future fails with any LinkError.
    """
    header = wire.encode(
        wire.PutBlock(
            blob_id,
            stripe,
            shard,
            geometry.k,
            geometry.m,
            CODEC_ISA_L_RS_CAUCHY,
            stripe_length,
            page_checksums(payload),
            sync,
            repair,
            link.trace_context(),
        )
    )
    return link.call(_PUT, header, payload, deadline_s, late_s)
