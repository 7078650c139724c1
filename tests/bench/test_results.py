"""Figures of known latencies; CSV, JSON and HTML tell the same ones."""

from __future__ import annotations

import csv
import io
import json
from html.parser import HTMLParser

import msgspec
import pytest

from conformance.bench.charts import percentiles
from conformance.bench.html_report import to_html
from conformance.bench.results import CSV_COLUMNS, Run, latency_at, phase_of, to_csv, to_json
from conformance.bench.summary import run_lines
from tests.bench.runs import a_run, outcome_of

HDR_ERROR = 0.001


def test_percentiles_of_known_latencies() -> None:
    """1 ms to 10.99 ms in steps of 0.01. Mean and maximum exact, the rest within the histogram's error."""
    figures = a_run().phases[0].figures[0]
    assert (figures.count, figures.failed, figures.success_rate) == (1000, 0, 1.0)
    assert figures.mean_ms == pytest.approx(5.995, rel=1e-12)
    assert figures.max_ms == 10.99
    expected = {"p50_ms": 5.99, "p90_ms": 9.99, "p95_ms": 10.49, "p99_ms": 10.89, "p999_ms": 10.98}
    for name, value in expected.items():
        assert getattr(figures, name) == pytest.approx(value, rel=HDR_ERROR), name
    assert figures.sent_bytes == 5_000_000
    assert figures.per_second == pytest.approx(1000 / 5.995)
    assert latency_at(figures, [50.0, 100.0]) == pytest.approx([5.99, 10.99], rel=HDR_ERROR)


def test_failures_count_as_tried_and_not_as_done() -> None:
    """Red when the success rate is taken of what succeeded."""
    run = a_run(failures=3)
    figures = run.phases[2].figures[0]
    assert (figures.count, figures.failed) == (404, 3)
    assert figures.success_rate == pytest.approx(401 / 404)
    assert (run.count, run.failed) == (1404, 3)
    assert figures.max_ms == 9.0


def test_a_phase_of_failures_only() -> None:
    phase = phase_of("upload", 0.0, 1, outcome_of([], failures=7))
    assert [(each.count, each.failed, each.p99_ms) for each in phase.figures] == [(7, 7, 0.0)]


def test_the_timeline_has_every_operation_once() -> None:
    for phase in a_run().phases:
        assert sum(phase.timeline) == sum(each.count - each.failed for each in phase.figures)
        assert len(phase.timeline) * phase.slot_s == pytest.approx(phase.seconds)


def test_csv_and_json_tell_the_same() -> None:
    """Every cell of the table is in the JSON, under the same name."""
    run = a_run(failures=3)
    told = json.loads(to_json(run))
    rows = list(csv.DictReader(io.StringIO(to_csv(run))))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert [row["phase"] for row in rows] == [phase["name"] for phase in told["phases"]]
    for row, phase in zip(rows, told["phases"], strict=True):
        assert (row["profile"], float(row["seconds"])) == (told["profile"], phase["seconds"])
        for figures in phase["figures"]:
            for name in CSV_COLUMNS[CSV_COLUMNS.index("operation") :]:
                assert row[name] == str(figures[name]), name
        if not phase["figures"]:
            assert row["operation"] == row["count"] == ""
    assert told["count"] == sum(int(row["count"] or 0) for row in rows) == 1404


def test_json_can_be_read_back() -> None:
    run = a_run(failures=1)
    assert msgspec.json.decode(to_json(run), type=Run) == run


class Page(HTMLParser):
    """Tags must be closed in their order; what would be loaded is collected."""

    VOID = ("meta", "line", "rect", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.loads: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("failures", [0, 2])
def test_the_page_is_whole_and_needs_nothing_from_outside(failures: int) -> None:
    """Well nested, three charts, no address of anything, and names with < and & are text. Red when a label goes in
    unescaped."""
    html = to_html(a_run(failures=failures))
    page = Page()
    page.feed(html)
    page.close()
    assert page.open == []
    assert page.seen.count("svg") == 3
    assert page.seen.count("polyline") == 2
    assert {"script", "link", "img", "iframe", "object"}.isdisjoint(page.seen)
    assert page.loads == []
    assert "http" not in html
    assert "url(" not in html
    assert "@import" not in html
    for words in ("A <CPU> & more", "a <note> & more", "read while degraded", "3.50 s", "10.99"):
        assert words in page.text
    assert ("/b/<key>" in page.text) == bool(failures)


def test_the_axis_of_percentiles_rises_and_meets_the_nines() -> None:
    places = percentiles()
    assert places == sorted(places)
    for nine in (0.0, 50.0, 90.0, 99.0, 99.9, 99.99):
        assert any(place == pytest.approx(nine, abs=1e-9) for place in places)


def test_the_summary_tells_what_matters() -> None:
    lines = "\n".join(run_lines(a_run(failures=3)))
    for words in (
        "3 failed: GET /b/<key>: answered 503 SlowDown",
        "1,404 operations, 3 failed: 99.7863% succeeded",
        "3.50 s from the kill of node-2, 3.00 s from the start of its recovery",
        "mean PUT 3.02 ms, mean GET 1.08 ms",
        "note: a <note> & more",
    ):
        assert words in lines
