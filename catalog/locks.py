"""Object lock: what may not be removed, whoever asks (S26). Every way that removes a version comes through here.

Whether a retention has ended is the lock clock's to say, which only advances (`lock_clock`): the wall clock fills in
the seconds between two of its steps, no more. Until when a new one lasts is counted from the later of both clocks, so
that a wall clock that was set back shortens nothing.
"""

from __future__ import annotations

from catalog.bucket_model import LockConfiguration
from catalog.errors import ObjectLocked
from catalog.model import Attributes, Retention
from catalog.transaction import Transaction

GOVERNANCE = "GOVERNANCE"
COMPLIANCE = "COMPLIANCE"
MODES = (GOVERNANCE, COMPLIANCE)

BETWEEN_STEPS_MS_MAX = 15_000
"""How far the wall clock is believed beyond the last step of the lock clock, which has one about every 10 s."""

_DAY_MS = 86_400_000
_YEAR_DAYS = 365


def ended_before_ms(tx: Transaction) -> int:
    """Retention until this moment, or an earlier one, has ended."""
    clock_ms = tx.meta.clock_ms
    return max(clock_ms, min(tx.now_ms, clock_ms + BETWEEN_STEPS_MS_MAX))


def latest_clock_ms(tx: Transaction) -> int:
    """The later of wall clock and lock clock: what must lie ahead lies ahead of this."""
    return max(tx.now_ms, tx.meta.clock_ms)


def default_retention(tx: Transaction, lock: LockConfiguration | None) -> Retention | None:
    """What the bucket's lock does to a new version that brings no retention of its own."""
    if lock is None or lock.mode is None:
        return None
    days = lock.days if lock.days is not None else (lock.years or 0) * _YEAR_DAYS
    return Retention(lock.mode, latest_clock_ms(tx) + days * _DAY_MS)


def check_removable(tx: Transaction, attributes: Attributes, *, bypass_governance: bool) -> None:
    """Raise ObjectLocked while a version with these attributes is under legal hold or retention. Only retention of
    mode GOVERNANCE yields to `bypass_governance`."""
    if attributes.legal_hold:
        raise ObjectLocked("the version is under legal hold")
    retention = attributes.retention
    if retention is None or retention.until_ms <= ended_before_ms(tx):
        return
    if not (bypass_governance and retention.mode == GOVERNANCE):
        raise ObjectLocked(f"the version is retained in mode {retention.mode}")


def check_change(
    tx: Transaction, old: Retention | None, new: Retention | None, *, bypass_governance: bool
) -> None:
    """Raise ObjectLocked unless a version's retention may become `new` (None: end). One that has not ended may always
    be extended in its mode; anything else only one of mode GOVERNANCE may, and by `bypass_governance`."""
    if old is None or old.until_ms <= ended_before_ms(tx):
        return
    if new is not None and new.mode == old.mode and new.until_ms >= old.until_ms:
        return
    if not (bypass_governance and old.mode == GOVERNANCE):
        raise ObjectLocked(f"retention in mode {old.mode} can only be extended")
