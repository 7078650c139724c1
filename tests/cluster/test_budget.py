"""The byte budget: never overdrawn, first come first served, nothing lost to cancellation (S10, P8)."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.budget import ByteBudget
from cluster.errors import BudgetFull


async def turn() -> None:
    """Let everything that is ready run."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_s10_waiters_are_served_in_order_and_never_overtaken() -> None:
    """Break caught: try_acquire without `or self._waiters` let the small one starve the large one."""
    budget = ByteBudget(10)
    await budget.acquire(8)
    order: list[str] = []

    async def take(name: str, n: int) -> None:
        await budget.acquire(n)
        order.append(name)

    tasks = [asyncio.create_task(take(name, n)) for name, n in (("large", 9), ("small", 1))]
    await turn()
    assert order == []
    assert not budget.try_acquire(1), "two bytes are free, but somebody waits"
    budget.release(8)
    await turn()
    assert order == ["large", "small"]
    assert budget.free_bytes == 0
    await asyncio.gather(*tasks)


async def test_s10_a_cancelled_waiter_holds_nothing_and_lets_the_next_one_through() -> None:
    """Break caught: without the grant after a cancellation the small one behind the large one slept on."""
    budget = ByteBudget(10)
    await budget.acquire(8)
    large = asyncio.create_task(budget.acquire(9))
    await turn()
    small = asyncio.create_task(budget.acquire(2))
    await turn()
    assert not small.done()
    large.cancel()
    await turn()
    assert small.done()
    assert budget.free_bytes == 0
    budget.release(10)
    assert budget.free_bytes == 10


async def test_s10_bytes_granted_to_a_task_that_dies_at_that_moment_come_back() -> None:
    """Break caught: dropping the release in the except branch leaked the granted bytes for good."""
    budget = ByteBudget(10)
    await budget.acquire(10)
    waiter = asyncio.create_task(budget.acquire(5))
    await turn()
    budget.release(10)
    waiter.cancel()  # granted, but not yet resumed
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert budget.free_bytes == 10


async def test_s10_a_waiter_cancelled_in_the_same_turn_as_a_release_is_skipped() -> None:
    budget = ByteBudget(10)
    await budget.acquire(10)
    first = asyncio.create_task(budget.acquire(5))
    second = asyncio.create_task(budget.acquire(5))
    await turn()
    first.cancel()
    budget.release(10)
    await turn()
    assert first.cancelled()
    assert second.done()
    assert budget.free_bytes == 5


async def test_p8_the_line_itself_is_bounded() -> None:
    budget = ByteBudget(1, waiters_max=1)
    await budget.acquire(1)
    waiter = asyncio.create_task(budget.acquire(1))
    await turn()
    with pytest.raises(BudgetFull):
        await budget.acquire(1)
    budget.release(1)
    await waiter


async def test_more_than_there_is_at_all_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="11 bytes"):
        await ByteBudget(10).acquire(11)


@given(st.lists(st.tuples(st.integers(1, 10), st.booleans()), max_size=30), st.randoms())
def test_s10_random_takers_and_cancellations_leave_the_budget_whole(
    plans: list[tuple[int, bool]], random: object
) -> None:
    async def play() -> None:
        budget = ByteBudget(10)
        held = 0

        async def taker(n: int) -> None:
            nonlocal held
            await budget.acquire(n)
            held += n
            assert held <= 10
            try:
                await asyncio.sleep(0)
            finally:
                held -= n
                budget.release(n)

        tasks = [asyncio.create_task(taker(n)) for n, _ in plans]
        for task, (n, cancel) in zip(tasks, plans, strict=True):
            if n % 2:
                await asyncio.sleep(0)
            if cancel:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert budget.free_bytes == 10

    asyncio.run(play())
