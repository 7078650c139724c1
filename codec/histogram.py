"""Counts of values in buckets of a fixed relative width, the layout that HdrHistogram made known.

Values are whole numbers from 0 on, of any unit (microseconds, writes). Below 32 each value has a bucket of its own;
above, each power of two is cut into 16. So a percentile is off by at most RELATIVE_ERROR, counts add up exactly, and
merging histograms of several processes or minutes loses nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, MutableSequence, Sequence
from typing import Final

_SUB_BITS: Final = 4
_OCTAVES: Final = 26
BUCKETS: Final = (_OCTAVES + 1) << _SUB_BITS
"""Length of the sequence that holds one histogram; values from 2**30 on count in the last bucket."""
RELATIVE_ERROR: Final = 1 / 32
"""Of `percentile`: half the width of a bucket, as a share of the value."""

Sparse = Mapping[int, int]
"""Count by bucket, without the empty ones: how a histogram travels and is stored."""


def bucket_of(value: int) -> int:
    """The bucket that counts `value`, which must not be negative."""
    shift = value.bit_length() - _SUB_BITS - 1
    if shift <= 0:
        return value
    bucket = (shift << _SUB_BITS) + (value >> shift)
    return bucket if bucket < BUCKETS else BUCKETS - 1


def bounds(bucket: int) -> tuple[int, int]:
    """The least value of a bucket and the least of the next one."""
    shift = (bucket >> _SUB_BITS) - 1
    if shift <= 0:
        return bucket, bucket + 1
    low = ((bucket & ((1 << _SUB_BITS) - 1)) | (1 << _SUB_BITS)) << shift
    return low, low + (1 << shift)


def sparse(counts: Sequence[float]) -> dict[int, int]:
    """The buckets that are not empty."""
    return {bucket: int(count) for bucket, count in enumerate(counts) if count}


def add(into: MutableSequence[int], counts: Sparse) -> None:
    """Merge `counts` into a histogram of BUCKETS entries; buckets it does not have are ignored."""
    for bucket, count in counts.items():
        if 0 <= bucket < len(into):
            into[bucket] += count


def merged(histograms: Iterable[Sparse]) -> dict[int, int]:
    """The sum of several."""
    total: dict[int, int] = {}
    for counts in histograms:
        for bucket, count in counts.items():
            total[bucket] = total.get(bucket, 0) + count
    return total


def percentile(counts: Sparse, share: float) -> float:
    """The value that `share` (0 to 1) of all values do not exceed, within RELATIVE_ERROR; 0.0 of none."""
    wanted = max(1, math.ceil(round(sum(counts.values()) * share, 6)))
    seen = 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= wanted:
            low, high = bounds(bucket)
            return (low + high - 1) / 2
    return 0.0
