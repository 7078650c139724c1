"""Measurements of one rate: what they count, and that the first wrong answer ends them."""

import pytest

from conformance.bench.load import LoadFailed, LoadPlan, run_in_process
from conformance.bench.process_stats import read_cpu_s, read_stats
from tests.bench.rote import Keeper, answer, serving


def plan(port: int, method: str, object_bytes: int) -> LoadPlan:
    return LoadPlan(
        host="127.0.0.1",
        port=port,
        method=method,
        bucket="b",
        key_count=3,
        object_bytes=object_bytes,
        clients=2,
        seconds=30.0,
        operations_max=7,
    )


@pytest.mark.parametrize("object_bytes", [0, 1, 3_000_000])
def test_stores_and_reads_whole_objects(object_bytes: int) -> None:
    """What one process stored another one verifies; three keys, seven operations."""
    keeper = Keeper()
    with serving(keeper) as server:
        for method in ("PUT", "GET"):
            result = run_in_process(plan(server.port, method, object_bytes))
            assert result.operations == len(result.latencies_us) == 7
            assert result.latencies_us == sorted(result.latencies_us)
            assert result.per_second > 0
    assert sorted(keeper.kept) == ["/b/o000000", "/b/o000001", "/b/o000002"]
    assert {len(body) for body in keeper.kept.values()} == {object_bytes}


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        (answer(503, b"<Error><Code>SlowDown</Code></Error>"), "503 SlowDown"),
        (answer(200, b"abcd"), "another length"),
        (answer(200, b"abcde"), "content differs"),
        (answer(200, b"abcde") + b"f", "more came back"),
    ],
)
def test_a_wrong_answer_ends_the_measurement(said: bytes, complaint: str) -> None:
    """Red when failures are only counted: then it would go on to its end and give a figure."""
    with serving(lambda _: said) as server, pytest.raises(LoadFailed, match=complaint):
        run_in_process(plan(server.port, "GET", 5))


def test_the_secret_is_not_shown() -> None:
    shown = repr(LoadPlan("h", 1, "GET", "b", 1, 1, 1, 1.0, access_key="AK", secret_key="hush"))
    assert "AK" in shown
    assert "hush" not in shown


def test_stats_of_a_process() -> None:
    import os

    stats = read_stats(os.getpid())
    assert 0 < stats.share_bytes <= stats.rss_bytes <= stats.peak_bytes
    assert read_cpu_s(os.getpid()) >= stats.cpu_s
