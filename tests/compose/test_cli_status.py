"""How `trivet status` draws what it saw, on terminals of several sizes."""

from __future__ import annotations

import re
from io import StringIO
from typing import Any

import msgspec
import pytest
from rich.console import Console

from cluster.reports.cluster import ClusterHealth, ClusterStats, Code, Reason
from cluster.reports.events import EventReport
from cluster.reports.incidents import IncidentSummary
from cluster.reports.redundancy import RepairReport
from cluster.reports.scrub import ScrubReport
from cluster.steward.progress import RepairProgress
from compose.cli.figures import length_text, ms_text, rate_text
from compose.cli.metrics_text import failures_text, operations_table
from compose.cli.status_look import Look, as_json
from compose.cli.status_view import view
from s3front.admin.nodes import Distribution, NodeAnswer, NodeFigures
from s3front.metrics.summary import OperationSummary

GIB = 1 << 30
NOON, NOON_MS = "2026-11-22T12:00:00.000Z", 1_795_348_800_000
OPERATIONS = [
    OperationSummary(
        name, count, errors, 1 - errors / count, 1.5, 1.2, 9.9, 123.4, 4567.8, count / 60, 1 << 40, 1 << 44
    )
    for name, count, errors in (
        ("CompleteMultipartUpload", 12, 0),
        ("GetObject", 1_234_567, 3),
        ("PutObject", 99_999, 0),
        ("ListObjectsV2", 800, 0),
        ("HeadObject", 700, 0),
        ("DeleteObjects", 600, 0),
        ("AbortMultipartUpload", 500, 0),
    )
]


FIGURES = NodeFigures(
    release="0.1.0",
    uptime_s=90_061,
    read_only=False,
    failing=False,
    capacity_bytes=1000 * GIB,
    free_bytes=333 * GIB,
    segment_bytes=600 * GIB,
    live_bytes=500 * GIB,
    segments=9000,
    blocks=1_234_567,
    damaged_blocks=0,
    damage={},
    queued_bytes=12 << 20,
    peers=5,
    stored_blocks=1,
    stored_bytes=1,
    read_blocks=1,
    read_bytes=1,
    scrubbed_bytes=1,
    scrub_passes=1,
    reclaimed_bytes=1,
    sync_us=Distribution(7, 2000.0, 12_300.0, 20_000.0),
    group_writes=Distribution(7, 1.0, 2.0, 3.0),
)


def node(number: int, *, state: str = "up", answers: bool = True, **changed: Any) -> NodeAnswer:
    """`changed`: of its figures."""
    figures = msgspec.structs.replace(FIGURES, **changed) if answers else None
    place = ("ap-southeast-2", "ap-southeast-2a", f"/srv/{number}")
    return NodeAnswer(f"node-{number}", number, "ab" * 16, state, *place, answers, None, None, figures)


def seen(nodes: list[NodeAnswer], reasons: int = 0, **changed: Any) -> Look:
    """A busy store in the middle of a repair."""
    repair = RepairProgress(True, 1, 1000, 4000, 40 * GIB, 160 * GIB, 100 << 20, 2, 0)
    redundancy = RepairReport(repair, 3000, 120 * GIB, 0, 12, 3, False, {}, 0)
    stats = ClusterStats(
        {"up": 3},
        {},
        (),
        1,
        1,
        900 * GIB,
        1,
        1,
        0,
        3,
        1_000_000,
        1_200_000,
        600 * GIB,
        1.5,
        (Code(2, 1),),
        redundancy,
    )
    why = tuple(
        Reason(f"something is amiss with node-{n}", "trivet node recover it", f"node-{n}", NOON)
        for n in range(reasons)
    )
    events = [
        EventReport(n, f"2026-11-22T12:00:{n:02}.000Z", "node-suspect", "node-1", "silent " * 20)
        for n in range(4, -1, -1)
    ]
    look = Look(
        NOON_MS + 2_096_789,
        "/a/rather/long/way/to/the/data/directory/of/this/store/data",
        True,
        ClusterHealth("degraded" if reasons else "healthy", why),
        stats,
        nodes,
        ScrubReport(False, False, False, None, NOON, 1, 1_000_000, True, 0, 0, 0),
        OPERATIONS,
        events,
    )
    return msgspec.structs.replace(look, **changed)


def drawn(look: Look, width: int, height: int | None) -> list[str]:
    console = Console(file=StringIO(), width=width, height=height or 100, color_system=None)
    with console.capture() as shown:
        console.print(view(look, width, height))
    return shown.get().splitlines()


@pytest.mark.parametrize("width", [80, 100, 200])
@pytest.mark.parametrize("reasons", [0, 3, 9])
@pytest.mark.parametrize("nodes", [1, 3, 60])
def test_it_fits_the_terminal(width: int, reasons: int, nodes: int) -> None:
    """40 lines, and no figure of a table cut off. Red when rows are not counted, or a table is too wide."""
    lines = drawn(seen([node(n) for n in range(1, nodes + 1)], reasons), width, 40)
    assert len(lines) <= 40
    assert max(map(len, lines)) <= width
    tables = [line for line in lines if re.match(r"(node-\d|GetObject|PutObject|Complete|List|Head)", line)]
    assert tables
    assert not any("…" in line for line in tables)


