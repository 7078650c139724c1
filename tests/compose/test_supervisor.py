"""Real child processes under compose.supervisor: heartbeat, restart, order and limits of stopping."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from compose.refusal import EXIT_REFUSED
from compose.supervisor import Child, ChildSpec, Limits, stop_in_order

ROOT = Path(__file__).resolve().parents[2]

WORKER = """
import asyncio, signal, sys
from compose.lifeline import Lifeline
lifeline = Lifeline(int(sys.argv[-1]), 5.0)
async def work():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    lifeline.ready()
    await stop.wait()
    print(NAME, file=open(LOG, "a"))
asyncio.run(work())
"""

DEAF = WORKER.replace("stop.set", "lambda: None")

REFUSING = f"raise SystemExit({EXIT_REFUSED})"


def child(
    tmp_path: Path,
    name: str,
    script: str,
    *,
    stop_wait_s: float = 10.0,
    silence_s_max: float = 10.0,
) -> Child:
    script = script.replace("NAME", repr(name)).replace("LOG", repr(str(tmp_path / "log")))
    return Child(
        ChildSpec(name, (sys.executable, "-c", script)),
        environment={**os.environ, "PYTHONPATH": str(ROOT)},
        pid_file=tmp_path / f"{name}.pid",
        limits=Limits(stop_wait_s, silence_s_max, restart_wait_s_max=1.0),
        clock=time.monotonic,
    )


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def pid_of(child: Child, tmp_path: Path) -> int:
    return int((tmp_path / f"{child.spec.name}.pid").read_text())


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_dead_child_is_started_again(tmp_path: Path) -> None:
    worker = child(tmp_path, "worker", WORKER)
    worker.start()
    await worker.ready.wait()
    first = pid_of(worker, tmp_path)
    os.kill(first, signal.SIGKILL)
    await until(lambda: not worker.ready.is_set())
    await asyncio.wait_for(worker.ready.wait(), 20)
    assert pid_of(worker, tmp_path) != first
    await worker.stop()
    assert not (tmp_path / "worker.pid").exists()


async def test_s16_a_frozen_child_is_killed_and_started_again(tmp_path: Path) -> None:
    """Went red (timed out) with the silence check taken out of Child._watch."""
    worker = child(tmp_path, "worker", WORKER, silence_s_max=2.0)
    worker.start()
    await worker.ready.wait()
    first = pid_of(worker, tmp_path)
    os.kill(first, signal.SIGSTOP)
    await until(lambda: not is_alive(first))
    await asyncio.wait_for(worker.ready.wait(), 20)
    await worker.stop()


async def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    deaf = child(tmp_path, "deaf", DEAF, stop_wait_s=0.5)
    deaf.start()
    await deaf.ready.wait()
    pid = pid_of(deaf, tmp_path)
    await deaf.stop()
    assert not is_alive(pid)


async def test_stages_stop_one_after_the_other(tmp_path: Path) -> None:
    front, steward, node = (child(tmp_path, name, WORKER) for name in ("front", "steward", "node"))
    for each in (node, steward, front):
        each.start()
    for each in (front, steward, node):
        await each.ready.wait()
    await stop_in_order(((front,), (steward,), (node,)))
    assert (tmp_path / "log").read_text().split() == ["front", "steward", "node"]


async def test_a_refusal_is_an_answer_and_not_retried_at_once(tmp_path: Path) -> None:
    refusing = child(tmp_path, "refusing", REFUSING)
    refusing.start()
    await asyncio.wait_for(refusing.answered.wait(), 20)
    assert not refusing.ready.is_set()
    await refusing.stop()


async def test_a_child_told_to_stop_before_it_started_does_not_stay(tmp_path: Path) -> None:
    worker = child(tmp_path, "worker", WORKER)
    worker.start()
    await worker.stop()
    assert not (tmp_path / "worker.pid").exists()


SUPERVISOR = """
import asyncio, pathlib, sys
sys.path.insert(0, ROOT)
from tests.compose.test_supervisor import WORKER, child
async def main():
    worker = child(pathlib.Path(FOLDER), "worker", WORKER)
    worker.start()
    await worker.ready.wait()
    print("ready", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_children_of_a_killed_supervisor_end_by_themselves(tmp_path: Path) -> None:
    """Went red (timed out) with the watching thread of Lifeline not started."""
    script = SUPERVISOR.replace("ROOT", repr(str(ROOT))).replace("FOLDER", repr(str(tmp_path)))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == b"ready\n"
        pid = int((tmp_path / "worker.pid").read_text())
        supervisor.kill()
    await until(lambda: not is_alive(pid))
    assert (tmp_path / "log").read_text() == "worker\n"  # it ended as if told to, not by force
