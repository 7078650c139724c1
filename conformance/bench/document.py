"""``make performance``: measures, and writes docs/performance.md from the template beside this module.

What a command cannot know (why something costs what it costs, figures of other scripts) is prose in the template; each
``{{name}}`` in it is filled in here. The measurements are kept as JSON where ``--keep`` says, and ``--from`` writes the
document again from them.
"""

from __future__ import annotations

import argparse
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from conformance.bench.budgets import budget_table
from conformance.bench.five_phases import REFERENCE_GET_MEAN_MS, REFERENCE_PUT_MEAN_MS
from conformance.bench.html_report import to_html
from conformance.bench.report import Report
from conformance.bench.results import Run, to_json
from conformance.bench.run import measure
from conformance.bench.runner import Asked, run_profile

TEMPLATE = Path(__file__).with_name("performance.md.template")
OUT = Path("docs/performance.md")
MANY_CLIENTS = 16


class Measured(msgspec.Struct, frozen=True):
    """All that the document tells of this machine."""

    budget: Report
    one: Run
    """Five phases, one operation at a time."""
    many: Run
    seconds: float
    measured_on: str


class Unfilled(Exception):
    """The template has a name that nothing stands for, or the other way round."""


def render(template: str, measured: Measured) -> str:
    """Raises Unfilled."""
    values = {
        "measured_on": measured.measured_on,
        "machine": measured.budget.machine.words,
        "seconds": f"{measured.seconds:g}",
        "floor": _floor(measured.budget),
        "budgets": "\n".join(budget_table(measured.budget)),
        "metrics_cost": _metrics_cost(measured.budget),
        "log_cost": measured.budget.log_words(),
        "generator": _generator(measured.budget),
        "phases_one": "\n".join(phase_table(measured.one)),
        "phases_many": "\n".join(phase_table(measured.many)),
        "many_clients": str(measured.many.options["clients"]),
        "objects": f"{measured.one.options['objects']:,}",
        "verdict": _verdict(measured.one),
        "repair_one": _repair(measured.one),
        "repair_many": _repair(measured.many),
    }
    used = set(re.findall(r"\{\{(\w+)\}\}", template))
    if used != values.keys():
        raise Unfilled(f"only in one of template and figures: {', '.join(sorted(used ^ values.keys()))}")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found.group(1)], template)


def phase_table(run: Run) -> list[str]:
    """Lines of Markdown: a row for each kind of operation of each phase."""
    lines = [
        "| phase | | count | success | per s | mean ms | p50 | p90 | p95 | p99 | p99.9 | max |",
        "| --- |" + " --- |" * 11,
    ]
    for phase in run.phases:
        if not phase.figures:
            lines.append(f"| {phase.name} | {phase.seconds:.2f} s |" + " |" * 10)
        for figures in phase.figures:
            latencies = (
                *(figures.mean_ms, figures.p50_ms, figures.p90_ms, figures.p95_ms, figures.p99_ms),
                *(figures.p999_ms, figures.max_ms),
            )
            cells = (
                *(phase.name, figures.operation, f"{figures.count:,}", f"{figures.success_rate:.2%}"),
                *(f"{figures.per_second:,.0f}", *(f"{value:.2f}" for value in latencies)),
            )
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def mean_ms(run: Run, operation: str, phase_name: str = "") -> float:
    """Of what succeeded in all phases, or in one."""
    told = [
        figures
        for phase in run.phases
        for figures in phase.figures
        if figures.operation == operation and phase_name in ("", phase.name)
    ]
    done = sum(each.count - each.failed for each in told)
    return sum(each.mean_ms * (each.count - each.failed) for each in told) / done if done else 0.0


