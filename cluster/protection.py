"""Protects stripes of an upload again whose copies a node has lost, while the upload goes on (S9)."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from cluster import shard_io
from cluster.budget import ByteBudget
from cluster.errors import BudgetFull, Unprotected
from cluster.ledger import Ledger
from cluster.placement import Copy, survives_any_loss
from cluster.stripe_write import Stripe, StripeWrite, WriteContext

_WORKERS: Final = 4  # stripes at once


class Protector:
    """Reads weak stripes back, verified, and writes further copies. For one upload; owned by it: `close`.

    Memory comes from the upload's budget, taken by a task that holds none of it. A stripe that can't be
    helped now stays weak, for its owner to notice; `failure` says why.
    """

    def __init__(
        self,
        context: WriteContext,
        budget: ByteBudget,
        ledger: Ledger,
        blob_id: bytes,
        *,
        stripe_length: Callable[[int], int],
        alive: Callable[[], set[int]],
        note: Callable[[StripeWrite], None],
    ) -> None:
        """`note` hears of each write, for its late and failed nodes."""
        self.failure = ""
        self._context = context
        self._budget = budget
        self._ledger = ledger
        self._blob_id = blob_id
        self._stripe_length = stripe_length
        self._alive = alive
        self._note = note
        self._waiting: deque[int] = deque()
        self._known: set[int] = set()  # waiting or in work
        self._workers: set[asyncio.Task[None]] = set()

    def add(self, stripes: Iterable[int]) -> None:
        """Protect these; returns at once."""
        new = [stripe for stripe in stripes if stripe not in self._known]
        self._known.update(new)
        self._waiting.extend(new)
        for _ in range(min(_WORKERS - len(self._workers), len(self._waiting))):
            worker = asyncio.create_task(self._work(), name="upload protection")
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def drained(self) -> None:
        """Wait until each stripe added was looked at. Raises what is no fault of nodes or memory."""
        while self._workers:
            await asyncio.gather(*self._workers)

    async def close(self) -> None:
        """Stop; what was sent is in the ledger when this returns."""
        workers = list(self._workers)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self) -> None:
        while self._waiting:
            stripe = self._waiting.popleft()
            length = self._stripe_length(stripe)
            room = min(2 * length, self._budget.total_bytes)  # the blocks read, and the stripe made of them
            try:
                await self._budget.acquire(room)
                try:
                    await self._protect(stripe, length)
                finally:
                    self._budget.release(room)
            except (Unprotected, BudgetFull) as error:
                self.failure = str(error)
            finally:
                self._known.discard(stripe)

    async def _protect(self, number: int, length: int) -> None:
        """Raises Unprotected."""
        context, ledger = self._context, self._ledger
        code = context.code
        k = code.geometry.k
        copies = ledger.copies(number)
        alive = self._alive()
        if survives_any_loss(k, copies, alive):
            return  # a node came back meanwhile
        order = sorted(copies, key=lambda copy: (copy[1] not in alive, copy))
        deadline_s = context.settings.put_deadline_s
        fetched = await shard_io.fetch(context.nodes, code, self._blob_id, number, length, order, deadline_s)
        if len(fetched.blocks) < k:
            raise Unprotected(f"{len(fetched.blocks)} of {k} shards of stripe {number} can be read back")
        shards = code.encode(code.decode(list(fetched.blocks.values()), length))
        for shard, node, _ in fetched.bad:
            ledger.bad(number, (shard, node))
        stripe = Stripe(self._blob_id, number, length, shards, sync=True)
        write = StripeWrite(
            context,
            stripe,
            (),
            held=self._held(number, fetched),
            late_s_min=context.settings.stream_late_s,
        )
        try:
            await write.run()
        finally:
            ledger.sent(number, write.attempted)
            for copy in write.acked:
                ledger.durable(number, copy)
            self._note(write)

    def _held(self, number: int, fetched: shard_io.Fetched) -> set[Copy]:
        """Copies that still count now, and that nothing speaks against."""
        alive = self._alive()
        doubtful = {(shard, node) for shard, node, _ in fetched.bad}.union(fetched.unreached)
        return {copy for copy in self._ledger.copies(number) if copy[1] in alive} - doubtful
