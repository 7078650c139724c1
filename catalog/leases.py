"""The steward's lease (S22), and what only its holder moves: term (S18), upload epoch and horizon (S19)."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from catalog import schema
from catalog.errors import LeaseLost
from catalog.model import Lease, Meta
from catalog.statement import Reader, Statement, constant, parameter
from catalog.transaction import Transaction

STEWARD = "steward"

_leases = schema.leases
_meta = schema.meta

_READ = Statement(
    sa.select(_leases.c.name, _leases.c.holder, _leases.c.counter).where(
        _leases.c.name == parameter("p_name")
    ),
    "p_name",
)
_INSERT = Statement(sa.insert(_leases), "name", "counter", "holder")
_WRITE = Statement(
    sa.update(_leases)
    .values(counter=_leases.c.counter + constant("1"), holder=parameter("n_holder"))
    .where(_leases.c.name == parameter("p_name")),
    "n_holder",
    "p_name",
)
_RAISE_TERM = Statement(sa.update(_meta).values(term=_meta.c.term + constant("1")))
_RAISE_EPOCH = Statement(sa.update(_meta).values(upload_epoch=_meta.c.upload_epoch + constant("1")))
_ALLOW_ORPHANS = Statement(sa.update(_meta).values(orphans_allowed=constant("1")))
_SET_HORIZON = Statement(sa.update(_meta).values(collect_horizon=parameter("n_horizon")), "n_horizon")


class LeaseWatch:
    """An observer's judgement of one lease: it has expired when its counter stood still for `expiry_s` of the
    observer's own monotonic clock. Wall clocks of two machines are never compared (S22)."""

    def __init__(self, monotonic: Callable[[], float], expiry_s: float) -> None:
        self._monotonic = monotonic
        self._expiry_s = expiry_s
        self._counter: int | None = None
        self._since = 0.0

    def expired(self, lease: Lease) -> bool:
        """Look at the lease as just read. True: it may be acquired with this very counter."""
        if lease.holder is None:
            return True
        now = self._monotonic()
        if lease.counter != self._counter:
            self._counter, self._since = lease.counter, now
        return now - self._since >= self._expiry_s


def read(reader: Reader, name: str = STEWARD) -> Lease:
    """The lease as it is; one that never was has counter 0 and no holder."""
    row = reader.row(_READ, (name,))
    return Lease(name, None, 0) if row is None else Lease(*row)


def acquire(tx: Transaction, holder: str, *, seen: Lease) -> tuple[Lease, Meta]:
    """Take a lease that a LeaseWatch found expired as `seen`. The catalog's term rises with each change of
    hands (S18). Raises LeaseLost when it moved since."""
    if read(tx, seen.name) != seen:
        raise LeaseLost(f"lease {seen.name} was renewed or taken meanwhile")
    if tx.execute(_WRITE, (holder, seen.name)) != 1:
        tx.execute(_INSERT, (seen.name, 1, holder))
    tx.execute(_RAISE_TERM)
    tx.meta_changed()
    return Lease(seen.name, holder, seen.counter + 1), tx.meta


def renew(tx: Transaction, lease: Lease) -> Lease:
    """Show that the holder lives. Raises LeaseLost: then stop at once."""
    check(tx, lease)
    tx.execute(_WRITE, (lease.holder, lease.name))
    return Lease(lease.name, lease.holder, lease.counter + 1)


def check(tx: Transaction, lease: Lease) -> None:
    """To be called first in transactions that only the holder may make. Raises LeaseLost."""
    if read(tx, lease.name) != lease:
        raise LeaseLost(f"lease {lease.name} is no longer held")


def release(tx: Transaction, lease: Lease) -> None:
    """Give the lease back, so that the next holder need not wait. Raises LeaseLost."""
    check(tx, lease)
    tx.execute(_WRITE, (None, lease.name))


def advance_epoch(tx: Transaction) -> int:
    """Begin a new upload epoch (S19). Fronts see it at their next request."""
    tx.execute(_RAISE_EPOCH)
    tx.touch_configuration()
    return tx.meta.upload_epoch


def set_horizon(tx: Transaction, epoch: int) -> None:
    """From the commit of this on, blobs of `epoch` or older are refused (S19): only now take inventory of
    orphans that old. Never moves back, and stays below the current epoch."""
    if not tx.meta.collect_horizon <= epoch < tx.meta.upload_epoch:
        raise ValueError(
            f"horizon {epoch} is not between {tx.meta.collect_horizon} and {tx.meta.upload_epoch}"
        )
    tx.execute(_SET_HORIZON, (epoch,))
    tx.meta_changed()


def allow_orphans(tx: Transaction) -> None:
    """An operator accepts that blocks which this catalog does not know are deleted: what a restore had
    stopped goes on (S18)."""
    tx.execute(_ALLOW_ORPHANS)
    tx.touch_configuration()
