"""One stripe of a blob on its way from the nodes to the client: verified, or rebuilt from other shards (P3).

The usual case asks the data shards that hold the wanted bytes and is done. Whatever goes wrong with one of
them (missing, corrupt, its node down, stalled or late) ends in `_Recovery`, which collects any k whole
verified shards and decodes. So does a data shard so far away that k nearer ones are there sooner.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from catalog.model import BlobRow
from cluster import wire
from cluster.errors import BlobUnreadable, CallLate, LinkError, RemoteFault
from cluster.placement import Copy, copies
from cluster.topology import NodeSet
from codec.block import BlockCorrupt, BlockKey, Buffer, VerifiedBlock, verify, verify_pages
from codec.erasure import ErasureCode, matches
from codec.geometry import ShardSpan, StripeSlice

_READ: Final = int(wire.Op.READ_BLOCK)

MISSING: Final = "missing"
CORRUPT: Final = "corrupt"


class Fault(NamedTuple):
    """A block that is not as the catalog says; `kind` is MISSING or CORRUPT. A case for repair."""

    blob_id: bytes
    stripe: int
    shard: int
    node: int
    kind: str


@dataclass(frozen=True, slots=True)
class ReaderSettings:
    """`window_stripes`: stripes of one stream in flight beside the one being sent. A read later than
    `hedge_factor` times its node's recent slow latency, within the bounds, is hedged. Times in seconds."""

    window_stripes: int = 4
    hedge_factor: float = 3.0
    hedge_s_min: float = 0.02
    hedge_s_max: float = 1.0
    deadline_s: float = 10.0


class ReadContext(NamedTuple):
    """What all reads of a process share. `relocate(blob id)` reads the blob's layout again (S21)."""

    nodes: NodeSet
    relocate: Callable[[bytes], Awaitable[BlobRow | None]]
    on_fault: Callable[[Fault], None]
    settings: ReaderSettings


class _Ask(msgspec.Struct, gc=False):
    """A READ_BLOCK under way."""

    shard: int
    node: int
    whole: bool
    reply: Any  # asyncio.Future[wire.Frame]


