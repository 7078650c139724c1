"""The steward advances the lock clock by its monotonic clock, whatever is done to the wall clock (S26)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from catalog import leases, lock_clock
from catalog.engine import Catalog
from catalog.errors import CatalogBusy
from catalog.lock_clock import FOLLOW_MS_MAX
from catalog.transaction import read_meta
from cluster.steward.lock_clock import LockClockHand
from cluster.steward.services import StewardServices
from cluster.steward.tenure import Tenure
from tests.catalog.making import Clock, SqliteStore

DAY_S = 86_400


class Steward:
    """A steward's tenures on a catalog, with clocks that the test moves."""

    def __init__(self, catalog: Catalog, wall: Clock) -> None:
        self.catalog = catalog
        self.wall = wall
        self.monotonic_s = 1000.0

    def services(self) -> StewardServices:
        nodes: Any = None
        return StewardServices(self.catalog, nodes, monotonic=lambda: self.monotonic_s, now_ms=self.wall)

    async def begin(self) -> tuple[Tenure, LockClockHand]:
        tenure = await Tenure.begin(self.catalog, "steward", await self.catalog.read(leases.read))
        hand = LockClockHand(self.services())
        await hand.step(tenure)
        return tenure, hand

    def pass_time(self, seconds: float) -> None:
        self.monotonic_s += seconds
        self.wall.now_ms += int(seconds * 1000)

    async def shown_ms(self) -> int:
        return (await self.catalog.read(read_meta)).clock_ms


@pytest.fixture
async def steward(tmp_path: Path) -> Any:
    wall = Clock()
    catalog = SqliteStore(tmp_path).open(wall)
    await catalog.start()
    wall.now_ms = (await catalog.meta()).clock_ms
    yield Steward(catalog, wall)
    await catalog.close()


async def test_it_runs_with_the_monotonic_clock_only(steward: Steward) -> None:
    """Red when the hand went to the wall clock with each step."""
    began_ms = await steward.shown_ms()
    tenure, hand = await steward.begin()
    steward.pass_time(10)
    await hand.step(tenure)
    assert await steward.shown_ms() == began_ms + 10_000
    for jump_ms in (FOLLOW_MS_MAX // 2, -40 * FOLLOW_MS_MAX, 80 * FOLLOW_MS_MAX):
        before_ms = await steward.shown_ms()
        steward.wall.now_ms += jump_ms
        steward.pass_time(10)
        await hand.step(tenure)
        assert await steward.shown_ms() == before_ms + 10_000


async def test_many_short_steps_lose_no_fractions(steward: Steward) -> None:
    """Red when each step was counted from the one before in whole milliseconds."""
    began_ms = await steward.shown_ms()
    tenure, hand = await steward.begin()
    for _ in range(100):
        steward.pass_time(0.0105)
        await hand.step(tenure)
    assert abs(await steward.shown_ms() - (began_ms + 1050)) <= 1


async def test_the_next_tenure_takes_up_where_wall_time_is(steward: Steward) -> None:
    began_ms = await steward.shown_ms()
    await steward.begin()
    steward.wall.now_ms += 3 * DAY_S * 1000  # nobody was in office
    tenure, hand = await steward.begin()
    assert await steward.shown_ms() == began_ms + 3 * DAY_S * 1000
    steward.wall.now_ms += 400 * DAY_S * 1000
    tenure, hand = await steward.begin()
    assert await steward.shown_ms() == began_ms + 3 * DAY_S * 1000
    steward.pass_time(20)
    await hand.step(tenure)
    assert await steward.shown_ms() == began_ms + 3 * DAY_S * 1000 + 20_000
    # An operator confirms while it runs: it goes on from there.
    await steward.catalog.write(lock_clock.confirm)
    confirmed_ms = steward.wall.now_ms
    steward.pass_time(10)
    await hand.step(tenure)
    steward.pass_time(10)
    await hand.step(tenure)
    assert await steward.shown_ms() == confirmed_ms + 10_000


async def test_a_step_that_may_have_been_committed_is_not_added_twice(steward: Steward) -> None:
    """Red when a step added what had passed to what the clock showed."""
    began_ms = await steward.shown_ms()
    tenure, hand = await steward.begin()
    steward.pass_time(10)
    with pytest.raises(CatalogBusy):
        await hand.step(Unheard(tenure))
    steward.pass_time(10)
    await hand.step(tenure)
    assert await steward.shown_ms() == began_ms + 20_000


class Unheard(Tenure):
    """Commits, and what the commit returned never arrives."""

    def __init__(self, tenure: Tenure) -> None:
        self._tenure = tenure

    async def write(self, function: Any, *, frees: bool = False, unshipped: bool = False) -> Any:
        await self._tenure.write(function, frees=frees, unshipped=unshipped)
        raise CatalogBusy("not heard")
