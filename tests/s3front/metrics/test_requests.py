"""The recorder counts exactly, tells its history once, and costs hardly anything."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.errors import CatalogBusy
from catalog.history import MINUTE_MS, Figures
from codec.histogram import RELATIVE_ERROR, bucket_of
from s3front.metrics import requests
from s3front.metrics.layout import STATUSES
from s3front.metrics.requests import RequestMetrics
from s3front.metrics.summary import summary_of
from tests.s3front.metrics.recording import LAYOUT, Recorded

MINUTE = 1_700_000_040_000 // MINUTE_MS * MINUTE_MS


def _figures(recorded: Recorded, operation: str) -> Figures:
    return LAYOUT.figures(recorded.slots.read(), operation)


async def test_each_request_counts_once_in_each_figure() -> None:
    """Red when the figures of two operations overlap, or a status counts in another one's slot."""
    recorded = Recorded()
    recorded.count("GetObject", 200, 1500, sent=4096)
    recorded.count("GetObject", 404, 300, sent=240)
    recorded.count("GetObject", 503, 2_000_000)
    recorded.count("PutObject", 200, 2500, got=10_000)
    assert _figures(recorded, "GetObject") == Figures(
        count=3,
        errors=1,
        by_status={200: 1, 404: 1, 503: 1},
        sum_us=2_001_800,
        latency_us={bucket_of(1500): 1, bucket_of(300): 1, bucket_of(2_000_000): 1},
        bytes_out=4336,
    )
    assert _figures(recorded, "PutObject") == Figures(
        count=1, by_status={200: 1}, sum_us=2500, latency_us={bucket_of(2500): 1}, bytes_in=10_000
    )
    assert _figures(recorded, "Refused") == Figures()


async def test_a_status_of_any_number_keeps_its_kind() -> None:
    """Red when what the table lacks counts as a success: a 507 must be an error."""
    for status in range(200, 600):
        recorded = Recorded()
        recorded.count("PutObject", status)
        (told,) = _figures(recorded, "PutObject").by_status
        assert told == status if status in STATUSES else told // 100 == status // 100
        assert _figures(recorded, "PutObject").errors == (status >= 500)


async def test_a_request_that_nobody_finishes_is_an_error() -> None:
    """Red when a tally begins with status 200: an answer that broke off would be a success."""
    recorded = Recorded()
    recorded.recorder.end(recorded.recorder.begin())
    assert _figures(recorded, "Refused").by_status == {500: 1}


async def test_what_is_under_way_is_in_flight() -> None:
    """Red when `end` forgets to count down."""
    recorded = Recorded()
    tallies = [recorded.recorder.begin() for _ in range(3)]
    assert LAYOUT.gauges(recorded.slots.read())["requests_in_flight"] == 3
    for tally in tallies:
        recorded.recorder.end(tally)
    assert LAYOUT.gauges(recorded.slots.read())["requests_in_flight"] == 0


