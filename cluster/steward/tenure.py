"""One holding of the steward's lease (S22): every change the steward makes goes through it."""

import contextlib
import logging
import math
import time
from collections.abc import Callable
from typing import TypeVar

from catalog import leases
from catalog.engine import Catalog
from catalog.errors import CatalogError, LeaseLost
from catalog.model import Lease, Meta
from catalog.transaction import Transaction

log = logging.getLogger(__name__)
T = TypeVar("T")


class Tenure:
    """From taking the lease until losing or releasing it. `holder` is unique to it, so a transaction that
    finds it in the lease row knows that nobody else took over; the counter only shows others that we live.

    Transactions are safe by that, and deletes on nodes by the term (S18). What needs neither, reading and copying, is
    stopped in time by our own clock: another steward waits `expiry_s` from a renewal that it saw, and we no longer than
    that from one that we asked for.
    """

    def __init__(
        self,
        catalog: Catalog,
        holder: str,
        meta: Meta,
        *,
        asked_s: float,
        expiry_s: float,
        monotonic: Callable[[], float],
    ) -> None:
        self._catalog = catalog
        self._expiry_s = expiry_s
        self._monotonic = monotonic
        self._good_until_s = asked_s + expiry_s
        self.holder = holder
        self.catalog_id = meta.catalog_id
        self.term = meta.term

    @classmethod
    async def begin(
        cls,
        catalog: Catalog,
        holder: str,
        seen: Lease,
        *,
        expiry_s: float = math.inf,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> "Tenure":
        """Take a lease that a LeaseWatch found expired as `seen`; the term rises (S18). Raises LeaseLost."""
        asked_s = monotonic()
        _, meta = await catalog.write(lambda tx: leases.acquire(tx, holder, seen=seen), unshipped=True)
        log.info("steward %s in office, term %d", holder, meta.term)
        return cls(catalog, holder, meta, asked_s=asked_s, expiry_s=expiry_s, monotonic=monotonic)

    async def write(
        self, function: Callable[[Transaction], T], *, frees: bool = False, unshipped: bool = False
    ) -> T:
        """`Catalog.write`, but only while the lease is ours: raises LeaseLost, and then all work must stop."""

        def checked(tx: Transaction) -> T:
            self._check(tx)
            return function(tx)

        return await self._catalog.write(checked, frees=frees, unshipped=unshipped)

    async def renew(self) -> None:
        """Show that we live. Raises LeaseLost."""
        asked_s = self._monotonic()
        await self._catalog.write(lambda tx: leases.renew(tx, self._check(tx)), unshipped=True)
        self._good_until_s = asked_s + self._expiry_s

    def left_s(self) -> float:
        """How long the lease is certainly ours if it is not renewed. Raises LeaseLost when that time is over."""
        left_s = self._good_until_s - self._monotonic()
        if left_s <= 0:
            raise LeaseLost(f"the steward's lease could not be renewed within {self._expiry_s:g} s")
        return left_s

    async def end(self) -> None:
        """Give the lease back, if it is still ours, so that the successor need not wait."""
        with contextlib.suppress(CatalogError):
            await self._catalog.write(lambda tx: leases.release(tx, self._check(tx)), unshipped=True)

    def _check(self, tx: Transaction) -> Lease:
        lease = leases.read(tx)
        if lease.holder != self.holder:
            raise LeaseLost(f"the steward's lease is held by {lease.holder}")
        return lease
