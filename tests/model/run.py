"""`make model`: seed after seed on stores of their own, until the time is over; a failure names its seed."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.model.catalog_store import CatalogStore, PostgresCatalogStore
from tests.model.front_store import FrontStore
from tests.model.play import Play, Store

STORES: dict[str, Callable[..., Store]] = {
    "catalog": CatalogStore,
    "postgres": PostgresCatalogStore,
    "front": FrontStore,
}


def is_locking(seed: int) -> bool:
    """Every third seed has a bucket with object lock, which is never suspended."""
    return seed % 3 == 2


def play(store: str, seed: int, steps: int) -> Play:
    """One seed on a new store. Raises AssertionError, with the seed and the last steps."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="trivet-model-", dir=memory if memory.is_dir() else None
    ) as folder:
        locking = is_locking(seed)
        made = STORES[store](Path(folder), locking=locking)
        try:
            played = Play(seed, made, locking=locking)
            played.play(steps)
            return played
        finally:
            made.close()


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", choices=STORES, default="front")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=1, help="the first one")
    parser.add_argument("--steps", type=int, default=2000, help="of each seed")
    arguments = parser.parse_args()
    stop_at, seed, steps, refused = time.monotonic() + arguments.seconds, arguments.seed, 0, 0
    while time.monotonic() < stop_at:
        try:
            played = play(arguments.store, seed, arguments.steps)
        except AssertionError as error:
            print(
                f"{error}\nagain: python -m tests.model.run --store {arguments.store} --seed {seed}",
                flush=True,
            )
            return 1
        seed, steps, refused = seed + 1, steps + played.steps, refused + played.refused
    print(f"{seed - arguments.seed} seeds, {steps:,} steps, {refused:,} of them refused: all as in the model")
    return 0


if __name__ == "__main__":
    sys.exit(main())
