"""One blob of any length on its way to the nodes: a window of stripes, syncs, and nodes that come and go (S9)."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from cluster import wire
from cluster.budget import ByteBudget
from cluster.errors import CallLate, DeadlineExceeded, LinkError, NotEnoughNodes, Unprotected
from cluster.ledger import Ledger
from cluster.placement import Copy, fresh_layout, packed, retarget
from cluster.protection import Protector
from cluster.stripe_write import Sent, Stripe, StripeWrite, WriteContext
from cluster.topology import NodeInfo

_SYNC: Final = int(wire.Op.SYNC)
_RUN_STRIPES_MIN: Final = 32  # how long a node that gave trouble is avoided; bounds the number of runs
_PAUSE_S: Final = 0.05  # between two looks at nodes that were not there


class _InFlight(NamedTuple):
    """A stripe whose copies were sent. `complete`: all of its layout were."""

    stripe: Stripe
    sent: list[Sent]
    complete: bool


class Upload:
    """One `BlobWriter.write`. `ledger` knows what lies where; `size` and `stripes` count what was sent.

    The layout of the next stripe stays the same until one of its nodes gives trouble, or until nodes are
    there again that it lacks. What a node loses (it dies, or restarts with another incarnation before a
    sync) makes earlier stripes weak: the protector mends them while the upload goes on, and `run` returns
    only when none is left. Owned by `write`, which calls `close` whatever happens.
    """

    def __init__(self, context: WriteContext, budget: ByteBudget, blob_id: bytes, size_hint: int) -> None:
        geometry = context.code.geometry
        self.blob_id = blob_id
        self.size = 0
        self.stripes = 0
        self.ledger = Ledger(geometry.k, geometry.width)
        self._context = context
        self._geometry = geometry
        self._budget = budget
        self._size_hint = size_hint
        self._held_bytes = 0  # of the budget
        self._in_flight: deque[_InFlight] = deque()
        self._layout: tuple[Copy, ...] = ()  # of the next stripe
        self._layout_from = 0  # its first stripe
        self._avoid: dict[int, int] = {}  # node: up to which stripe it gets no more
        self._late: dict[int, asyncio.Future[wire.Frame]] = {}  # node: a call that it owes
        self._syncs: dict[int, tuple[wire.Sync, asyncio.Future[wire.Frame]]] = {}
        self._alive_seen: set[int] = set()
        self._protector = Protector(
            context,
            budget,
            self.ledger,
            blob_id,
            stripe_length=self._stripe_length,
            alive=self._alive,
            note=self._note_trouble,
        )

    async def run(self, stripes: AsyncIterator[bytes]) -> None:
        """Send all stripes and make them durable. Raises NotEnoughNodes (nothing was sent), Unprotected,
        BudgetFull, and what `stripes` raises."""
        await self._pump(stripes)
        await self._finish()

    async def close(self) -> None:
        """Give everything back; `ledger` is complete when this returns."""
        try:
            await self._protector.close()
        finally:
            self._give_back(self._held_bytes)

    # -- stripes ---------------------------------------------------------------------------------------------

    async def _pump(self, stripes: AsyncIterator[bytes]) -> None:
        """Send all stripes, a window of them in flight at once; returns when all are acknowledged."""
        stripe_bytes = self._geometry.stripe_bytes
        window = self._context.settings.window_stripes
        while True:
            taken = await self._take()
            content = await anext(stripes, None)
            if content is None:
                self._give_back(taken)
                break
            assert 0 < len(content) <= taken, "a stripe is longer than announced"
            assert self.size == self.stripes * stripe_bytes, "only the last stripe may be short"
            self._give_back(taken - len(content))
            if not self.stripes:
                await self._context.nodes.back_for_write(
                    self._geometry.width, self._context.settings.rescue_s_max
                )
            self._plan()
            self._send(content)
            if len(self._in_flight) >= window:
                await self._settle()
        while self._in_flight:
            await self._settle()

    async def _take(self) -> int:
        """Budget for the next stripe. Who waits in line for it holds none: no two can block each other."""
        want = self._geometry.stripe_bytes
        if self._size_hint >= 0:
            want = max(min(want, self._size_hint - self.size), 1)
        while not self._budget.try_acquire(want):
            if not self._in_flight:
                await self._budget.acquire(want)
                break
            await self._settle()
        self._held_bytes += want
        return want

    def _give_back(self, n: int) -> None:
        self._held_bytes -= n
        self._budget.release(n)

    def _send(self, content: bytes) -> None:
        """Encode one stripe and send its copies."""
        number, length = self.stripes, len(content)
        shards = self._context.code.encode(content)
        sync = 0 <= self._size_hint <= self._geometry.stripe_bytes
        stripe = Stripe(self.blob_id, number, length, shards, sync)
        self.ledger.sent(number, self._layout)  # before the first byte leaves
        self.stripes += 1
        self.size += length
        sent: list[Sent] = []
        try:
            for copy in self._layout:
                sent.append(stripe.send(self._context, copy, self._patience_s(copy[1])))
        except LinkError:
            self._avoid[copy[1]] = number + _RUN_STRIPES_MIN
        self._in_flight.append(_InFlight(stripe, sent, len(sent) == len(self._layout) > 0))

    def _patience_s(self, node: int) -> float:
        return max(self._context.nodes.write_patience_s(node), self._context.settings.stream_late_s)

    async def _settle(self) -> None:
        """Wait for the oldest stripe in flight, mend what must be, ask for a sync where it is time."""
        oldest = self._in_flight[0]
        stripe = oldest.stripe
        acked = await self._acks(oldest)
        if acked is None:
            acked = await self._rescue(oldest)
        self._in_flight.popleft()
        self.ledger.settled(stripe.number)
        for copy, appended in acked.items():
            if (late := self._late.get(copy[1])) is not None and late.done():
                del self._late[copy[1]]
            if stripe.sync:
                self.ledger.durable(stripe.number, copy)
            else:
                self.ledger.acknowledged(stripe.number, copy, appended, len(stripe.shards[0]))
        self._context.hedges.earn(len(acked), stripe.length)
        self._give_back(stripe.length)
        for node in self.ledger.to_sync(self._context.settings.sync_bytes):
            await self._sync_done(node)
            self._ask_sync(node)
        self._look_around()

    async def _acks(self, flight: _InFlight) -> dict[Copy, wire.Appended] | None:
        """The usual case: all copies were sent, and all are acknowledged in time. Else None."""
        if not flight.complete:
            return None
        try:
            return {copy: wire.decode_appended((await reply).header) for copy, reply in flight.sent}
        except LinkError:
            return None  # looked at again, one by one, by the rescue

    async def _rescue(self, flight: _InFlight) -> dict[Copy, wire.Appended]:
        settings = self._context.settings
        write = StripeWrite(self._context, flight.stripe, flight.sent, late_s_min=settings.stream_late_s)
        try:
            await write.run(settings.rescue_s_max)
        finally:
            self.ledger.sent(flight.stripe.number, write.attempted)
            self._note_trouble(write)
        return write.acked

    # -- nodes -----------------------------------------------------------------------------------------------

    def _plan(self) -> None:
        """Choose the layout of the next stripe. Raises NotEnoughNodes before the first one; later a stripe
        that finds no nodes waits for some in `_rescue`."""
        number = self.stripes
        if self._layout and not self._to_replan(number):
            return
        nodes = self._candidates(number)
        if len(nodes) < 2 and not number:
            raise NotEnoughNodes(len(nodes), 2)
        self._layout = self._next_layout(nodes)
        self._layout_from = number

    def _next_layout(self, nodes: list[NodeInfo]) -> tuple[Copy, ...]:
        """A layout on these nodes that differs little from the present one, so that runs may stay together."""
        k, m, width = self._geometry.k, self._geometry.m, self._geometry.width
        if len(nodes) < 2:
            return ()
        if self._layout and len(nodes) >= width:
            return tuple(enumerate(retarget(self.blob_id, packed(self._layout, width), nodes, k, m)))
        return fresh_layout(self.blob_id, nodes, k, m)

    def _to_replan(self, number: int) -> bool:
        for _, node in self._layout:
            link = self._context.nodes.link(node)
            if link is None or not link.up or self._avoid.get(node, 0) > number:
                return True
        width = self._geometry.width
        if len({node for _, node in self._layout}) >= width:
            return False
        return number - self._layout_from >= _RUN_STRIPES_MIN and len(self._candidates(number)) >= width

    def _candidates(self, number: int) -> list[NodeInfo]:
        """Nodes for the stripes from `number` on: without those that gave trouble, if two remain."""
        nodes = self._context.nodes.for_write(self._geometry.width)
        brisk = [n for n in nodes if self._avoid.get(n.number, 0) <= number and not self._owes(n.number)]
        return brisk if len(brisk) >= 2 else nodes

    def _owes(self, node: int) -> bool:
        """True while a call to the node is late: it may be frozen, and is not counted upon."""
        reply = self._late.get(node)
        if reply is None:
            return False
        if not reply.done() or isinstance(reply.exception(), DeadlineExceeded):
            return True
        del self._late[node]
        return False

    def _alive(self) -> set[int]:
        """Nodes whose copies count: connected, and owing nothing."""
        link = self._context.nodes.link
        return {
            node
            for node in self.ledger.holders()
            if (to := link(node)) is not None and to.up and not self._owes(node)
        }

    def _note_trouble(self, write: StripeWrite) -> None:
        """Keep away from nodes that failed a stripe, for a while."""
        self._late.update(write.late)
        for node in write.failed.union(write.late):
            self._avoid[node] = self.stripes + _RUN_STRIPES_MIN

    def _look_around(self) -> None:
        """Have earlier stripes protected when a node was lost or lost something."""
        alive = self._alive()
        if self.ledger.changed or alive != self._alive_seen:
            self.ledger.changed = False
            self._alive_seen = alive
            self._protector.add(self.ledger.weak(alive))

    # -- syncs -----------------------------------------------------------------------------------------------

    def _ask_sync(self, node: int) -> None:
        """Ask for a sync of all that the node acknowledged so far, if it still counts."""
        if node not in self.ledger.to_sync():
            return
        sync = self.ledger.sync_asked(node)
        settings = self._context.settings
        late_s = max(self._context.nodes.write_patience_s(node, _SYNC), settings.sync_late_s)
        link = self._context.nodes.link(node)
        if link is None:
            self.ledger.lost(node, sync.incarnation)
            return
        try:
            reply = link.call(_SYNC, wire.encode(sync), None, settings.sync_deadline_s, late_s)
        except LinkError:
            self.ledger.lost(node, sync.incarnation)
        else:
            self._syncs[node] = (sync, reply)

    async def _sync_done(self, node: int) -> None:
        """Wait for the sync that the node was asked for, if any. A failed or late one ends its incarnation for
        us: what it should have covered must be had elsewhere."""
        if node not in self._syncs:
            return
        asked, reply = self._syncs.pop(node)
        try:
            synced = wire.decode_synced((await reply).header)
        except LinkError as error:
            self.ledger.lost(node, asked.incarnation)
            self._avoid[node] = self.stripes + _RUN_STRIPES_MIN
            if isinstance(error, CallLate):
                self._late[node] = error.reply
            return
        if synced.incarnation == asked.incarnation and synced.position >= asked.position:
            self.ledger.synced(node, asked.incarnation, synced.position)
        else:
            self.ledger.lost(node, asked.incarnation)

    async def _sync_all(self) -> None:
        """Cover every acknowledged copy by a sync, or lose it (S1)."""
        while nodes := self.ledger.to_sync():
            for node in nodes:
                if node not in self._syncs:
                    self._ask_sync(node)
            for node in list(self._syncs):
                await self._sync_done(node)

    async def _finish(self) -> None:
        """Returns when every stripe is durable and survives the loss of any one node that is not down now."""
        clock = asyncio.get_running_loop().time
        fewest, since_s = self.stripes + 1, clock()
        while True:
            await self._sync_all()
            weak = self.ledger.weak(self._alive())
            if not weak:
                self.ledger.keep_only({node.number for node in self._context.nodes.nodes})
                return
            if len(weak) < fewest:
                fewest, since_s = len(weak), clock()
            elif clock() - since_s > self._context.settings.rescue_s_max:
                raise Unprotected(f"{len(weak)} stripes: {self._protector.failure}")
            else:
                await asyncio.sleep(_PAUSE_S)
            self._protector.add(weak)
            await self._protector.drained()

    def _stripe_length(self, number: int) -> int:
        return self._geometry.stripe_length(self.size, number)
