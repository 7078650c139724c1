"""Scans in threads (S16), each on a connection of its own.

The loop waits for a scan for up to a couple of milliseconds before it goes on without: a page from memory is
ready by then, and a thread beside a busy loop would otherwise wait for the GIL after every row (side_thread.py).
A slow disk so costs the loop that wait, not the scan.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from catalog.errors import CatalogBusy, CatalogFailed
from catalog.sqlite import DriverError
from catalog.statement import Reader

T = TypeVar("T")

_PATIENCE_S = 0.002
_LEND_S = 0.0003
_LEND_EVERY_S = 0.002


class _Job(Generic[T]):
    __slots__ = ("done", "error", "function", "future", "value")

    def __init__(self, function: Callable[[Reader], T]) -> None:
        self.function = function
        self.value: T | None = None
        self.error: Exception | None = None
        self.future: asyncio.Future[T] | None = None
        self.done = threading.Lock()
        self.done.acquire()


class ReadPool:
    """Owned by the loop it was made on; a thread for each reader."""

    def __init__(self, readers: Sequence[Reader], *, waiting_max: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._waiting_max = waiting_max
        self._under_way = 0
        self._overdue: deque[_Job[Any]] = deque()
        self._lent = 0.0
        self._threads = [
            threading.Thread(target=self._serve, args=(reader,), name=f"catalog-reader-{number}", daemon=True)
            for number, reader in enumerate(readers)
        ]
        for thread in self._threads:
            thread.start()

    async def run(self, function: Callable[[Reader], T]) -> T:
        """The function's result. Raises what it raises; CatalogBusy when too many wait (P8)."""
        if self._under_way >= self._waiting_max:
            raise CatalogBusy("too many scans wait for the catalog")
        job = _Job(function)
        self._under_way += 1
        try:
            self._jobs.put(job)
            patient = self._under_way <= len(self._threads)
            if not (patient and job.done.acquire(timeout=_PATIENCE_S)):
                await self._overdue_end(job)
        finally:
            self._under_way -= 1
        if job.error is not None:
            raise job.error
        return job.value  # type: ignore[return-value]

    async def _overdue_end(self, job: _Job[T]) -> None:
        job.future = self._loop.create_future()
        # The thread looks for the future after it has opened `done`: one of us sees the other.
        if job.done.acquire(blocking=False):
            return
        self._overdue.append(job)
        await job.future

    def settle(self) -> None:
        """To be called often by what runs on the loop: lets overdue scans get on."""
        if not self._overdue:
            return
        now = time.perf_counter()
        if now - self._lent > _LEND_EVERY_S:
            job = self._overdue[0]
            if job.done.acquire(timeout=_LEND_S):
                self._end(job)
            self._lent = time.perf_counter()

    def close(self) -> None:
        """End the threads once their jobs are done. The connections stay the caller's."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _notice(self, job: _Job[Any]) -> None:
        if job.done.acquire(blocking=False):
            self._end(job)

    def _end(self, job: _Job[Any]) -> None:
        if job in self._overdue:
            self._overdue.remove(job)
        if job.future is not None and not job.future.done():
            job.future.set_result(None)

    def _serve(self, reader: Reader) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                with reader.snapshot():
                    job.value = job.function(reader)
            except DriverError as error:
                job.error = CatalogFailed(str(error))
                job.error.__cause__ = error
            except Exception as error:  # noqa: BLE001 - the caller's own, raised on the loop
                job.error = error
            job.done.release()
            if job.future is not None:
                try:
                    self._loop.call_soon_threadsafe(self._notice, job)
                except RuntimeError:
                    return  # the loop was closed under us: nobody waits any more
