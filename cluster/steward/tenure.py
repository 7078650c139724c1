"""One holding of the steward's lease (S22): every change the steward makes goes through it."""

import contextlib
import logging
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
    """

    def __init__(self, catalog: Catalog, holder: str, meta: Meta) -> None:
        self._catalog = catalog
        self.holder = holder
        self.catalog_id = meta.catalog_id
        self.term = meta.term

    @classmethod
    async def begin(cls, catalog: Catalog, holder: str, seen: Lease) -> "Tenure":
        """Take a lease that a LeaseWatch found expired as `seen`; the term rises (S18). Raises LeaseLost."""
        _, meta = await catalog.write(lambda tx: leases.acquire(tx, holder, seen=seen))
        log.info("steward %s in office, term %d", holder, meta.term)
        return cls(catalog, holder, meta)

    async def write(self, function: Callable[[Transaction], T], *, frees: bool = False) -> T:
        """`Catalog.write`, but only while the lease is ours: raises LeaseLost, and then all work must stop."""

        def checked(tx: Transaction) -> T:
            self._check(tx)
            return function(tx)

        return await self._catalog.write(checked, frees=frees)

    async def renew(self) -> None:
        """Show that we live. Raises LeaseLost."""
        await self._catalog.write(lambda tx: leases.renew(tx, self._check(tx)))

    async def end(self) -> None:
        """Give the lease back, if it is still ours, so that the successor need not wait."""
        with contextlib.suppress(CatalogError):
            await self._catalog.write(lambda tx: leases.release(tx, self._check(tx)))

    def _check(self, tx: Transaction) -> Lease:
        lease = leases.read(tx)
        if lease.holder != self.holder:
            raise LeaseLost(f"the steward's lease is held by {lease.holder}")
        return lease