def test_of_many_nodes_those_in_trouble_are_shown() -> None:
    nodes = [node(n) for n in range(1, 61)]
    nodes[41] = node(42, state="down", answers=False)
    nodes[54] = node(55, state="draining")
    lines = drawn(seen(nodes), 100, 40)
    shown = [line.split()[:2] for line in lines if line.startswith("node-")]
    assert shown[:3] == [["node-42", "down"], ["node-55", "draining"], ["node-1", "up"]]
    assert any(f"and {60 - len(shown)} more" in line for line in lines)
    everything = drawn(seen(nodes), 100, None)
    assert sum(line.startswith("node-") for line in everything) == 60
    assert [line.split()[0] for line in everything if line.startswith("node-")][8:11] == [
        "node-9",
        "node-10",
        "node-11",
    ]


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({}, "up"),
        ({"read_only": True}, "up, full"),
        ({"failing": True}, "up, failing"),
        ({"answers": False}, "up, silent"),
        ({"answers": False, "state": "suspect"}, "suspect, silent"),
        ({"answers": False, "state": "down"}, "down"),
        ({"state": "draining"}, "draining"),
    ],
)
def test_a_nodes_state_in_a_word(changed: dict[str, Any], word: str) -> None:
    (line,) = (line for line in drawn(seen([node(1, **changed)]), 100, 40) if line.startswith("node-1 "))
    assert line.split("ap-")[0].split() == ["node-1", *word.split()]


def test_what_is_wrong_comes_with_what_to_do() -> None:
    lines = drawn(seen([node(1)], 9), 100, 40)
    assert lines[0].startswith("trivet degraded")
    assert "! something is amiss with node-0 -> trivet node recover it" in lines
    assert "! and 5 more: trivet doctor" in lines
    assert sum(line.startswith("! ") for line in drawn(seen([node(1)], 9), 100, None)) == 9


def test_a_repair_has_a_bar() -> None:
    """Red when the next line stands behind it."""
    lines = drawn(seen([node(1)]), 100, 40)
    at = next(n for n, line in enumerate(lines) if line.startswith("  repair: 40.0 GiB of 160.0 GiB"))
    assert "left" in lines[at]
    assert set(lines[at + 1].strip()) <= set("━╸╺"), "on a line of its own"


def test_a_store_that_stopped_and_one_without_requests() -> None:
    lines = drawn(seen([node(1)], 3, running=False, last_minute=[]), 100, 40)
    assert "not running" in lines[0]
    assert any("trivet up" in line for line in lines)
    assert not any(line.startswith("!") for line in lines), "that all nodes are silent follows from it"
    assert "no requests in the last minute" in lines


@pytest.mark.parametrize(
    ("running", "status", "well"),
    [(True, "healthy", True), (True, "degraded", True), (True, "critical", False), (False, "healthy", False)],
)
def test_what_is_well(running: bool, status: Any, well: bool) -> None:
    assert seen([], running=running, health=ClusterHealth(status, ())).well is well


def test_json_has_what_follows_from_the_fields() -> None:
    told = as_json(seen([node(1)], 1))
    assert told["stats"]["redundancy"]["repair"]["seconds_left"] == pytest.approx(120 * GIB / (100 << 20))
    assert told["scrub"]["finished_at"] == NOON
    assert (told["health"]["reasons"][0]["node"], told["stats"]["last_minute"][1]["errors"]) == ("node-0", 3)
    assert told["health"]["reasons"][0]["since_at"] == NOON


@pytest.mark.parametrize("width", [80, 100])
def test_the_table_of_operations_fits(width: int) -> None:
    console = Console(file=StringIO(), width=width, color_system=None)
    with console.capture() as shown:
        console.print(operations_table(OPERATIONS[1:], width))
    lines = shown.get().splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in shown.get()
    assert lines[2].split()[:2] == ["GetObject", "1,234,567"], "the busiest first"


def test_failures_in_words() -> None:
    assert "no failures" in failures_text(IncidentSummary(0, 0, 0, 0, {}, None, None, None, None))
    several = IncidentSummary(3, 2, 1, 2, {"node-down": 3, "redundancy": 2}, 61.25, 300.0, 4.0, 5.0)
    said = failures_text(several)
    for part in (
        "3 failures of nodes (1 going on)",
        "4.0 s on average",
        "recovery",
        "61.2 s",
        "5.0 min",
        "2 recoveries",
    ):
        assert part in said


def test_figures_in_few_digits() -> None:
    assert [ms_text(ms) for ms in (0.123, 9.99, 12.34, 1234.5)] == ["0.12", "9.99", "12.3", "1,234"]
    assert [rate_text(n) for n in (0.0167, 1.0, 9.9, 1234.5)] == ["0.017", "1", "9.9", "1,234"]
    assert [length_text(s) for s in (5, 65, 3725, 90_061)] == ["5s", "1m 5s", "1h 2m", "1d 1h"]
