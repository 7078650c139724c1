"""P3: bits rot on a node's disk; readers never see it, a scrub finds every block, repair heals them, all is counted."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Callable
from random import Random
from typing import Any

from tests.chaos.faults import flip_bits, frozen
from tests.system.conftest import Store, until
from tests.system.redundancy import below_full_redundancy

MIB = 1 << 20
SIZES = (300, 5000, 70_000, MIB, 3 * MIB + 1)
OBJECTS = 40
FLIPS = 60


def body_of(number: int) -> bytes:
    return hashlib.shake_128(b"%d" % number).digest(SIZES[number % len(SIZES)])


def trivet(store: Store, *words: str) -> Any:
    """What a command of the command line answers as JSON."""
    done = store.trivet(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_p3_rot_on_a_disk_is_found_healed_and_counted(new_store: Callable[..., Store]) -> None:
    """Afterwards each object is read without either of the other nodes, so every block of the rotten one counts. Red
    when `trivet scrub now` compares inventories only, and when repair takes a rotten block for a duplicate (S5)."""
    store = new_store()
    store.start()
    client = store.client()
    client.create_bucket(Bucket="rot")
    for number in range(OBJECTS):
        client.put_object(Bucket="rot", Key=str(number), Body=body_of(number))
    pid = store.pids()["node-2"]
    os.kill(pid, signal.SIGSTOP)  # nothing is written while the bits flip
    flip_bits(store.data / "node-2", Random(5), FLIPS)
    os.kill(pid, signal.SIGCONT)
    for number in range(OBJECTS):
        assert client.get_object(Bucket="rot", Key=str(number))["Body"].read() == body_of(number)
    trivet(store, "scrub", "now")
    until(lambda: _scrubbed(store), "everything was read and compared", 60.0)
    until(lambda: not below_full_redundancy(store), "all is healed", 60.0)
    events = [event["kind"] for event in trivet(store, "events")]
    assert "node-damage" in events
    assert "redundancy-restored" in events
    for other in ("node-1", "node-3"):
        with frozen(store, other):
            for number in range(OBJECTS):
                assert client.get_object(Bucket="rot", Key=str(number))["Body"].read() == body_of(number)
    trivet(store, "scrub", "now")
    until(lambda: _scrubbed(store), "everything was read and compared again", 60.0)
    status = trivet(store, "scrub", "status")
    assert (status["bad_blocks"], status["missing_blocks"]) == (0, 0)


def _scrubbed(store: Store) -> bool:
    status = trivet(store, "scrub", "status")
    return status["deep"] and not status["active"] and not status["asked_for"]
