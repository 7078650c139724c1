"""Histograms: every value has one bucket, percentiles are within the error that is told, merging loses nothing."""

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from codec import histogram
from codec.histogram import BUCKETS, RELATIVE_ERROR, add, bounds, bucket_of, merged, percentile, sparse

_COUNTED = st.integers(0, (1 << 30) - 1)
"""Values that have a bucket of their own width."""


def _of(values: list[int]) -> dict[int, int]:
    counts = [0] * BUCKETS
    for value in values:
        counts[bucket_of(value)] += 1
    return sparse(counts)


@given(_COUNTED)
def test_a_value_lies_within_the_bounds_of_its_bucket(value: int) -> None:
    """Red when bucket_of rounds up, or bounds forgets the bit that all of an octave share."""
    low, high = bounds(bucket_of(value))
    assert low <= value < high
    assert bucket_of(low) == bucket_of(high - 1) == bucket_of(value)


def test_the_buckets_follow_each_other_without_gap_or_overlap() -> None:
    """Red when an octave has one bucket too few."""
    ends = [bounds(bucket) for bucket in range(BUCKETS)]
    assert ends[0][0] == 0
    assert all(this[1] == following[0] for this, following in itertools.pairwise(ends))
    assert ends[-1][1] == 1 << 30


@given(st.integers(1 << 30, 1 << 80))
def test_what_is_too_large_counts_in_the_last_bucket(value: int) -> None:
    """Red when bucket_of does not stop at the last one: the slots of the next figure would be counted up."""
    assert bucket_of(value) == BUCKETS - 1


@given(st.lists(_COUNTED, min_size=1), st.floats(0.0, 1.0))
def test_a_percentile_is_within_the_error_of_the_exact_one(values: list[int], share: float) -> None:
    """Red when the rank is rounded down, or the lower bound is answered instead of the middle."""
    wanted = sorted(values)[max(1, math.ceil(round(len(values) * share, 6))) - 1]
    told = percentile(_of(values), share)
    assert abs(told - wanted) <= wanted * RELATIVE_ERROR


def test_of_nothing_the_percentile_is_zero() -> None:
    assert percentile({}, 0.99) == 0.0


@given(st.lists(st.lists(_COUNTED, max_size=20), max_size=5))
def test_merged_is_as_if_counted_together(parts: list[list[int]]) -> None:
    """Red when merged takes the larger count instead of the sum."""
    everything = _of([value for part in parts for value in part])
    assert merged(map(_of, parts)) == everything
    dense = [0] * BUCKETS
    for part in parts:
        add(dense, _of(part))
    assert sparse(dense) == everything


def test_buckets_of_a_later_release_are_ignored() -> None:
    """Red when `add` does not look at the length: a row of a release with more buckets could not be read."""
    dense = [0] * BUCKETS
    add(dense, {3: 2, BUCKETS: 7, -1: 5})
    assert histogram.sparse(dense) == {3: 2}
