"""The profile ``failure``: upload, read, lose a node, read and write without it, recover, read again.

Against an endpoint that is not a store of our own nobody is killed: uploads and verified reads remain.
"""

from __future__ import annotations

import time
from typing import Protocol

from conformance.bench.admin import AdminApi, AdminRefused
from conformance.bench.objects import Objects, objects_of
from conformance.bench.results import Recovery
from conformance.bench.session import Session

REFERENCE_PUT_MEAN_MS = 3.02
REFERENCE_GET_MEAN_MS = 1.08
"""To beat, one operation at a time, durability on, with 100 % success through the failure."""
DEGRADED_SHARE = 5
"""While a node is gone one object is written for each so many that were before."""
RECOVERY_WAIT_S = 900.0
_POLL_S = 0.05


class NodeLoss(Protocol):
    """Who can take a node of the store away for good."""

    def lose_node(self) -> tuple[str, float]:
        """Kills one node's process and takes its data away; its name, and when the kill was (time.perf_counter)."""


class RecoveryFailed(Exception):
    """The store did not become whole again."""


def five_phases(session: Session, loss: NodeLoss | None) -> None:
    """Raises LoadFailed, and RecoveryFailed."""
    objects = objects_of(session.options, "object/")
    session.phase("upload", objects.all_put())
    session.phase("download and verify", objects.all_got())
    if loss is None:
        session.note("the phases with a lost node are left out: this is not a store of the benchmark's own")
        session.phase("verify again", objects.all_got())
        return
    killed: list[tuple[str, float]] = []
    session.event("kill a node", lambda: killed.append(loss.lose_node()))
    node, killed_at = killed[0]
    session.say(f"{node} was killed, and its disk is gone")
    session.phase("read while degraded", objects.all_got())
    late = _written_late(session)
    session.phase("write while degraded", late.all_put())
    session.recovery = session.event("recover", lambda: recover(session, node, killed_at))
    session.phase("verify again", objects.all_got() + late.all_got())


def _written_late(session: Session) -> Objects:
    count = session.options.objects
    return objects_of(session.options, "late/", first_content=count, count=max(1, count // DEGRADED_SHARE))


def recover(session: Session, node: str, killed_at: float) -> Recovery:
    """Has the store recover the node, and waits until it says that every object is whole, which ends the time to
    repair, and that the recovery is done. Raises RecoveryFailed."""
    api = AdminApi(session.endpoint)
    asked_at = time.perf_counter()
    whole_at = 0.0
    try:
        operation = api.post(f"/cluster/recovery/{node}", {"lost": True})
        while not whole_at or operation["state"] == "running":
            time.sleep(_POLL_S)
            operation = api.get(f"/operations/{operation['id']}")
            if operation["state"] not in ("running", "done"):
                raise RecoveryFailed(f"the recovery of {node} {operation['state']}: {operation['detail']}")
            if not whole_at and api.get("/cluster/stats")["redundancy"]["whole"]:
                whole_at = time.perf_counter()
            if time.perf_counter() - asked_at > RECOVERY_WAIT_S:
                raise RecoveryFailed(f"not recovered within {RECOVERY_WAIT_S:g} s: {operation}")
    except AdminRefused as refusal:
        raise RecoveryFailed(str(refusal)) from refusal
    return Recovery(node, whole_at - killed_at, whole_at - asked_at, operation["done"])
