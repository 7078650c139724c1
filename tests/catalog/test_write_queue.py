"""What waits for a group commit, by itself: the writers' tests have the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from catalog.errors import CatalogBusy
from catalog.write_queue import ABANDONED_PAUSE_S, AbandonedBlobs, QueueSettings, WriteQueue
from catalog.write_request import WriteRequest
from tests.catalog.making import new_blob


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def queue(monotonic: Callable[[], float], wait_s: float) -> WriteQueue:
    settings = QueueSettings(wait_s, waiting_writes_max=10, batch_writes_max=10, abandoned_blobs_max=10)
    return WriteQueue(settings, too_late="too late", monotonic=monotonic)


def add(to: WriteQueue) -> WriteRequest:
    def nothing(_tx: object) -> Any:
        raise AssertionError("it is in no batch")

    return to.add(nothing, None, frees=False)


async def test_the_time_of_what_was_held_begins_anew() -> None:
    """Red when it does not: a stall of the nodes, which is waited for, would then refuse what came after it."""
    time = Time()
    waiting = queue(time, wait_s=60.0)
    request = add(waiting)
    waiting.hold(True)
    time.now += 100.0
    waiting.hold(False)
    waiting.watch()
    for _ in range(3):  # turns of the loop
        await asyncio.sleep(0)
    assert not request.future.done()
    waiting.close()


async def test_each_is_refused_when_its_own_time_is_over() -> None:
    """Red when only the first is watched: a later one waits for ever, if nothing else comes."""
    waiting = queue(asyncio.get_running_loop().time, wait_s=0.05)
    first, second = add(waiting), add(waiting)
    second.deadline += 0.02
    waiting.watch()
    for request in (first, second):
        with pytest.raises(CatalogBusy, match="too late"):
            await asyncio.wait_for(request.future, 5.0)
    assert not waiting


async def test_what_is_put_back_comes_first() -> None:
    """Red when it joins the end: deletes on a full disk would wait behind what can't pass."""
    waiting = queue(Time(), wait_s=60.0)
    taken = [add(waiting), add(waiting)]
    last = add(waiting)
    assert [waiting.take(), waiting.take()] == taken
    waiting.put_back(taken)
    assert waiting.take_all() == [*taken, last]


def test_abandoned_blobs_pause_and_are_not_kept_without_end() -> None:
    """Red without the limit, or when what failed is due at once: it would be tried in a busy loop."""
    time = Time()
    abandoned = AbandonedBlobs(2, time)
    blobs = [new_blob() for _ in range(3)]
    for each in (*blobs, None):
        abandoned.add(each)
    assert abandoned.first() == blobs[:2]
    abandoned.pause()
    assert not abandoned.are_due
    assert abandoned.first() == []
    time.now += ABANDONED_PAUSE_S
    assert abandoned.cleared(1) == blobs[:1]
    abandoned.pause()
    abandoned.hurry()
    assert abandoned.first() == blobs[1:2]
