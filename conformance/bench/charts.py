"""Charts as inline SVG: nothing is loaded from anywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

COLOURS = (
    *("#1f6fb4", "#d1602b", "#2f8f4e", "#8656a8", "#b8860b", "#c2397a", "#3a9aa8", "#6b6b6b", "#94493a"),
)
WIDTH, HEIGHT = 900, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 32, 16, 44
_PLOT_WIDTH, _PLOT_HEIGHT = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
_NINES = (0.0, 50.0, 90.0, 99.0, 99.9, 99.99)
_POINTS_BETWEEN = 8
_ROW_HEIGHT = 30
_STEPS = (1, 1.5, 2, 3, 4, 5, 6, 8, 10)


def colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


@dataclass(frozen=True, slots=True)
class Line:
    """`values` are milliseconds at the percentiles that `percentiles()` gives."""

    label: str
    values: list[float]
    colour: str


def percentiles() -> list[float]:
    """Evenly spread over the axis of `latency_chart`, which gives each further nine as much room."""
    steps = [step / _POINTS_BETWEEN for step in range((len(_NINES) - 1) * _POINTS_BETWEEN + 1)]
    return [_percentile(step) for step in steps]


def _percentile(place: float) -> float:
    """The axis: 0 is p0, 1 is p50, 2 is p90, 3 is p99 and so on; between them the rest shrinks evenly."""
    low = min(int(place), len(_NINES) - 2)
    rest, next_rest = 100 - _NINES[low], 100 - _NINES[low + 1]
    return 100 - rest * math.pow(next_rest / rest, place - low)


def latency_chart(lines: Sequence[Line]) -> str:
    """Latency (logarithmic) by percentile, a line for each kind of operation."""
    shown = [value for line in lines for value in line.values if value > 0]
    low, high = _decades(shown or [1.0])
    places = len(_NINES) - 1

    def x(place: float) -> float:
        return _LEFT + place / places * _PLOT_WIDTH

    def y(value: float) -> float:
        share = (math.log10(max(value, 10**low)) - low) / (high - low)
        return _TOP + (1 - share) * _PLOT_HEIGHT

    parts = [_horizontal(y(10.0**power), _milliseconds(10.0**power)) for power in range(low, high + 1)]
    parts += [_vertical(x(place), f"p{_NINES[place]:g}") for place in range(places + 1)]
    for line in lines:
        points = " ".join(
            f"{x(step / _POINTS_BETWEEN):.1f},{y(value):.1f}" for step, value in enumerate(line.values)
        )
        parts.append(
            f'<polyline fill="none" stroke="{line.colour}" stroke-width="2" points="{points}">'
            f"<title>{escape(line.label)}</title></polyline>"
        )
    return _svg(HEIGHT, "Latency by percentile", parts)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Throughput of one phase: operations a second in slots of `slot_s` from `begins_s` on."""

    label: str
    begins_s: float
    seconds: float
    slot_s: float
    rates: list[float]
    colour: str