class StripeRead:
    """A slice of one stripe, asked for when made; `result` waits for it.

    `held_bytes` is what the stream took of its budget for it.
    """

    __slots__ = ("_asks", "_blob", "_code", "_context", "_spans", "held_bytes", "piece")

    def __init__(self, context: ReadContext, code: ErasureCode, blob: BlobRow, piece: StripeSlice) -> None:
        self.piece = piece
        self.held_bytes = piece.stop - piece.start
        self._context = context
        self._code = code
        self._blob = blob
        self._spans = code.geometry.shard_spans(piece.length, piece.start, piece.stop)
        self._asks = self._ask_data_shards()

    async def result(self) -> list[Buffer]:
        """The bytes of the slice, in order, every page of them verified. Raises BlobUnreadable."""
        asks = self._asks
        if asks is not None:
            try:
                pieces: list[Buffer] = []
                for span, ask in zip(self._spans, asks, strict=True):
                    block = self.verified(ask, await ask.reply)
                    pieces.append(cut(block, span))
            except (LinkError, BlockCorrupt):
                pass  # looked at again, one by one, by the recovery
            else:
                return pieces
        return await _Recovery(self, asks or []).run()

    def _ask_data_shards(self) -> list[_Ask] | None:
        """Ask the data shards that hold the slice; None when one of them is better not asked for now."""
        holders = self._blob.nodes_at(self.piece.stripe)
        nodes = self._context.nodes
        usable, far = nodes.usable, nodes.far
        if len(holders) != self._code.geometry.width:
            holders = self._nearest(holders)
        for span in self._spans:
            if not usable(holders[span.shard]):
                return None
        if far and self._is_far(holders):
            return None
        size = self._code.geometry.shard_length(self.piece.length)
        whole = self.piece.stop - self.piece.start == self.piece.length
        try:
            return [
                self.ask(span.shard, holders[span.shard], None if whole or span[1:] == (0, size) else span)
                for span in self._spans
            ]
        except LinkError:
            return None

    def _nearest(self, holders: tuple[int, ...]) -> tuple[int, ...]:
        """Out of a layout with several copies of a shard the holder to ask for each, 0 where there is none."""
        width = self._code.geometry.width
        ranked = self._context.nodes.order_for_read(dict.fromkeys(node for node in holders if node))
        holds = set(copies(holders, width))
        return tuple([next((node for node in ranked if (shard, node) in holds), 0) for shard in range(width)])

    def _is_far(self, holders: tuple[int, ...]) -> bool:
        """Whether k other shards are there long before the wanted ones, whose nodes are usable all: then they
        are read and decoded.

        Now and then a wanted shard is asked for nevertheless, for nobody, to see whether it is still far.
        """
        nodes = self._context.nodes
        wanted = [holders[span.shard] for span in self._spans]
        if nodes.far.isdisjoint(wanted):
            return False
        nearest = [node for node in nodes.order_for_read(filter(None, holders)) if nodes.usable(node)]
        k = self._code.geometry.k
        if len(nearest) < k or not nodes.worth_avoiding(wanted, nearest[:k]):
            return False
        if nodes.explores():
            with contextlib.suppress(LinkError):
                for span in self._spans:
                    self.ask(span.shard, holders[span.shard], span)
        return True

    def ask(self, shard: int, node: int, span: ShardSpan | None) -> _Ask:
        """Ask a node for a whole shard, or for the pages around `span` of it. Raises LinkDown, LinkBusy."""
        start, stop = (0, 0) if span is None else (span.start, span.stop)
        settings = self._context.settings
        link = self._context.nodes.link(node)
        if link is None:
            raise LinkError(f"node {node} is not part of the cluster")
        asked = wire.ReadBlock(self._blob.id, self.piece.stripe, shard, start, stop, link.trace_context())
        header = wire.encode(asked)
        late_s = link.latency[_READ].high_s * settings.hedge_factor
        if late_s < settings.hedge_s_min:
            late_s = settings.hedge_s_min
        elif late_s > settings.hedge_s_max:
            late_s = settings.hedge_s_max
        return _Ask(shard, node, span is None, link.call(_READ, header, None, settings.deadline_s, late_s))

    def verified(self, ask: _Ask, reply: wire.Frame) -> VerifiedBlock:
        """The block in a reply. Raises BlockCorrupt, also when it is another block than asked for (S6)."""
        key = BlockKey(self._blob.id, self.piece.stripe, ask.shard)
        if ask.whole:
            block = verify(reply.payload, key)
        else:
            try:
                first_page = wire.decode_block_read(reply.header).first_page
            except msgspec.DecodeError as error:
                raise BlockCorrupt(f"reply without a first page: {error}") from None
            block = verify_pages(reply.payload, key, first_page)
        if not matches(block, self._code.geometry, self.piece.length):
            raise BlockCorrupt("a block of another geometry than its blob")
        return block


def cut(block: VerifiedBlock, span: ShardSpan) -> memoryview:
    """The bytes of `span` out of a block that holds them. Raises BlockCorrupt when it does not."""
    start = span.start - block.start
    stop = span.stop - block.start
    if start < 0 or stop > len(block.payload):
        raise BlockCorrupt("the reply lacks pages that were asked for")
    return block.payload[start:stop]


