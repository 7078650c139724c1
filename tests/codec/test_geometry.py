"""Every offset calculation against the definition: cut real bytes by it and put them together again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.geometry import SHARDS_MAX, STRIPE_BYTES, Geometry, ShardSpan, StripeSlice

geometries = st.builds(Geometry, k=st.integers(1, 6), m=st.integers(1, 4), stripe_bytes=st.integers(1, 40))


def shards_of(geometry: Geometry, stripe: bytes) -> list[bytes]:
    size = geometry.shard_length(len(stripe))
    padded = stripe.ljust(size * geometry.k, b"\0")
    return [padded[i * size : (i + 1) * size] for i in range(geometry.k)]


@given(geometries, st.binary(max_size=200), st.data())
def test_slices_and_spans_find_every_byte_of_a_range(
    geometry: Geometry, blob: bytes, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(blob)))
    stop = data.draw(st.integers(start, len(blob)))
    found = b""
    for piece in geometry.stripe_slices(len(blob), start, stop):
        assert piece.length == geometry.stripe_length(len(blob), piece.stripe)
        base = piece.stripe * geometry.stripe_bytes
        shards = shards_of(geometry, blob[base : base + piece.length])
        spans = geometry.shard_spans(piece.length, piece.start, piece.stop)
        assert all(0 <= span.start < span.stop <= len(shards[0]) for span in spans)
        found += b"".join(shards[span.shard][span.start : span.stop] for span in spans)
    assert found == blob[start:stop]


@given(geometries, st.integers(0, 500))
def test_stripes_add_up_to_the_blob(geometry: Geometry, blob_bytes: int) -> None:
    count = geometry.stripe_count(blob_bytes)
    lengths = [geometry.stripe_length(blob_bytes, stripe) for stripe in range(count)]
    assert sum(lengths) == blob_bytes
    assert all(length == geometry.stripe_bytes for length in lengths[:-1])
    for beyond in (count, -1):
        with pytest.raises(IndexError):
            geometry.stripe_length(blob_bytes, beyond)


def test_the_examples_of_the_design() -> None:
    geometry = Geometry(2, 1)
    assert geometry.width == 3
    assert geometry.stripe_bytes == STRIPE_BYTES == 1 << 20
    assert geometry.stripe_count(0) == 0
    assert list(geometry.stripe_slices(0, 0, 0)) == []
    assert geometry.shard_length(4097) == 2049
    assert geometry.shard_spans(4097, 2048, 2050) == [ShardSpan(0, 2048, 2049), ShardSpan(1, 0, 1)]
    assert list(geometry.stripe_slices((2 << 20) + 5, (1 << 20) - 1, (2 << 20) + 5)) == [
        StripeSlice(0, 1 << 20, (1 << 20) - 1, 1 << 20),
        StripeSlice(1, 1 << 20, 0, 1 << 20),
        StripeSlice(2, 5, 0, 5),
    ]


@pytest.mark.parametrize(
    ("k", "m", "stripe_bytes"),
    [(0, 1, 1024), (1, 0, 1024), (SHARDS_MAX, 1, 1024), (2, 1, 0), (2, 1, STRIPE_BYTES + 1)],
)
def test_numbers_the_codec_cannot_hold_are_refused(k: int, m: int, stripe_bytes: int) -> None:
    with pytest.raises(ValueError, match="is no"):
        Geometry(k, m, stripe_bytes)


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (3, 2), (0, 11)])
def test_ranges_outside_the_blob_are_refused(start: int, stop: int) -> None:
    geometry = Geometry(2, 1, 4)
    with pytest.raises(ValueError, match="does not lie within"):
        list(geometry.stripe_slices(10, start, stop))
    with pytest.raises(ValueError, match="does not lie within"):
        geometry.shard_spans(10, start, stop)
