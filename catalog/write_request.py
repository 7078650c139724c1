"""One write that waits for its batch, and its answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from catalog import work
from catalog.errors import CatalogBusy, CatalogError, CatalogFailed, CatalogFull, CommitUnknown
from catalog.model import NewBlob
from catalog.transaction import Transaction

log = logging.getLogger(__name__)


class WriteRequest:
    """`blob` is what the request would commit and the writer must clear away if it does not (S11); `unshipped`: it is
    answered before the storage nodes have its batch (S17)."""

    __slots__ = ("blob", "deadline", "error", "frees", "function", "future", "retried", "unshipped", "value")

    def __init__(
        self,
        function: Callable[[Transaction], Any],
        *,
        blob: NewBlob | None,
        frees: bool,
        future: asyncio.Future[Any],
        deadline: float,
        unshipped: bool = False,
    ) -> None:
        self.function = function
        self.blob = blob
        self.frees = frees
        self.unshipped = unshipped
        self.future = future
        self.deadline = deadline
        self.retried = False
        self.value: Any = None
        self.error: Exception | None = None

    def deliver(self) -> None:
        """Answer the caller; one that was cancelled has its outcome all the same (S11)."""
        if self.future.done():
            if self.error is not None and not isinstance(self.error, CatalogError):
                log.error("a transaction failed that nobody waits for any more", exc_info=self.error)
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.value)

    def lose(self, error: BaseException) -> None:
        """It is committed, and the storage nodes may not have it (S17): neither success nor failure, and a refusal
        may rest on what is not there after a loss of the catalog."""
        if self.error is None:
            self.error = CommitUnknown(str(error))
        else:
            self.error = CatalogBusy(str(error))
        self.error.__cause__ = error
        self.deliver()


def clearing(blob: NewBlob, future: asyncio.Future[Any]) -> WriteRequest:
    """Queues a blob as garbage that no row names. Nobody waits for it: its future is of no use."""
    return WriteRequest(
        partial(work.abandon, blob=blob), blob=None, frees=True, unshipped=True, future=future, deadline=0.0
    )


def batch_error(error: Exception, *, full: bool) -> CatalogError:
    """What a failure of the database is to those whose request it undid."""
    wrapped = CatalogFull("the catalog's disk is full") if full else CatalogFailed(str(error))
    wrapped.__cause__ = error
    return wrapped
