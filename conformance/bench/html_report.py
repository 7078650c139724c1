"""A run as one HTML page that needs nothing else: figures in a table, charts as inline SVG."""

from __future__ import annotations

from html import escape

from conformance.bench.charts import (
    Bar,
    Line,
    Stretch,
    colour,
    latency_chart,
    percentiles,
    phase_chart,
    throughput_chart,
)
from conformance.bench.results import Figures, Phase, Run, latency_at
from conformance.bench.summary import facts

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2530; background: #fff; margin: 2rem auto; max-width: 960px;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p.about { color: #5a6572; margin-top: .25rem; }
.tiles { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.25rem 0; }
.tile { border: 1px solid #d9dee4; border-radius: 6px; padding: .5rem 1rem; }
.tile b { display: block; font-size: 1.3rem; font-variant-numeric: tabular-nums; }
.tile span { color: #5a6572; font-size: .85rem; }
.bad b { color: #b3261e; } .good b { color: #1e7a3c; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .3rem .5rem; border-bottom: 1px solid #e4e8ec; white-space: nowrap; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
th { color: #5a6572; font-weight: 600; } .scroll { overflow-x: auto; }
svg { width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: #5a6572; }
svg .grid { stroke: #e4e8ec; } svg line.moment { stroke: #b3261e; stroke-dasharray: 4 3; }
svg text.moment { fill: #b3261e; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1rem; font-size: .85rem; padding: 0; list-style: none; }
.legend i { display: inline-block; width: .8rem; height: .8rem; border-radius: 2px; margin-right: .35rem; }
"""
_TABLE_HEADINGS = (
    *(
        "phase",
        "operation",
        "count",
        "failed",
        "success",
        "ops/s",
        "MB/s",
        "mean",
        "p50",
        "p90",
        "p95",
        "p99",
    ),
    *("p99.9", "max"),
)


def to_html(run: Run) -> str:
    """The whole page."""
    title = f"Trivet bench: {run.profile}"
    stretches = _stretches(run)
    sections = [
        _tiles(run),
        _chart("Latency by percentile", latency_chart(_lines(run)), _legend(_labels(run))),
        _chart(
            "Throughput over time",
            throughput_chart(stretches, _moments(run)),
            _legend([(stretch.label, stretch.colour) for stretch in stretches]),
        ),
        _chart("Mean and 99th percentile of each phase", phase_chart(_bars(run)), ""),
        f"<h2>Figures (latencies in ms)</h2>{_table(run)}",
        "<h2>To be known</h2><ul>" + "".join(f"<li>{escape(fact)}</li>" for fact in facts(run)) + "</ul>",
        _failures(run),
    ]
    about = f"against {run.endpoint}, {run.begun_at}<br>{escape(run.machine.words)}"
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f'<h1>{escape(title)}</h1><p class="about">{about}</p>\n' + "\n".join(sections) + "</body></html>\n"
    )


def _tiles(run: Run) -> str:
    whole = "good" if not run.failed else "bad"
    tiles = [
        _tile(f"{run.success_rate:.2%}", "succeeded", whole),
        _tile(f"{run.count:,}", "operations"),
        _tile(f"{run.failed:,}", "failed", whole),
    ]
    for method in ("PUT", "GET"):
        mean_ms = _mean_ms(run, method)
        if mean_ms is not None:
            tiles.append(_tile(f"{mean_ms:.2f} ms", f"mean {method}, all phases"))
    if run.recovery is not None:
        tiles.append(_tile(f"{run.recovery.since_killed_s:.2f} s", "time to repair, from the kill"))
        tiles.append(_tile(f"{run.recovery.since_asked_s:.2f} s", "from the start of the recovery"))
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _tile(value: str, what: str, look: str = "") -> str:
    return f'<div class="tile {look}"><b>{escape(value)}</b><span>{escape(what)}</span></div>'


def _mean_ms(run: Run, operation: str) -> float | None:
    told = [each for _, each in _each(run) if each.operation == operation]
    done = sum(each.count - each.failed for each in told)
    return sum(each.mean_ms * (each.count - each.failed) for each in told) / done if done else None


def _each(run: Run) -> list[tuple[Phase, Figures]]:
    return [(phase, figures) for phase in run.phases for figures in phase.figures]


def _label(phase: Phase, figures: Figures) -> str:
    return f"{phase.name}: {figures.operation}"


def _labels(run: Run) -> list[tuple[str, str]]:
    return [(_label(phase, figures), colour(n)) for n, (phase, figures) in enumerate(_each(run))]


def _lines(run: Run) -> list[Line]:
    return [
        Line(_label(phase, figures), latency_at(figures, percentiles()), colour(n))
        for n, (phase, figures) in enumerate(_each(run))
        if figures.count > figures.failed
    ]


def _stretches(run: Run) -> list[Stretch]:
    """Each in the colour that its first kind of operation has in the other charts."""
    colours: dict[str, str] = {}
    for number, (phase, _) in enumerate(_each(run)):
        colours.setdefault(phase.name, colour(number))
    return [
        Stretch(
            phase.name,
            phase.begins_s,
            phase.seconds,
            phase.slot_s,
            [count / phase.slot_s for count in phase.timeline],
            colours[phase.name],
        )
        for phase in run.phases
        if phase.figures
    ]


def _moments(run: Run) -> list[tuple[float, str]]:
    return [(phase.begins_s, phase.name) for phase in run.phases if not phase.figures]


def _bars(run: Run) -> list[Bar]:
    return [
        Bar(_label(phase, figures), figures.mean_ms, figures.p99_ms, colour(n))
        for n, (phase, figures) in enumerate(_each(run))
    ]


def _legend(labels: list[tuple[str, str]]) -> str:
    entries = "".join(
        f'<li><i style="background:{shown}"></i>{escape(label)}</li>' for label, shown in labels
    )
    return f'<ul class="legend">{entries}</ul>'


def _chart(heading: str, svg: str, legend: str) -> str:
    return f"<h2>{escape(heading)}</h2>{svg}{legend}"


def _table(run: Run) -> str:
    head = "".join(f"<th>{heading}</th>" for heading in _TABLE_HEADINGS)
    rows = []
    for phase in run.phases:
        if not phase.figures:
            rows.append(f'<tr><td>{escape(phase.name)}</td><td colspan="13">{phase.seconds:.2f} s</td></tr>')
        rows += [_row(phase, figures) for figures in phase.figures]
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _row(phase: Phase, figures: Figures) -> str:
    moved = (figures.sent_bytes + figures.received_bytes) / phase.seconds / 1e6 if phase.seconds else 0.0
    latencies = (
        *(figures.mean_ms, figures.p50_ms, figures.p90_ms, figures.p95_ms, figures.p99_ms),
        *(figures.p999_ms, figures.max_ms),
    )
    cells = (
        *(escape(phase.name), escape(figures.operation), f"{figures.count:,}", f"{figures.failed:,}"),
        *(f"{figures.success_rate:.2%}", f"{figures.per_second:,.1f}", f"{moved:,.1f}"),
        *(f"{value:,.2f}" for value in latencies),
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _failures(run: Run) -> str:
    told = [
        f"<li>{escape(phase.name)}: {failure.count:,} times {escape(failure.kind)} {escape(failure.path)}: "
        f"{escape(failure.reason)}</li>"
        for phase in run.phases
        for failure in phase.failures
    ]
    return f"<h2>Failures</h2><ul>{''.join(told)}</ul>" if told else ""
