"""The thread that makes the writer's blocking calls."""

import asyncio
import threading

import pytest

from catalog.side_thread import SideThread


def _fail() -> None:
    raise IndexError


class _Outcome:
    def __init__(self) -> None:
        self.errors: list[Exception | None] = []
        self.came = asyncio.Event()

    def __call__(self, error: Exception | None) -> None:
        self.errors.append(error)
        self.came.set()


async def test_an_idle_loop_is_told() -> None:
    """Success and failure, one call after the other."""
    thread = SideThread("test", asyncio.get_running_loop())
    for call, expected in ((lambda: None, type(None)), (_fail, IndexError)):
        outcome = _Outcome()
        thread.start(call, outcome)
        await outcome.came.wait()
        assert [type(error) for error in outcome.errors] == [expected]
    thread.close()


async def test_a_busy_loop_can_fetch_the_outcome_itself() -> None:
    """And is not told a second time."""
    thread = SideThread("test", asyncio.get_running_loop())
    gate, outcome = threading.Event(), _Outcome()
    thread.start(lambda: assert_true(gate.wait(10)), outcome)
    assert not thread.settle(0.01)
    gate.set()
    assert thread.settle(10)
    assert outcome.errors == [None]
    for _ in range(3):
        await asyncio.sleep(0)
    assert outcome.errors == [None]
    assert not thread.settle(0)
    thread.close()


def assert_true(value: object) -> None:
    """For lambdas."""
    assert value


async def test_a_notice_of_an_earlier_call_does_not_end_a_later_one() -> None:
    """The first call's notice is still queued on the loop when the second call begins."""
    thread = SideThread("test", asyncio.get_running_loop())
    first, second, gate = _Outcome(), _Outcome(), threading.Event()
    thread.start(lambda: None, first)
    assert thread.settle(10)
    thread.start(lambda: assert_true(gate.wait(10)), second)
    await asyncio.sleep(0)
    assert second.errors == []
    gate.set()
    await second.came.wait()
    thread.close()


async def test_one_call_at_a_time() -> None:
    """A second one is our mistake."""
    thread = SideThread("test", asyncio.get_running_loop())
    gate, outcome = threading.Event(), _Outcome()
    thread.start(lambda: assert_true(gate.wait(10)), outcome)
    with pytest.raises(AssertionError):
        thread.start(lambda: None, outcome)
    gate.set()
    await outcome.came.wait()
    thread.close()
