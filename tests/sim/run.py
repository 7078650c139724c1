"""Simulate: `python -m tests.sim.run --seconds 60 --seed N` plays schedules N, N+1, … until the time is over.

A schedule that fails is printed with its seed; `--seed N --one` plays it again, step by step the same. Sets of
bytes have the same order only under a fixed hash seed, so the command starts itself again with one.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import os
import signal
import subprocess
import sys
import time

from tests.sim import world
from tests.sim.plants import PLANTS

HASH_SEED = "0"
_COLLECT_EVERY = 10


def main() -> int:
    """0 when no schedule failed."""
    if os.environ.get("PYTHONHASHSEED") != HASH_SEED:
        os.environ["PYTHONHASHSEED"] = HASH_SEED
        os.execv(sys.executable, [sys.executable, "-m", "tests.sim.run", *sys.argv[1:]])
    parser = argparse.ArgumentParser(prog="tests.sim.run")
    parser.add_argument("--seed", type=int, default=1, help="of the first schedule")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--schedules", type=int, default=1 << 40, help="at most so many")
    parser.add_argument("--one", action="store_true", help="play one schedule and print it")
    parser.add_argument("--plant", choices=sorted(PLANTS), help="with one of the planted bugs")
    parser.add_argument("--lines", type=int, default=40, help="of the trace of a failing schedule")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the seeds")
    parser.add_argument("--step", type=int, default=1, help="from one seed to the next")
    parser.add_argument("--go-on", action="store_true", help="after a failure")
    arguments = parser.parse_args()
    if arguments.jobs > 1:
        return _side_by_side(arguments.jobs, arguments.seed)
    logging.disable(logging.CRITICAL)
    gc.disable()
    sys.unraisablehook = lambda _: None  # coroutines of killed processes may be finalised at the very end
    planted = PLANTS[arguments.plant]() if arguments.plant else contextlib.nullcontext()
    workshop = world.Workshop()
    _clear_up_when_ended(workshop)
    with workshop, planted:
        if arguments.one:
            result = world.run(arguments.seed, workshop, tell=True)
            print(f"trace {result.trace}")
            return 1 if result.violation else 0
        return _many(arguments, workshop)


def _clear_up_when_ended(workshop: world.Workshop) -> None:
    """SIGTERM and SIGINT end the process at once, wherever it is, but leave no files behind."""

    def end(number: int, _: object) -> None:
        workshop.clear()
        os._exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)


def _side_by_side(jobs: int, seed: int) -> int:
    """The same command several times, with every so many-th seed each; the last option of a kind counts."""
    command = [sys.executable, "-m", "tests.sim.run", *sys.argv[1:], "--jobs", "1", "--step", str(jobs)]
    running = [subprocess.Popen([*command, "--seed", str(seed + number)]) for number in range(jobs)]

    def pass_on(number: int, _: object) -> None:
        for process in running:
            process.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    return max(abs(process.wait()) for process in running)


def _many(arguments: argparse.Namespace, workshop: world.Workshop) -> int:
    began = time.monotonic()
    played = failed = steps = requests = refused = commits = moves = restores = 0
    virtual_s = 0.0
    seed = arguments.seed
    while time.monotonic() - began < arguments.seconds and played < arguments.schedules:
        result = world.run(seed, workshop)
        seed += arguments.step
        played += 1
        steps += result.steps
        requests += result.requests
        refused += result.refused
        commits += result.commits
        moves += result.moves
        restores += result.restores
        virtual_s += result.virtual_s
        if played % _COLLECT_EVERY == 0:
            gc.collect()
        if result.violation:
            failed += 1
            print(f"seed {result.seed} failed: {result.violation}")
            for line in result.lines[-arguments.lines :] if arguments.lines else ():
                print(f"    {line}")
            if not arguments.go_on:
                break
    took_s = time.monotonic() - began
    rate = played / took_s * 60
    print(
        f"{played} schedules in {took_s:.1f} s ({rate:.0f} a minute), seeds {arguments.seed}-{result.seed}:"
        f" {requests} requests ({refused} refused), {commits} commits counted from the disks, {moves} moves,"
        f" {restores} catalogs restored, {steps} events, {virtual_s / 3600:.1f} hours of virtual time, {failed} failed"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
