"""Blob ranges as streams of verified bytes: budget, order and read-ahead; `stripe_read` does the rest."""

from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from catalog.model import BlobRow
from cluster.budget import ByteBudget
from cluster.stripe_read import Fault, ReadContext, ReaderSettings, StripeRead
from cluster.topology import NodeSet
from codec.block import Buffer
from codec.erasure import ErasureCode
from codec.geometry import Geometry, StripeSlice


class BlobReader:
    """Opens blobs of any geometry for reading. For one event loop.

    `relocate(blob id)` reads a blob's layout again, None when it is gone (S21). `on_fault` hears of blocks
    found missing or corrupt; it must not raise or block. `budget` must be another one than the writer's:
    a copy reads and writes at once, and must not wait for itself.
    """

    def __init__(
        self,
        nodes: NodeSet,
        budget: ByteBudget,
        relocate: Callable[[bytes], Awaitable[BlobRow | None]],
        on_fault: Callable[[Fault], None],
        settings: ReaderSettings | None = None,
    ) -> None:
        self.settings: Final = settings or ReaderSettings()
        self._context = ReadContext(nodes, relocate, on_fault, self.settings)
        self._budget = budget
        self._codes: dict[tuple[int, int, int], ErasureCode] = {}  # as many as there were policies

    def open(self, blob: BlobRow, start: int, stop: int) -> "BlobStream":
        """A stream of the bytes `[start, stop)` of a blob with stripes of its own (not a manifest).

        Nothing is asked for before the first `next`. The caller closes it.
        """
        assert blob.manifest is None, "a composite blob is read part by part"
        shape = (blob.k, blob.m, blob.stripe_bytes)
        code = self._codes.get(shape)
        if code is None:
            code = self._codes[shape] = ErasureCode(Geometry(*shape))
        pieces: Iterator[StripeSlice] = code.geometry.stripe_slices(blob.size, start, stop)
        return BlobStream(self._context, self._budget, code, blob, pieces)


class BlobStream:
    """One range on its way to one client. Holds budget for the stripe handed out and those read ahead."""

    __slots__ = (
        *("_ahead", "_blob", "_budget", "_code", "_context"),
        *("_held_bytes", "_piece", "_pieces", "_started"),
    )

    def __init__(
        self,
        context: ReadContext,
        budget: ByteBudget,
        code: ErasureCode,
        blob: BlobRow,
        pieces: Iterator[StripeSlice],
    ) -> None:
        self._context = context
        self._budget = budget
        self._code = code
        self._blob = blob
        self._pieces = pieces
        self._piece = next(pieces, None)  # the first one not asked for yet
        self._ahead: deque[StripeRead] = deque()
        self._held_bytes = 0
        self._started = False

    async def next(self) -> list[Buffer] | None:
        """The bytes of the next stripe in order, None at the end; all of them verified (P3).

        They are the caller's until it calls again or closes: then their budget is given back. Raises
        BlobUnreadable, BudgetFull; after that, or a cancellation, only `close` may follow.
        """
        self._release()
        if self._ahead:
            read = self._ahead.popleft()
            self._held_bytes = read.held_bytes
        else:
            piece = self._piece
            if piece is None:
                return None
            size = piece.stop - piece.start
            if not self._budget.try_acquire(size):
                await self._budget.acquire(size)  # holds nothing: two streams can't wait for each other
            self._held_bytes = size
            read = self._ask()
        if self._started:
            self._read_ahead()
            return await read.result()
        buffers = await read.result()  # the first stripe alone decides whether the blob can be read at all
        self._started = True
        self._read_ahead()
        return buffers

    def close(self) -> None:
        """Give the budget back; replies still under way are dropped when they come. May be called twice."""
        self._release()
        while self._ahead:
            self._budget.release(self._ahead.popleft().held_bytes)
        self._piece = None

    def _ask(self) -> StripeRead:
        """Ask for the first stripe not asked for yet; its budget is taken."""
        piece = self._piece
        assert piece is not None
        self._piece = next(self._pieces, None)
        return StripeRead(self._context, self._code, self._blob, piece)

    def _read_ahead(self) -> None:
        """Ask for more stripes as far as the window and the free budget go; never waits."""
        window = self._context.settings.window_stripes
        while (piece := self._piece) is not None and len(self._ahead) < window:
            if not self._budget.try_acquire(piece.stop - piece.start):
                return
            self._ahead.append(self._ask())

    def _release(self) -> None:
        held, self._held_bytes = self._held_bytes, 0
        if held:
            self._budget.release(held)