def throughput_chart(stretches: Sequence[Stretch], moments: Sequence[tuple[float, str]]) -> str:
    """Operations a second over the run; `moments` are marked with a word."""
    end_s = max((each.begins_s + each.seconds for each in stretches), default=1.0) or 1.0
    top = _round_up(max((rate for each in stretches for rate in each.rates), default=1.0))

    def x(at_s: float) -> float:
        return _LEFT + at_s / end_s * _PLOT_WIDTH

    def y(rate: float) -> float:
        return _TOP + (1 - rate / top) * _PLOT_HEIGHT

    parts = [_horizontal(y(top * part / 4), f"{top * part / 4:,.0f}/s") for part in range(5)]
    parts += [
        _vertical(x(end_s * part / 6), f"{end_s * part / 6:.{_decimals(end_s)}f} s") for part in range(7)
    ]
    for each in stretches:
        corners = [(each.begins_s, 0.0)]
        for slot, rate in enumerate(each.rates):
            begins_s = each.begins_s + slot * each.slot_s
            ends_s = min(begins_s + each.slot_s, each.begins_s + each.seconds)
            corners += [(begins_s, rate), (ends_s, rate)]
        corners.append((each.begins_s + each.seconds, 0.0))
        points = " ".join(f"{x(at_s):.1f},{y(rate):.1f}" for at_s, rate in corners)
        parts.append(
            f'<polygon fill="{each.colour}" fill-opacity="0.35" stroke="{each.colour}" points="{points}">'
            f"<title>{escape(each.label)}</title></polygon>"
        )
    for at_s, word in moments:
        parts.append(
            f'<line x1="{x(at_s):.1f}" x2="{x(at_s):.1f}" y1="{_TOP}" y2="{_TOP + _PLOT_HEIGHT}" class="moment"/>'
            f'<text x="{x(at_s) + 4:.1f}" y="{_TOP + 12}" class="moment">{escape(word)}</text>'
        )
    return _svg(HEIGHT, "Throughput over time", parts)


@dataclass(frozen=True, slots=True)
class Bar:
    """Milliseconds of one kind of operation in one phase."""

    label: str
    mean_ms: float
    p99_ms: float
    colour: str


def phase_chart(bars: Sequence[Bar]) -> str:
    """Mean (full) and p99 (pale) of each phase beside each other."""
    height = _TOP + _ROW_HEIGHT * len(bars) + _BOTTOM
    top = _round_up(max((bar.p99_ms for bar in bars), default=1.0))
    left = 250

    def x(value: float) -> float:
        return left + value / top * (WIDTH - left - 90)

    parts = []
    for part in range(5):
        at = x(top * part / 4)
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{height - _BOTTOM}" class="grid"/>')
        parts.append(
            f'<text x="{at:.1f}" y="{height - _BOTTOM + 18}" text-anchor="middle">'
            f"{_milliseconds(top * part / 4)}</text>"
        )
    for number, bar in enumerate(bars):
        y = _TOP + number * _ROW_HEIGHT + 4
        middle = y + (_ROW_HEIGHT - 8) / 2 + 4
        parts.append(f'<text x="{left - 8}" y="{middle}" text-anchor="end">{escape(bar.label)}</text>')
        for value, opacity in ((bar.p99_ms, 0.3), (bar.mean_ms, 1.0)):
            parts.append(
                f'<rect x="{left}" y="{y}" width="{max(1.0, x(value) - left):.1f}" height="{_ROW_HEIGHT - 8}" '
                f'fill="{bar.colour}" fill-opacity="{opacity}"/>'
            )
        told = f"{bar.mean_ms:.2f} / {bar.p99_ms:.2f} ms"
        parts.append(f'<text x="{x(bar.p99_ms) + 6:.1f}" y="{middle}">{told}</text>')
    return _svg(height, "Mean and 99th percentile of each phase", parts)


def _svg(height: int, title: str, parts: Sequence[str]) -> str:
    inner = "\n".join(parts)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>\n{inner}\n</svg>"
    )


def _horizontal(y: float, label: str) -> str:
    return (
        f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
        f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(label)}</text>'
    )


def _vertical(x: float, label: str) -> str:
    bottom = _TOP + _PLOT_HEIGHT
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}" class="grid"/>'
        f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{escape(label)}</text>'
    )


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """Powers of ten around the values."""
    low = math.floor(math.log10(min(values)))
    return low, max(low + 1, math.ceil(math.log10(max(values))))


def _round_up(value: float) -> float:
    """A round number that is not smaller."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in _STEPS if step * power >= value * 0.999999)


def _decimals(end_s: float) -> int:
    """So that six marks on a time axis are told apart."""
    return 2 if end_s < 10 else 1 if end_s < 100 else 0


def _milliseconds(value: float) -> str:
    return f"{value:g} ms" if value < 1000 else f"{value / 1000:g} s"
