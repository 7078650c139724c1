"""Object lock: what may not be removed, whoever asks (S26). Every way that removes a version comes through here."""

from __future__ import annotations

from catalog.errors import ObjectLocked
from catalog.model import Attributes, LockConfiguration, Retention
from catalog.transaction import Transaction

GOVERNANCE = "GOVERNANCE"
COMPLIANCE = "COMPLIANCE"

_DAY_MS = 86_400_000
_YEAR_DAYS = 365


def default_retention(tx: Transaction, lock: LockConfiguration | None) -> Retention | None:
    """What the bucket's lock does to a new version that brings no retention of its own. Counted from the later of both
    clocks, so that a wall clock that was set back shortens nothing."""
    if lock is None or lock.mode is None:
        return None
    days = lock.days if lock.days is not None else (lock.years or 0) * _YEAR_DAYS
    return Retention(lock.mode, max(tx.now_ms, tx.meta.clock_ms) + days * _DAY_MS)


def check_removable(tx: Transaction, attributes: Attributes, *, bypass_governance: bool) -> None:
    """Raise ObjectLocked while a version with these attributes is under legal hold or retention. Only retention of
    mode GOVERNANCE yields to `bypass_governance`. Time is the lock clock's."""
    if attributes.legal_hold:
        raise ObjectLocked("the version is under legal hold")
    retention = attributes.retention
    if retention is None or retention.until_ms <= tx.meta.clock_ms:
        return
    if not (bypass_governance and retention.mode == GOVERNANCE):
        raise ObjectLocked(f"the version is retained in mode {retention.mode}")
