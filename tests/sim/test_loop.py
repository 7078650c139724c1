"""Virtual time, and processes that are killed or frozen between any two callbacks."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.sim.loop import Deadlock, Process, SimLoop


@pytest.fixture
def loop() -> Iterator[SimLoop]:
    simulated = SimLoop()
    yield simulated
    simulated.finish()


def test_time_jumps_to_the_next_timer(loop: SimLoop) -> None:
    """Red when anything really waits."""
    loop.run_until_complete(asyncio.sleep(1_000_000.0))
    assert loop.now == 1_000_000.0


def test_waiting_for_nothing_is_told(loop: SimLoop) -> None:
    """Red when a lost wake-up hangs the simulation."""
    with pytest.raises(Deadlock):
        loop.run_until_complete(loop.create_future())


def test_a_killed_process_runs_nothing_more_not_even_finally(loop: SimLoop) -> None:
    """Red when a crash cleans up behind itself."""
    seen: list[str] = []

    async def work() -> None:
        try:
            seen.append("begun")
            await asyncio.sleep(10.0)
        finally:
            seen.append("cleaned up")

    async def main() -> None:
        process = Process("victim")
        loop.create_task(work(), context=process.context)
        await asyncio.sleep(1.0)
        process.kill()
        await asyncio.sleep(20.0)

    loop.run_until_complete(main())
    assert seen == ["begun"]


def test_a_frozen_process_goes_on_in_its_order_when_it_thaws(loop: SimLoop) -> None:
    """Red when timers of a frozen process fire, or are lost."""
    seen: list[tuple[str, float]] = []

    async def tick(name: str, at: float) -> None:
        await asyncio.sleep(at)
        seen.append((name, loop.now))

    async def main() -> None:
        process = Process("sleeper")
        for name, at in (("a", 1.0), ("b", 2.0), ("c", 9.0)):
            loop.create_task(tick(name, at), context=process.context)
        await asyncio.sleep(0.5)
        process.freeze()
        await asyncio.sleep(4.5)
        assert seen == []
        process.thaw()
        await asyncio.sleep(10.0)

    loop.run_until_complete(main())
    assert seen == [("a", 5.0), ("b", 5.0), ("c", 9.0)]
