"""Object lock: what may not be removed, whoever asks (S26). Every way that removes a version comes through here."""

from __future__ import annotations

from catalog.errors import ObjectLocked
from catalog.model import Attributes
from catalog.transaction import Transaction

GOVERNANCE = "GOVERNANCE"
COMPLIANCE = "COMPLIANCE"


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