class _Recovery:
    """Gets a stripe's slice from whatever whole shards can be had; lives for one stripe."""

    def __init__(self, read: StripeRead, asks: list[_Ask]) -> None:
        self._read = read
        self._context = read._context
        self._blob = read._blob
        self._relocated = False
        self._deleted = False
        self._flying: dict[asyncio.Future[wire.Frame], _Ask] = {ask.reply: ask for ask in asks}
        self._late: set[asyncio.Future[wire.Frame]] = set()
        self._spent = {(ask.shard, ask.node) for ask in asks if ask.whole}  # not to be asked (again)
        self._blocks: dict[int, VerifiedBlock] = {}  # by shard; a whole one replaces a partial one
        self._missing: list[_Ask] = []  # not found, and not yet compared with a fresh layout (S21)

    async def run(self) -> list[Buffer]:
        """Raises BlobUnreadable when neither this layout nor a fresh one gives k shards."""
        k = self._read._code.geometry.k
        piece = self._read.piece
        while True:
            self._land([reply for reply in self._flying if reply.done()])
            if self._missing:
                await self._look_again()
            pieces = self._pieces()
            if pieces is not None:
                return pieces
            whole = [block for block in self._blocks.values() if block.is_whole]
            if len(whole) >= k:
                stripe = self._read._code.decode(whole, piece.length)
                return [memoryview(stripe)[piece.start : piece.stop]]
            self._launch(k - len(whole))
            if self._flying:
                await asyncio.wait(self._flying, return_when=asyncio.FIRST_COMPLETED)
            elif not self._relocated:
                await self._look_again()
            else:
                raise BlobUnreadable(self._blob.id, piece.stripe, f"{len(whole)} of {k} shards can be had")

    def _pieces(self) -> list[Buffer] | None:
        """The slice straight from the data shards, when the blocks at hand cover it."""
        pieces: list[Buffer] = []
        for span in self._read._spans:
            block = self._blocks.get(span.shard)
            if block is None:
                return None
            pieces.append(cut(block, span))
        return pieces

    def _land(self, replies: Iterable["asyncio.Future[wire.Frame]"]) -> None:
        """Take in calls that have ended: blocks, faults, and late ones, which fly on."""
        for reply in list(replies):
            ask = self._flying.pop(reply)
            self._late.discard(reply)
            self._spent.add((ask.shard, ask.node))
            try:
                block = self._read.verified(ask, reply.result())
                if not ask.whole:
                    cut(block, next(span for span in self._read._spans if span.shard == ask.shard))
            except CallLate as late:
                ask.reply = late.reply
                self._flying[late.reply] = ask
                self._late.add(late.reply)
            except RemoteFault as fault:
                if fault.status == wire.Status.NOT_FOUND:
                    self._missing.append(ask)
                elif fault.status == wire.Status.CORRUPT:
                    self._report(ask, CORRUPT)
            except BlockCorrupt:
                self._report(ask, CORRUPT)
            except LinkError:
                pass  # says nothing about the block
            else:
                if ask.shard not in self._blocks or block.is_whole:
                    self._blocks[ask.shard] = block
                if not block.is_whole:
                    self._spent.discard((ask.shard, ask.node))  # all of it may still be needed

    def _launch(self, wanted: int) -> None:
        """Ask for whole shards until `wanted` are on their way, not counting those that are late."""
        flying = {ask.shard for reply, ask in self._flying.items() if ask.whole and reply not in self._late}
        for shard, node in self._candidates():
            if len(flying) >= wanted:
                return
            if shard in flying:
                continue
            self._spent.add((shard, node))
            try:
                ask = self._read.ask(shard, node, None)
            except LinkError:
                continue
            self._flying[ask.reply] = ask
            flying.add(shard)

    def _candidates(self) -> list[tuple[int, int]]:
        """(shard, node) that may still give a shard not at hand: usable and near nodes first."""
        have = {shard for shard, block in self._blocks.items() if block.is_whole}
        holders = [
            (shard, node)
            for shard, node in self._copies()
            if shard not in have and (shard, node) not in self._spent
        ]
        # Nodes of equal rank stay in the order of their shards: data before parity.
        ranked = self._context.nodes.order_for_read(dict.fromkeys(node for _, node in holders))
        rank = {node: i for i, node in enumerate(ranked)}
        return sorted([holder for holder in holders if holder[1] in rank], key=lambda h: rank[h[1]])

    def _copies(self) -> list[Copy]:
        blob = self._blob
        return copies(blob.nodes_at(self._read.piece.stripe), blob.k + blob.m)

    def _report(self, ask: _Ask, kind: str) -> None:
        self._context.on_fault(Fault(self._blob.id, self._read.piece.stripe, ask.shard, ask.node, kind))

    async def _look_again(self) -> None:
        """Read the layout once more before anything is decoded or reported as missing (S21)."""
        if not self._relocated:
            self._relocated = True
            fresh = await self._context.relocate(self._blob.id)
            self._deleted = fresh is None
            self._blob = fresh or self._blob
        missing, self._missing = self._missing, []
        if self._deleted:
            return  # nothing to report, but what is left may still be read
        current = set(self._copies())
        for ask in missing:
            if (ask.shard, ask.node) in current:
                self._report(ask, MISSING)
