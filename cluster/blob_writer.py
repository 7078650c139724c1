"""A body becomes durable: stripes → shards → nodes → a receipt (P1, P2, S1, S9, S10).

`write_one` is the hot path: one stripe, one round of puts, no task. `StripeWrite` takes over when one of
them meets trouble; `Upload` is a body of any length.
"""

import os
from collections.abc import AsyncIterator, Callable, Collection, Iterable

from catalog.model import Run
from cluster.budget import ByteBudget
from cluster.errors import LinkError, NotEnoughNodes, Unprotected, WriteFailed
from cluster.placement import Copy, fresh_layout, packed
from cluster.receipt import Receipt
from cluster.stripe_write import HedgeAllowance, Sent, Stripe, StripeWrite, WriteContext, WriterSettings
from cluster.topology import NodeSet
from cluster.upload import Upload
from codec.erasure import ErasureCode
from codec.geometry import Geometry

__all__ = ["BlobIds", "BlobWriter", "WriterSettings"]


class BlobIds:
    """Makes blob ids: upload epoch u32, counter u32 (both big-endian), random u64 (S15).

    Ids made one after another lie side by side in an index; the random part keeps processes apart, also
    one that starts its counter again. `random(n)` returns n unpredictable bytes.
    """

    def __init__(self, random: Callable[[int], bytes] = os.urandom) -> None:
        self._random = random
        self._counter = 0
        self._pool = b""

    def new(self, epoch: int) -> bytes:
        """A new id within an upload epoch (S19)."""
        if not self._pool:
            self._pool = self._random(1024)
        random, self._pool = self._pool[:8], self._pool[8:]
        self._counter = counter = (self._counter + 1) & 0xFFFFFFFF
        return (epoch << 32 | counter).to_bytes(8, "big") + random


