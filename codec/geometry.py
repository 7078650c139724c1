"""Where every byte of a blob lies: stripes, shards and the spans between them. Pure arithmetic."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

STRIPE_BYTES = 1 << 20
SHARDS_MAX = 32  # liberasurecode's limit for k + m


class StripeSlice(NamedTuple):
    """The part `[start, stop)` of stripe number `stripe`, whose whole length is `length` bytes."""

    stripe: int
    length: int
    start: int
    stop: int


class ShardSpan(NamedTuple):
    """The bytes `[start, stop)` within data shard `shard` of one stripe; never touches its padding."""

    shard: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Geometry:
    """How blobs are cut: `k` data and `m` parity shards a stripe, stripes of at most `stripe_bytes`.

    Data shard i of a stripe of L bytes holds bytes `[i*S, min((i+1)*S, L))` of it, padded with zero bytes
    to the common shard length S = ceil(L/k); parity shards have the same length. Raises ValueError on
    numbers the codec cannot hold.
    """

    k: int
    m: int
    stripe_bytes: int = STRIPE_BYTES

    def __post_init__(self) -> None:
        if self.k < 1 or self.m < 1 or self.k + self.m > SHARDS_MAX:
            raise ValueError(f"{self.k}+{self.m} is no erasure code of 2 to {SHARDS_MAX} shards")
        if not 1 <= self.stripe_bytes <= STRIPE_BYTES:
            raise ValueError(f"a stripe of {self.stripe_bytes} bytes is not within 1 … {STRIPE_BYTES}")

    @property
    def width(self) -> int:
        """Shards a stripe."""
        return self.k + self.m

    def stripe_count(self, blob_bytes: int) -> int:
        """Stripes of a blob; none for an empty one."""
        return -(-blob_bytes // self.stripe_bytes)

    def stripe_length(self, blob_bytes: int, stripe: int) -> int:
        """Bytes of stripe number `stripe`; only the last one may be short. IndexError beyond the blob."""
        length = min(self.stripe_bytes, blob_bytes - stripe * self.stripe_bytes)
        if stripe < 0 or length <= 0:
            raise IndexError(f"no stripe {stripe} in a blob of {blob_bytes} bytes")
        return length

    def shard_length(self, stripe_length: int) -> int:
        """Bytes of each shard of a stripe of `stripe_length` bytes."""
        return -(-stripe_length // self.k)

    def stripe_slices(self, blob_bytes: int, start: int, stop: int) -> Iterator[StripeSlice]:
        """The slices that make up `[start, stop)` of a blob, in order, none of them empty.

        ValueError (at the first step) when the range does not lie within the blob.
        """
        if not 0 <= start <= stop <= blob_bytes:
            raise ValueError(f"[{start}, {stop}) does not lie within {blob_bytes} bytes")
        size = self.stripe_bytes
        while start < stop:
            stripe, offset = divmod(start, size)
            base = stripe * size
            length = min(size, blob_bytes - base)
            end = min(length, stop - base)
            yield StripeSlice(stripe, length, offset, end)
            start = base + end

    def shard_spans(self, stripe_length: int, start: int, stop: int) -> list[ShardSpan]:
        """The data shards that hold `[start, stop)` of a stripe, in order, with the offsets within each."""
        if not 0 <= start < stop <= stripe_length:
            raise ValueError(f"[{start}, {stop}) does not lie within a stripe of {stripe_length} bytes")
        size = -(-stripe_length // self.k)
        first = start // size
        last = (stop - 1) // size
        start -= first * size
        stop -= last * size
        if first == last:
            return [ShardSpan(first, start, stop)]
        spans = [ShardSpan(first, start, size)]
        for shard in range(first + 1, last):
            spans.append(ShardSpan(shard, 0, size))
        spans.append(ShardSpan(last, 0, stop))
        return spans