def _verdict(run: Run) -> str:
    """Beside the reference."""
    put_ms, get_ms = mean_ms(run, "PUT", "upload"), mean_ms(run, "GET", "download and verify")
    return (
        f"{run.count:,} operations, {run.failed:,} failed. Mean PUT {put_ms:.2f} ms (reference "
        f"{REFERENCE_PUT_MEAN_MS}), mean GET {get_ms:.2f} ms (reference {REFERENCE_GET_MEAN_MS}), both while all nodes "
        f"are there; over all phases {mean_ms(run, 'PUT'):.2f} and {mean_ms(run, 'GET'):.2f} ms."
    )


def _repair(run: Run) -> str:
    if run.recovery is None:
        return "not measured"
    return (
        f"{run.recovery.since_killed_s:.2f} s from the kill, {run.recovery.since_asked_s:.2f} s from the request to "
        f"recover ({run.recovery.blobs:,} blobs)"
    )


def _floor(report: Report) -> str:
    rates = [row.per_second for row in report.rows if row.name == "GET floor" and row.clients == 16]
    return f"{sum(rates) / len(rates):,.0f}" if rates else "not measured"


def _generator(report: Report) -> str:
    shares = [
        row.generator_share
        for row in report.rows
        if row.generator_share is not None and row.name != "GET floor"
    ]
    return f"{max(shares):.0%}" if shares else "not measured"


def _metrics_cost(report: Report) -> str:
    if report.metrics_us is None:
        return "not measured"
    parts = []
    for name in ("GET", "PUT"):
        row = report.row(name, "4 KiB", 16)
        cpu_us = (
            sum(value for process, value in row.cpu_us.items() if process.startswith("front")) if row else 0
        )
        if cpu_us:
            parts.append(f"{report.metrics_us / cpu_us:.1%} of a {name} of 4 KiB ({cpu_us:,.0f} µs)")
    return f"{report.metrics_us:.1f} µs of a front's CPU for each request: {', '.join(parts)}"


def take_measurements(seconds: float, objects: int, folder: Path | None, *, sizes: str = "all") -> Measured:
    """Takes minutes. Ends the process when something fails: a document must not tell of it."""
    budget = measure(seconds=seconds, sizes=sizes, folder=folder)
    return Measured(
        budget,
        one=_five_phases(1, objects, folder),
        many=_five_phases(MANY_CLIENTS, objects, folder),
        seconds=seconds,
        measured_on=datetime.now(UTC).strftime("%-d %B %Y"),
    )


def _five_phases(clients: int, objects: int, folder: Path | None) -> Run:
    run, broken = run_profile(Asked("failure", objects=objects, clients=clients, folder=folder))
    if broken or run.failed:
        sys.exit(f"the five phases failed with {clients} clients: {broken or run.phases}")
    return run


def main() -> None:
    parser = argparse.ArgumentParser(prog="make performance", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="length of each measurement of the budgets"
    )
    parser.add_argument("--objects", type=int, default=1000, help="of the five phases")
    parser.add_argument("--sizes", default="all", help="of the budgets, as in make bench")
    parser.add_argument("--folder", type=Path, help="where the temporary directory goes (some 20 GB)")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument(
        "--keep", type=Path, help="keep the measurements as JSON, and a page of charts, in this directory"
    )
    parser.add_argument("--from", dest="kept", type=Path, help="measure nothing: take what --keep kept there")
    options = parser.parse_args()
    if options.kept:
        measured = msgspec.json.decode((options.kept / "measured.json").read_bytes(), type=Measured)
    else:
        measured = take_measurements(options.seconds, options.objects, options.folder, sizes=options.sizes)
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        (options.keep / "measured.json").write_bytes(msgspec.json.encode(measured))
        for name, run in (("failure-1", measured.one), (f"failure-{MANY_CLIENTS}", measured.many)):
            (options.keep / f"{name}.json").write_text(to_json(run))
            (options.keep / f"{name}.html").write_text(to_html(run))
    options.out.write_text(render(TEMPLATE.read_text(encoding="utf-8"), measured), encoding="utf-8")
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