class BlobWriter:
    """Writes blobs of one geometry. Knows nothing of names, keys or the catalog.

    What is receipted is durable, and survives the loss of any one node that is not down already. Memory: the
    budget bounds the stripes of all writes together; what late nodes still owe is bounded by their links
    (S10). For one event loop.
    """

    def __init__(
        self,
        nodes: NodeSet,
        geometry: Geometry,
        budget: ByteBudget,
        ids: BlobIds,
        settings: WriterSettings | None = None,
        *,
        on_abandoned: Callable[[Receipt], None] | None = None,
    ) -> None:
        """`on_abandoned` hears of each blob that may lie on nodes and of which the caller got no receipt and
        no WriteFailed: its write was cancelled, or its body raised. It is garbage (S11)."""
        self.geometry = geometry
        self.settings = settings or WriterSettings()
        self._nodes = nodes
        self._context = WriteContext(nodes, ErasureCode(geometry), self.settings, HedgeAllowance())
        self._budget = budget
        self._ids = ids
        self._on_abandoned = on_abandoned

    async def write_one(self, stripe: bytes, *, epoch: int) -> Receipt:
        """Make a blob of at most one stripe durable: one round, append and sync together, when all is well.

        The caller holds the budget for `stripe`, which is in memory already. An empty blob costs no I/O.
        Nodes that are restarted one after the other may be missed for a moment: it is waited for.
        Raises NotEnoughNodes, WriteFailed.
        """
        blob_id = self._ids.new(epoch)
        if not stripe:
            return self._receipt(blob_id, 0, 0)
        context = self._context
        geometry = self.geometry
        nodes = self._nodes.for_write(geometry.width)
        if len(nodes) < 2:
            nodes = await self._nodes.back_for_write(geometry.width, context.settings.rescue_s_max)
        if len(nodes) < 2:
            raise NotEnoughNodes(len(nodes), 2)
        layout = fresh_layout(blob_id, nodes, geometry.k, geometry.m)
        work = Stripe(blob_id, 0, len(stripe), context.code.encode(stripe), True)
        attempted: Collection[Copy] = layout
        try:
            sent = self._send(work, layout)
            if await _all_acknowledged(sent) and len(sent) == len(layout) and self._all_up(layout):
                context.hedges.earn(len(sent), len(stripe))
                if len(layout) == geometry.width:  # each shard once, in order
                    return self._receipt(blob_id, len(stripe), 1, tuple([node for _, node in layout]))
                return self._receipt_of_one(work, layout)
            rescue = StripeWrite(context, work, sent)
            attempted = rescue.attempted
            await rescue.run(context.settings.rescue_s_max)
        except Unprotected as error:
            receipt = self._receipt_of_one(work, attempted) if attempted else None
            raise WriteFailed(f"blob {blob_id.hex()}: {error}", receipt) from error
        except BaseException:
            self._abandon(self._receipt_of_one(work, attempted))
            raise
        return self._receipt_of_one(work, rescue.acked)

    def _send(self, stripe: Stripe, layout: tuple[Copy, ...]) -> list[Sent]:
        """Send one stripe's copies; stops at the first that a link refuses."""
        sent: list[Sent] = []
        patience_s = self._nodes.write_patience_s
        try:
            for copy in layout:
                sent.append(stripe.send(self._context, copy, patience_s(copy[1])))
        except LinkError:
            pass  # the caller sees that some are missing
        return sent

    def _all_up(self, layout: tuple[Copy, ...]) -> bool:
        """True while no node has died behind its acknowledgement."""
        link = self._nodes.link
        for _, node in layout:
            to = link(node)
            if to is None or not to.up:
                return False
        return True

    async def write(self, stripes: AsyncIterator[bytes], *, epoch: int, size_hint: int = -1) -> Receipt:
        """Make a blob of any length durable.

        Each item of `stripes` has exactly `geometry.stripe_bytes` bytes, but the last may be short; the
        budget for it is taken before it is asked for. `size_hint` is the blob's length, or -1: a short blob
        then takes less of the budget and saves the separate sync. Nodes may die, freeze, restart and come
        back meanwhile. Returns when every copy in the receipt is covered by a successful sync in one
        incarnation of its node (S1), and every stripe survives the loss of any one node that is not down now
        (S9). Raises NotEnoughNodes, WriteFailed, BudgetFull, and whatever `stripes` raises.
        """
        upload = Upload(self._context, self._budget, self._ids.new(epoch), size_hint)
        try:
            try:
                await upload.run(stripes)
            finally:
                await upload.close()
        except (LinkError, Unprotected) as error:
            reason = f"blob {upload.blob_id.hex()}: {error}"
            raise WriteFailed(reason, self._receipt_sent(upload) if upload.stripes else None) from error
        except BaseException:
            if upload.stripes:
                self._abandon(self._receipt_sent(upload))
            raise
        return self._receipt_of(upload, upload.ledger.layout())

    def _receipt_sent(self, upload: Upload) -> Receipt:
        """All that may lie anywhere."""
        return self._receipt_of(upload, upload.ledger.layout_sent())

    def _receipt_of(self, upload: Upload, runs: list[Run]) -> Receipt:
        nodes = runs[0].nodes if runs else ()
        return self._receipt(upload.blob_id, upload.size, upload.stripes, nodes, tuple(runs[1:]))

    def _receipt_of_one(self, stripe: Stripe, copies: Iterable[Copy]) -> Receipt:
        return self._receipt(stripe.blob_id, stripe.length, 1, packed(copies, self.geometry.width))

    def _receipt(
        self,
        blob_id: bytes,
        size: int,
        stripes: int,
        nodes: tuple[int, ...] = (),
        runs: tuple[Run, ...] = (),
    ) -> Receipt:
        geometry = self.geometry
        return Receipt(blob_id, size, geometry.k, geometry.m, geometry.stripe_bytes, nodes, stripes, runs)

    def _abandon(self, receipt: Receipt) -> None:
        if self._on_abandoned is not None:
            self._on_abandoned(receipt)


async def _all_acknowledged(sent: list[Sent]) -> bool:
    """False as soon as one of the replies, awaited in turn, is late or an error."""
    try:
        for _, reply in sent:
            await reply
    except LinkError:
        return False  # looked at again, one by one, by StripeWrite
    return True
