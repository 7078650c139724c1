"""docs/performance.md as the command writes it, from made-up measurements."""

from __future__ import annotations

import msgspec
import pytest

from conformance.bench.document import OUT, TEMPLATE, Measured, Unfilled, render
from conformance.bench.process_stats import ProcessStats
from conformance.bench.report import WITH_LOG, WITHOUT_LOG, Report, Row
from tests.bench.runs import MACHINE, a_run

MIB = 1 << 20


def row(name: str, size: str, clients: int, per_second: float, *, p50_ms: float = 1.0) -> Row:
    size_bytes = 256 * MIB if size == "256 MiB" else MIB if size == "1 MiB" else 4096
    return Row(
        name, size, clients, per_second, per_second * size_bytes, p50_ms, 9.87, 0.1, 0.42, {"front-1": 100.0}
    )


def measured() -> Measured:
    rows = [
        row("GET floor", "0", 16, 45_000),
        row("PUT", "4 KiB", 16, 3999),
        *(row(WITH_LOG, "4 KiB", 16, rate) for rate in (3000, 1000, 3200)),
        *(row(WITHOUT_LOG, "4 KiB", 16, rate) for rate in (4000, 4000, 4000)),
        row("GET", "4 KiB", 16, 11_000),
        row("GET", "4 KiB", 1, 3000, p50_ms=0.26),
        row("PUT", "1 MiB", 8, 300),
    ]
    stats = ProcessStats(1.0, 200 * MIB, 210 * MIB, 100 * MIB)
    report = Report(rows, {"front-1": stats, "node-1": stats}, MACHINE, metrics_us=2.0)
    return Measured(report, a_run(), a_run(), 3.0, "22 November 2026")


def test_every_place_of_the_template_is_filled() -> None:
    text = render(TEMPLATE.read_text(encoding="utf-8"), measured())
    assert "{{" not in text
    for line in (
        "| PUT 4 KiB, 16 clients | 3,999/s, p99 9.9 ms | 0.100 | 4,000/s | no |",
        "| GET 4 KiB, 16 clients | 11,000/s, p99 9.9 ms | 0.100 | 11,000/s | yes |",
        "| GET 4 KiB, 1 client | p50 0.26 ms | 0.100 | at most p50 0.25 ms | no |",
        "| PUT 1 MiB, 8 clients | 315 MB/s | 0.100 | 300 MB/s | yes |",
        "| memory after all of it | 400 MiB resident, 200 MiB with shared pages counted once | | at most 300 MB | by "
        "the second way to count |",
        "2.0 µs of a front's CPU for each request: 2.0% of a GET of 4 KiB (100 µs), 2.0% of a PUT of 4 KiB (100 µs)",
        "costs 25.0% of the PUTs (rounds from 20.0% to 75.0%) of 4 KiB at 16 clients",
        "1,401 operations, 0 failed. Mean PUT 6.00 ms (reference 3.02)",
        "The floor was 45,000 requests",
    ):
        assert line in text, line


def test_names_that_stand_for_nothing_are_refused() -> None:
    template = TEMPLATE.read_text(encoding="utf-8")
    with pytest.raises(Unfilled, match="surprise"):
        render(template + "{{surprise}}", measured())
    with pytest.raises(Unfilled, match="budgets"):
        render(template.replace("{{budgets}}", ""), measured())


def test_kept_measurements_give_the_same_document() -> None:
    before = measured()
    after = msgspec.json.decode(msgspec.json.encode(before), type=Measured)
    template = TEMPLATE.read_text(encoding="utf-8")
    assert render(template, after) == render(template, before)


def test_no_document_tells_a_hosts_name() -> None:
    """Machine and figures only; the file is where the documents are."""
    import platform

    text = render(TEMPLATE.read_text(encoding="utf-8"), measured())
    assert platform.node() not in text.split()
    assert OUT.parts == ("docs", "performance.md")