@given(st.lists(st.integers(0, 100_000_000), min_size=1, max_size=60))
def test_percentiles_of_known_durations_are_within_the_error(durations_us: list[int]) -> None:
    """Red when times are recorded in another unit, or rounded to milliseconds."""

    async def counted() -> Figures:
        recorded = Recorded()
        for us in durations_us:
            recorded.count("GetObject", us=us)
        return _figures(recorded, "GetObject")

    summary = summary_of("GetObject", asyncio.run(counted()), 60.0)
    in_order = sorted(durations_us)
    for told_ms, share in (
        (summary.p50_ms, 50),
        (summary.p95_ms, 95),
        (summary.p99_ms, 99),
        (summary.max_ms, 100),
    ):
        exact_us = in_order[max(1, -(-len(in_order) * share // 100)) - 1]
        assert abs(told_ms * 1000 - exact_us) <= exact_us * RELATIVE_ERROR + 1e-6
    assert summary.mean_ms * 1000 == pytest.approx(sum(durations_us) / len(durations_us))


# -- the history -----------------------------------------------------------------------------------------------


async def test_a_flush_tells_each_request_once() -> None:
    """Red when a flush tells all that was ever counted instead of what came since the last one."""
    recorded = Recorded()
    recorded.count("GetObject")
    await recorded.recorder.flush_now()
    recorded.count("GetObject")
    recorded.count("PutObject")
    await recorded.recorder.flush_now()
    assert recorded.rows[MINUTE, "GetObject"] == _figures(recorded, "GetObject")
    assert recorded.rows[MINUTE, "PutObject"].count == 1
    assert set(recorded.rows) == {(MINUTE, "GetObject"), (MINUTE, "PutObject")}


async def test_nothing_is_written_when_nothing_happened() -> None:
    """Red when every flush writes: an idle store would commit every five seconds for ever."""
    recorded = Recorded()
    recorded.count("GetObject")
    await recorded.recorder.flush_now()
    recorded.gauges["nodes_connected"] = 3
    recorded.recorder.sample_gauges()
    await recorded.recorder.flush_now()
    await recorded.recorder.flush_now()
    assert recorded.saves == 1


async def test_what_happened_counts_for_the_minute_it_happened_in() -> None:
    """Red when a flush right after the end of a minute books it to the next one."""
    recorded = Recorded()
    recorded.now_ms = MINUTE + MINUTE_MS - 2000
    await recorded.recorder.flush_now()
    recorded.count("GetObject")
    recorded.now_ms = MINUTE + MINUTE_MS + 3
    await recorded.recorder.flush_now()
    recorded.count("GetObject")
    await recorded.recorder.flush_now()
    assert {minute: figures.count for (minute, _), figures in recorded.rows.items()} == {
        MINUTE: 1,
        MINUTE + MINUTE_MS: 1,
    }


async def test_a_flush_that_fails_loses_nothing() -> None:
    """Red when the figures count as told before the catalog has them, whatever it says."""
    recorded = Recorded()
    recorded.count("GetObject")
    recorded.fails = True
    with pytest.raises(CatalogBusy):
        await recorded.recorder.flush_now()
    recorded.fails = False
    recorded.count("GetObject")
    await recorded.recorder.flush_now()
    assert recorded.rows[MINUTE, "GetObject"].count == 2


async def test_a_row_that_cannot_be_read_does_not_end_the_front(monkeypatch: pytest.MonkeyPatch) -> None:
    """Red when the recorder ended with what was raised, and took the front with it at each start, until the minute was
    over."""
    monkeypatch.setattr(requests, "_SAMPLE_S", 0.001)
    monkeypatch.setattr(requests, "FLUSH_S", 0.0)
    recorded = Recorded()
    save, refused = recorded.save, asyncio.Event()

    async def refuses_once(minute_ms: int, figures: Mapping[str, Figures]) -> None:
        if not refused.is_set():
            refused.set()
            raise msgspec.DecodeError("of the test")
        await save(minute_ms, figures)

    monkeypatch.setattr(recorded.recorder, "_save", refuses_once)
    recorded.count("GetObject")
    running = asyncio.create_task(recorded.recorder.run())
    try:
        await asyncio.wait_for(refused.wait(), 10)
        recorded.count("PutObject")
        async with asyncio.timeout(10):
            while not recorded.rows and not running.done():
                await asyncio.sleep(0.001)
        assert not running.done()
        assert list(recorded.rows) == [(MINUTE, "PutObject")]
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_a_flush_whose_caller_leaves_counts_nothing_twice() -> None:
    """Red when the figures count as told only after the save: a cancelled caller's write happens all the same (S11),
    and the next flush would tell it again.
    """
    recorded = Recorded()
    told: list[asyncio.Task[None]] = []
    save = recorded.save

    async def slow(minute_ms: int, figures: Mapping[str, Figures]) -> None:
        told.append(asyncio.ensure_future(save(minute_ms, figures)))
        await asyncio.sleep(60)

    recorded.recorder = RequestMetrics(recorded.slots, "front-1", save=slow, now_ms=lambda: recorded.now_ms)
    recorded.count("GetObject")
    flush = asyncio.create_task(recorded.recorder.flush_now())
    await asyncio.sleep(0)
    flush.cancel()
    await asyncio.gather(flush, return_exceptions=True)
    await asyncio.gather(*told)
    recorded.recorder._save = save
    await recorded.recorder.flush_now()
    assert recorded.rows[MINUTE, "GetObject"].count == 1


async def test_flushes_at_the_same_time_count_nothing_twice() -> None:
    """Red when they don't wait for each other: one that fails would take back what the other has told meanwhile."""
    recorded = Recorded()
    turn = asyncio.Event()
    save = recorded.save

    async def first_fails(minute_ms: int, figures: Mapping[str, Figures]) -> None:
        recorder._save = save
        await turn.wait()
        raise CatalogBusy("of the test")

    recorder = RequestMetrics(recorded.slots, "front-1", save=first_fails, now_ms=lambda: recorded.now_ms)
    recorded.count("GetObject")
    failing = asyncio.create_task(recorder.flush_now())
    await asyncio.sleep(0)
    recorded.count("GetObject")
    others = [asyncio.create_task(recorder.flush_now()) for _ in range(3)]
    for _ in range(3):
        await asyncio.sleep(0)
    turn.set()
    with pytest.raises(CatalogBusy):
        await failing
    await asyncio.gather(*others)
    await recorder.flush_now()
    assert recorded.rows[MINUTE, "GetObject"].count == 2


async def test_what_a_killed_front_has_counted_is_not_told_by_the_next(tmp_path: Path) -> None:
    """Red when the first flush of a front takes its predecessor's counters for its own: they may have been told."""
    first = Recorded(tmp_path)
    first.count("GetObject")
    first.slots.close()
    second = Recorded(tmp_path)
    second.count("GetObject")
    await second.recorder.flush_now()
    assert second.rows[MINUTE, "GetObject"].count == 1
    assert _figures(second, "GetObject").count == 2
    second.slots.close()


def test_what_counting_costs() -> None:
    """Less than 3 % of the 90 µs of CPU that a front spends on a GET of 4 KiB. Red when `end` takes an operation's
    slots out as a list and puts them back (5 µs); the least of several rounds counts, so that neighbours don't matter.
    """
    finished = subprocess.run(
        [sys.executable, "-m", "s3front.metrics.cost"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        check=True,
    )
    ns = msgspec.json.decode(finished.stdout, type=dict[str, float])["ns_per_request"]
    assert 100 < ns < 2700
