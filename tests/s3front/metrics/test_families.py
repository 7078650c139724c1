"""The exposition: what Prometheus reads is what was counted."""

import os
import platform

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from catalog.model import Lease, NodeRow
from catalog.totals import Totals
from cluster.reports.cluster import NodeState
from cluster.reports.redundancy import RepairReport
from cluster.steward.progress import Recoveries, RepairProgress, ScrubProgress
from cluster.wire import NodeStatus
from codec.histogram import bucket_of
from s3front.metrics.exposition import render
from s3front.metrics.scrape import Gathered
from s3front.metrics.slots import Reading
from s3front.metrics.store_figures import StoreFigures
from tests.s3front.metrics.recording import LAYOUT, Recorded

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
STATUS = NodeStatus(
    node_id=b"n" * 16,
    incarnation=1,
    blocks=12,
    segment_bytes=5000,
    live_bytes=4000,
    free_bytes=1 << 40,
    damage={"page": 2},
    read_only=False,
    failing=True,
    damaged_blocks=2,
    stored_bytes=7777,
    sync_us={bucket_of(200): 3, bucket_of(5000): 1},
    group_writes={1: 2, 3: 1, 4: 5},
    log_entries=9,
    log_bytes=888,
)
STORE = StoreFigures(
    redundancy=RepairReport(
        repair=RepairProgress(active=True, done_bytes=10, total_bytes=40, bytes_per_s=5),
        reduced_blobs=3,
        reduced_bytes=999,
        queued_blobs=4,
        garbage_blobs=6,
        extra_copies=7,
        rebalancing=False,
        nodes={},
        unreadable_blobs=1,
    ),
    totals=Totals(2, 30, 31, 123_456),
    scrub=ScrubProgress(finished_ms=5_000, passes=2, missing=8, corrupt=9, extra=10),
    lease=Lease("steward", "somebody", 77),
    recoveries=Recoveries(4, 10_500),
    open_uploads=5,
    events_kept={"node-down": 2},
    events_ever=12_345,
    catalog_bytes=4096,
    wal_bytes=100,
    disk_free_bytes=1 << 30,
)


def _node(name: str, status: NodeStatus | None, state: str = "up") -> NodeState:
    return NodeState(NodeRow(1, b"n" * 16, name, "region", "zone", "host", 1, state), status)


def _gathered(readings: list[Reading], *, problems: frozenset[str] = frozenset()) -> Gathered:
    nodes = [_node("node-1", STATUS), _node("node-2", None, "down")]
    return Gathered(readings, nodes, STORE, 0.5, problems)


def _samples(gathered: Gathered, accept: str = "") -> dict[tuple[str, ...], float]:
    """Value by name and label values in the order of the labels' names."""
    text, content_type = render(gathered, LAYOUT, {"front-1": os.getpid()}, "1.2.3", accept)
    parse = parse_openmetrics if "openmetrics" in content_type else parse_text
    found: dict[tuple[str, ...], float] = {}
    for family in parse(text.decode()):
        assert family.documentation
        for sample in family.samples:
            key = (sample.name, *(sample.labels[name] for name in sorted(sample.labels)))
            assert key not in found, "a sample stands there twice"
            found[key] = sample.value
    return found


async def _counted() -> list[Reading]:
    own, other = Recorded(), Recorded()
    own.count("GetObject", 200, 127, sent=4096)
    own.count("GetObject", 404, 128, sent=100)
    other.count("GetObject", 200, 70_000_000, sent=1)
    own.recorder.begin()
    own.recorder.count_commit(3, 0.001)
    other.recorder.count_commit(4, 0.002)
    return [
        Reading("front-1", alive=True, slots=own.slots.read()),
        Reading("front-2", alive=False, slots=other.slots.read()),
    ]


async def test_both_formats_parse_and_say_the_same() -> None:
    """Red when a family stands there twice, a counter is a gauge, or +Inf is missing."""
    gathered = _gathered(await _counted())
    text, openmetrics = _samples(gathered), _samples(gathered, OPENMETRICS)
    moving = ("trivet_process",)
    assert {key: value for key, value in text.items() if not key[0].startswith(moving)} == {
        key: value for key, value in openmetrics.items() if not key[0].startswith(moving)
    }
    assert any(key[0] == "trivet_process_cpu_seconds_total" and value > 0 for key, value in text.items())


