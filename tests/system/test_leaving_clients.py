"""Clients that leave in the middle of a large GET cost nothing afterwards (P8)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.system.conftest import Store, until

SIZE = 40 << 20
LEAVERS = 30


def read_chars(store: Store) -> int:
    """Bytes that the nodes have read from files and sockets so far."""
    pids = [pid for name, pid in store.pids().items() if name.startswith("node-")]
    return sum(int(Path(f"/proc/{pid}/io").read_text().split()[1]) for pid in pids)


def test_p8_what_a_client_that_left_held_is_given_back(new_store: Callable[..., Store]) -> None:
    """The read budget is 24 MiB: leaks of the stripe or two each leaver held would soon stop all readers."""
    store = new_store(("--fronts", "1"))
    store.start()
    s3: Any = store.client()
    s3.create_bucket(Bucket="leaving")
    body = os.urandom(SIZE)
    s3.put_object(Bucket="leaving", Key="large", Body=body)
    for _ in range(LEAVERS):
        answer = s3.get_object(Bucket="leaving", Key="large")["Body"]
        assert answer.read(1) == body[:1]
        answer.close()
    assert s3.get_object(Bucket="leaving", Key="large")["Body"].read() == body
    seen = -1

    def quiet() -> bool:
        nonlocal seen
        before, seen = seen, read_chars(store)
        return seen - before < 1 << 20

    until(quiet, "the nodes have stopped reading for clients that left")
    store.stop()
