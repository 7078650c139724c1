"""The short form of `make chaos`: P1-P4 with faults on a real store; a longer run is a make target."""

from __future__ import annotations

from tests.chaos.run import chaos

SEED = 4
SECONDS = 6.0


def test_p1_p2_p3_p4_hold_under_random_faults() -> None:
    """Nothing acknowledged is missing, nothing read was never written, and all of it is fully redundant in the end."""
    with chaos(SEED, clients=4, keys=24, say=print) as run:
        outcome = run.run(SECONDS)
    print("\n".join(outcome.lines()))
    assert not outcome.losses
    assert outcome.operations["put"] > 50
    assert outcome.faults
    # One node at a time is in trouble: only the death of a front may be seen by a client.
    seen = {kind: count for kind, count in outcome.failed_requests.items() if "front" not in kind}
    assert not seen, f"requests failed without a front's death: {seen}"