async def test_requests_are_those_of_all_fronts_and_buckets_are_cut_where_they_say() -> None:
    """Red when only the own front is told, when a front that has ended is left out (counters would fall), and when a
    bucket counts what is above its bound.
    """
    found = _samples(_gathered(await _counted()))
    assert found["trivet_requests_total", "GetObject", "200"] == 2
    assert found["trivet_requests_total", "GetObject", "404"] == 1
    assert found["trivet_response_bytes_total", "GetObject"] == 4197
    name = "trivet_request_seconds_bucket"
    below = {key[1]: value for key, value in found.items() if key[0] == name and key[2] == "GetObject"}
    assert (below["0.000128"], below["0.000256"], below["67.108864"], below["+Inf"]) == (1, 2, 2, 3)
    assert found["trivet_request_seconds_count", "GetObject"] == 3
    assert found["trivet_request_seconds_sum", "GetObject"] == 70.000255
    commits = {
        key[1]: value for key, value in found.items() if key[0] == "trivet_catalog_commit_writes_bucket"
    }
    assert (commits["1.0"], commits["3.0"], commits["7.0"], commits["+Inf"]) == (0, 1, 2, 2)
    assert found["trivet_catalog_commit_writes_sum",] == 7
    assert found["trivet_catalog_commit_seconds_sum",] == 0.003


async def test_a_front_that_does_not_run_has_no_gauges() -> None:
    """Red when the requests that a killed front had in flight stay in flight for ever."""
    found = _samples(_gathered(await _counted()))
    in_flight = {key[1]: value for key, value in found.items() if key[0] == "trivet_requests_in_flight"}
    assert in_flight == {"front-1": 1}


async def test_nodes_and_store() -> None:
    """Red when a node that does not answer is left out instead of told to be down, or carries another's figures."""
    found = _samples(_gathered([]))
    assert found["trivet_node_up", "node-1", "region", "zone"] == 1
    assert found["trivet_node_up", "node-2", "region", "zone"] == 0
    assert found["trivet_node_state", "node-2", "down"] == 1
    assert found["trivet_node_state", "node-2", "up"] == 0
    assert ("trivet_node_blocks", "node-2") not in found
    assert found["trivet_node_blocks", "node-1"] == 12
    assert found["trivet_node_failing", "node-1"] == 1
    assert found["trivet_node_log_entries", "node-1"] == 9
    assert found["trivet_node_log_bytes", "node-1"] == 888
    assert found["trivet_node_stored_bytes_total", "node-1"] == 7777
    assert found["trivet_node_damage_total", "page", "node-1"] == 2
    assert found["trivet_node_sync_seconds_count", "node-1"] == 4
    assert abs(found["trivet_node_sync_seconds_sum", "node-1"] - 0.0056) < 0.0056 / 32
    assert found["trivet_node_group_writes_sum", "node-1"] == 25
    assert found["trivet_objects_below_full_redundancy",] == 4
    assert found["trivet_objects_unreadable",] == 1
    assert (found["trivet_recoveries_total",], found["trivet_recovery_seconds_total",]) == (4, 10.5)
    assert found["trivet_scrub_finished_timestamp_seconds",] == 5.0
    assert found["trivet_object_bytes",] == 123_456
    assert found["trivet_events_total",] == 12_345
    assert found["trivet_events_kept", "node-down"] == 2
    assert found["trivet_store_figures_age_seconds",] == 0.5
    assert found["trivet_build_info", platform.python_version(), "1.2.3"] == 1


async def test_what_could_not_be_had_is_said() -> None:
    """Red when a scrape without nodes or catalog fails, or looks as if all were well."""
    problems = frozenset(("nodes", "catalog"))
    found = _samples(Gathered([], None, None, 0.0, problems))
    assert found["trivet_scrape_problem", "nodes"] == found["trivet_scrape_problem", "catalog"] == 1
    assert not [key for key in found if key[0].startswith(("trivet_node_", "trivet_objects"))]
    well = _samples(_gathered([]))
    assert well["trivet_scrape_problem", "nodes"] == well["trivet_scrape_problem", "catalog"] == 0
