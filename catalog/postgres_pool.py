"""Reads on PostgreSQL, each in a thread with a connection of its own: the loop never waits for a round trip."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from catalog.errors import CatalogBusy, CatalogFailed
from catalog.postgres import DriverError, Link
from catalog.statement import Reader

T = TypeVar("T")


class _Job(Generic[T]):
    __slots__ = ("error", "function", "future", "link", "value")

    def __init__(self, function: Callable[[Reader], T], future: asyncio.Future[None]) -> None:
        self.function = function
        self.future = future
        self.link: Link | None = None
        self.value: T | None = None
        self.error: Exception | None = None

    def sever(self) -> None:
        """It takes too long: in the queue, or for want of an answer."""
        if self.link is not None:
            self.link.sever()
        elif not self.future.done():
            self.future.set_exception(CatalogBusy("the catalog's database was not asked in time"))

    def deliver(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(None)


class PostgresPool:
    """Owned by the loop it was made on; a thread for each link. `snapshots`: whether all that a function reads is of
    one moment, or each statement of its own. What has no answer within `answer_wait_s` is given up."""

    def __init__(
        self, links: Sequence[Link], *, snapshots: bool, waiting_max: int, answer_wait_s: float
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self.links = links
        self._snapshots = snapshots
        self._waiting_max = waiting_max
        self._answer_wait_s = answer_wait_s
        self._under_way = 0
        self._threads = [
            threading.Thread(target=self._serve, args=(link,), name=f"catalog-reader-{number}", daemon=True)
            for number, link in enumerate(links)
        ]
        for thread in self._threads:
            thread.start()

    async def run(self, function: Callable[[Reader], T]) -> T:
        """The function's result. Raises what it raises; CatalogBusy when too many wait (P8) or the database is out
        of reach; CatalogFailed."""
        if self._under_way >= self._waiting_max:
            raise CatalogBusy("too many reads wait for the catalog")
        job = _Job(function, self._loop.create_future())
        timer = self._loop.call_later(self._answer_wait_s, job.sever)
        self._under_way += 1
        try:
            self._jobs.put(job)
            await job.future
        finally:
            timer.cancel()
            self._under_way -= 1
        return job.value  # type: ignore[return-value]

    def close(self) -> None:
        """End the threads once their jobs are done, and their connections."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _serve(self, link: Link) -> None:
        while (job := self._jobs.get()) is not None:
            if job.future.done():
                continue
            job.link = link
            try:
                job.value = self._answer(link, job.function)
            except Exception as error:  # noqa: BLE001 - the caller's own, raised on the loop
                job.error = error
            job.link = None
            try:
                self._loop.call_soon_threadsafe(job.deliver)
            except RuntimeError:
                break  # the loop was closed under us: nobody waits any more
        link.drop()

    def _answer(self, link: Link, function: Callable[[Reader], T]) -> T:
        """Raises CatalogBusy, CatalogFailed and what the function raises. A connection that was lost while nobody used
        it is noticed by its first statement, and that one is tried again."""
        begun = False

        def run(reader: Reader) -> T:
            nonlocal begun
            if not self._snapshots:
                return function(reader)
            with reader.snapshot():
                begun = True
                return function(reader)

        try:
            try:
                return run(link.reader())
            except DriverError as error:
                if begun or link.severed or not link.is_lost(error):
                    raise
                link.drop()
                return run(link.reader())
        except DriverError as error:
            if link.is_lost(error):
                link.drop()
                raise CatalogBusy("the connection to the catalog's database was lost") from error
            raise CatalogFailed(str(error)) from error
