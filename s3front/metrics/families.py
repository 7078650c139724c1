"""The kinds of metric families, made from our figures. Loads prometheus_client: only a scrape should."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from codec import histogram

Labels = Sequence[str]

_SECONDS: Final = tuple(1 << power for power in range(7, 27))
"""Bounds of times: 128 µs to 67 s, an octave each, where our own buckets begin."""
_COUNTS: Final = tuple(1 << power for power in range(1, 11))


def counter(name: str, text: str, labels: Labels, values: Iterable[tuple[Labels, float]]) -> Metric:
    """`values`: each the labels' values and a number that never falls while the process runs."""
    family = CounterMetricFamily(name, text, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family


def gauge(name: str, text: str, labels: Labels, values: Iterable[tuple[Labels, float]]) -> Metric:
    """`values`: each the labels' values and what is so now."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family


def times(
    name: str,
    text: str,
    labels: Labels,
    values: Iterable[tuple[Labels, histogram.Sparse, int | None]],
) -> Metric:
    """`values`: each the labels' values, a histogram of microseconds and their sum; None: as the buckets have it."""
    family = HistogramMetricFamily(name, text, labels=labels)
    for label_values, counts, sum_us in values:
        total_us = middle_sum(counts) if sum_us is None else sum_us
        family.add_metric(label_values, _cumulative(counts, _SECONDS, 1e6, 0), total_us / 1e6)
    return family


def sizes(
    name: str,
    text: str,
    labels: Labels,
    values: Iterable[tuple[Labels, histogram.Sparse, int | None]],
) -> Metric:
    """`values`: as of `times`, of whole numbers from 1 to some hundreds. The bounds are 1, 3, 7, 15 and so on."""
    family = HistogramMetricFamily(name, text, labels=labels)
    for label_values, counts, total in values:
        known: float = middle_sum(counts) if total is None else total
        family.add_metric(label_values, _cumulative(counts, _COUNTS, 1, 1), known)
    return family


def middle_sum(counts: histogram.Sparse) -> float:
    """The sum of all values as far as the buckets tell, within histogram.RELATIVE_ERROR."""
    return sum(count * (sum(histogram.bounds(bucket)) - 1) / 2 for bucket, count in counts.items())


def _cumulative(
    counts: Mapping[int, int], bounds: Sequence[int], unit: float, less: int
) -> list[tuple[str, float]]:
    """Counts of the values below each bound. Told as bound - `less`: for whole numbers "below 4" is "at most 3"."""
    left = sorted(counts.items())
    found: list[tuple[str, float]] = []
    seen = at = 0
    for bound in bounds:
        end = histogram.bucket_of(bound)
        while at < len(left) and left[at][0] < end:
            seen += left[at][1]
            at += 1
        found.append((repr((bound - less) / unit), seen))
    found.append(("+Inf", seen + sum(count for _, count in left[at:])))
    return found
