"""The clock of object lock: never back, never pushed on by a wall clock (S26)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog import lock_clock, work
from catalog.engine import Catalog
from catalog.lock_clock import FOLLOW_MS_MAX, LockClock
from catalog.transaction import read_meta
from tests.catalog.making import Clock

HOUR_MS = 3_600_000


async def _shown(catalog: Catalog) -> int:
    return (await catalog.read(read_meta)).clock_ms


async def _events(catalog: Catalog) -> list[str]:
    return [event.kind for event in await catalog.read(work.list_events)]


@pytest.fixture
async def started_ms(catalog: Catalog, clock: Clock) -> int:
    """The lock clock shows what the wall clock does."""
    return await catalog.write(lambda tx: lock_clock.advance(tx, max(clock.now_ms, tx.meta.clock_ms)))


@pytest.fixture
def wall(clock: Clock, started_ms: int) -> Clock:
    clock.now_ms = started_ms
    return clock


async def test_it_never_goes_back(catalog: Catalog, started_ms: int) -> None:
    """Red when it was set to whatever it was given."""
    assert await catalog.write(lambda tx: lock_clock.advance(tx, started_ms + 10)) == started_ms + 10
    assert await catalog.write(lambda tx: lock_clock.advance(tx, started_ms + 3)) == started_ms + 10
    assert await _shown(catalog) == started_ms + 10


async def test_what_a_transaction_advanced_it_sees(catalog: Catalog, started_ms: int) -> None:
    """Red when the transaction went on with the meta row that it had read before."""
    seen = await catalog.write(
        lambda tx: (tx.meta.clock_ms, lock_clock.advance(tx, started_ms + 7), tx.meta.clock_ms)
    )
    assert seen == (started_ms, started_ms + 7, started_ms + 7)


@pytest.mark.parametrize(
    ("gap_ms", "followed_ms"),
    [
        (0, 0),
        (HOUR_MS, HOUR_MS),
        (FOLLOW_MS_MAX, FOLLOW_MS_MAX),
        (FOLLOW_MS_MAX + 1, 0),
        (100 * FOLLOW_MS_MAX, 0),
        (-HOUR_MS, 0),
        (-100 * FOLLOW_MS_MAX, 0),
    ],
)
async def test_a_silence_is_believed_up_to_a_limit(
    catalog: Catalog, wall: Clock, started_ms: int, gap_ms: int, followed_ms: int
) -> None:
    """Red without the limit, and when the clock followed a wall clock back."""
    wall.now_ms += gap_ms
    assert await catalog.write(lock_clock.follow) == started_ms + followed_ms
    assert await _shown(catalog) == started_ms + followed_ms
    told = [lock_clock.BEHIND_EVENT] if gap_ms > FOLLOW_MS_MAX else []
    assert await _events(catalog) == told


async def test_an_operator_confirms(catalog: Catalog, wall: Clock, started_ms: int) -> None:
    wall.now_ms += 30 * FOLLOW_MS_MAX
    await catalog.write(lock_clock.follow)
    before = await catalog.write(lock_clock.confirm)
    assert before == LockClock(started_ms, wall.now_ms)
    assert before.needs_confirmation
    assert await _shown(catalog) == wall.now_ms
    assert await _events(catalog) == [lock_clock.BEHIND_EVENT, lock_clock.CONFIRMED_EVENT]


async def test_confirming_takes_nothing_back(catalog: Catalog, wall: Clock, started_ms: int) -> None:
    wall.now_ms -= HOUR_MS
    before = await catalog.write(lock_clock.confirm)
    assert (before.behind_ms, before.needs_confirmation) == (-HOUR_MS, False)
    assert await _shown(catalog) == started_ms
    assert await _events(catalog) == []


class Row:
    """A transaction as far as the clock looks at one, on a meta row in memory."""

    def __init__(self, clock_ms: int) -> None:
        self.meta = self
        self.clock_ms = clock_ms
        self.now_ms = 0

    def execute(self, _: object, parameters: tuple[int, ...]) -> int:
        to_ms = parameters[-1]
        moved = len(parameters) == 2 and self.clock_ms < to_ms
        self.clock_ms = to_ms if moved else self.clock_ms
        return int(moved)

    def meta_changed(self) -> None:
        pass

    def row(self, *_: object) -> tuple[int]:
        return (1,)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("runs"), st.integers(0, 20 * HOUR_MS)),
        st.tuples(st.just("stands"), st.integers(0, 3 * FOLLOW_MS_MAX)),
        st.tuples(st.just("wall"), st.integers(-40 * FOLLOW_MS_MAX, 40 * FOLLOW_MS_MAX)),
        st.tuples(st.just("starts"), st.just(0)),
    ),
    max_size=20,
)


@given(steps=STEPS)
@settings(max_examples=150)
def test_it_is_never_ahead_of_true_time_by_more_than_is_believed(steps: list[tuple[str, int]]) -> None:
    """Each start may be wrong by the limit and no more, whatever is done to the wall clock; running adds no error.
    Red when the clock followed the wall clock while it ran, and without the limit."""
    row = Row(clock_ms=1 << 42)
    true_ms, offset_ms = row.clock_ms, 0
    believed_ms = 0
    for what, ms in steps:
        before_ms = row.clock_ms
        true_ms += ms if what in ("runs", "stands") else 0
        offset_ms = ms if what == "wall" else offset_ms
        row.now_ms = true_ms + offset_ms
        if what == "runs":
            lock_clock.advance(row, before_ms + ms)  # type: ignore[arg-type]
        elif what == "starts":
            lock_clock.follow(row)  # type: ignore[arg-type]
            believed_ms += FOLLOW_MS_MAX
        assert row.clock_ms >= before_ms
        assert row.clock_ms <= true_ms + believed_ms
