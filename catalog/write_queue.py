"""What waits for a group commit: write requests, and blobs of requests that came to nothing. Each writer has a queue,
which belongs to its loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from msgspec import Struct

from catalog.errors import CatalogBusy
from catalog.model import NewBlob
from catalog.transaction import Transaction
from catalog.write_request import WriteRequest

_ABANDONED_PER_BATCH = 64
ABANDONED_PAUSE_S = 1.0


class QueueSettings(Struct, frozen=True):
    """`wait_s`: a request that no batch has taken up by then is refused. The others are counts."""

    wait_s: float
    waiting_writes_max: int
    batch_writes_max: int
    abandoned_blobs_max: int


class AbandonedBlobs:
    """Blobs that no row will ever name: some are queued as garbage with each batch (S11). What does not fit is left to
    orphan collection."""

    def __init__(self, blobs_max: int, monotonic: Callable[[], float]) -> None:
        self._blobs: deque[NewBlob] = deque()
        self._blobs_max = blobs_max
        self._monotonic = monotonic
        self._due = 0.0

    @property
    def are_due(self) -> bool:
        """Whether there are any for the next batch."""
        return bool(self._blobs) and self._monotonic() >= self._due

    def add(self, blob: NewBlob | None) -> None:
        """Takes none for an answer: a request that has no blob."""
        if blob is not None and len(self._blobs) < self._blobs_max:
            self._blobs.append(blob)

    def first(self) -> list[NewBlob]:
        """Those for this batch. They stay until they are `cleared`; a second loss costs nothing."""
        return list(islice(self._blobs, _ABANDONED_PER_BATCH)) if self.are_due else []

    def cleared(self, count: int) -> list[NewBlob]:
        """So many of the first are queued as garbage, durably, or can't be: which."""
        return [self._blobs.popleft() for _ in range(count)]

    def pause(self) -> None:
        """They may be what does not fit: they must neither fail every batch nor be tried without a pause."""
        self._due = self._monotonic() + ABANDONED_PAUSE_S

    def hurry(self) -> None:
        """End the pause."""
        self._due = 0.0


class WriteQueue:
    """Requests that no batch has taken up yet. `too_late` is said to those that waited too long."""

    def __init__(
        self,
        settings: QueueSettings,
        *,
        too_late: str,
        monotonic: Callable[[], float],
    ) -> None:
        self._settings = settings
        self.abandoned = AbandonedBlobs(settings.abandoned_blobs_max, monotonic)
        self._too_late = too_late
        self._monotonic = monotonic
        self._loop = asyncio.get_running_loop()
        self._requests: deque[WriteRequest] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._held = False

    def __len__(self) -> int:
        return len(self._requests)

    def add(
        self,
        function: Callable[[Transaction], Any],
        blob: NewBlob | None,
        *,
        frees: bool,
        unshipped: bool = False,
    ) -> WriteRequest:
        """A new one, see `Catalog.write`. Raises CatalogBusy when too many wait (P8)."""
        if len(self._requests) >= self._settings.waiting_writes_max:
            self.abandoned.add(blob)
            raise CatalogBusy("too many writes wait for the catalog")
        request = WriteRequest(
            function,
            blob=blob,
            frees=frees,
            unshipped=unshipped,
            future=self._loop.create_future(),
            deadline=self._monotonic() + self._settings.wait_s,
        )
        self._requests.append(request)
        return request

    def take(self) -> WriteRequest:
        """The oldest one, into a batch."""
        return self._requests.popleft()

    def take_all(self) -> list[WriteRequest]:
        """All of them."""
        taken, self._requests = list(self._requests), deque()
        return taken

    def put_back(self, requests: Sequence[WriteRequest]) -> None:
        """They come first in the next batch."""
        self._requests.extendleft(reversed(requests))

    def watch(self) -> None:
        """From now on who waits too long is refused. Not called while each batch follows at once."""
        if self._timer is None and self._requests:
            wait_s = max(0.0, self._requests[0].deadline - self._monotonic())
            self._timer = self._loop.call_later(wait_s, self._refuse_late)

    def hold(self, held: bool) -> None:
        """While it is held nobody is refused: what is waited for has limits of its own. Afterwards the time of all
        begins anew."""
        if self._held and not held:
            until = self._monotonic() + self._settings.wait_s
            for request in self._requests:
                request.deadline = until
        self._held = held

    def close(self) -> None:
        """Nothing waits any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _refuse_late(self) -> None:
        self._timer = None
        if self._held:
            return
        now = self._monotonic()
        while self._requests and self._requests[0].deadline <= now:
            request = self._requests.popleft()
            request.error = CatalogBusy(self._too_late)
            self.abandoned.add(request.blob)
            request.deliver()
        self.watch()
