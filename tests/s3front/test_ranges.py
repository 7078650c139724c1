"""Range headers against a plain reading of RFC 9110, and those that S3 ignores or refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3front import errors
from s3front.wire.ranges import parse_copy_source_range, parse_range

SIZES = st.integers(0, 30) | st.integers(0, 5 << 40)
OFFSETS = st.integers(0, 40) | st.integers(0, 5 << 40)


@given(size=SIZES, first=OFFSETS, last=OFFSETS)
def test_first_and_last(size: int, first: int, last: int) -> None:
    header = f"bytes={first}-{last}"
    if first > last:
        assert parse_range(header, size) is None
    elif first >= size:
        with pytest.raises(errors.InvalidRange) as caught:
            parse_range(header, size)
        assert caught.value.elements == {"RangeRequested": header, "ActualObjectSize": size}
        assert caught.value.status == 416
    else:
        assert parse_range(header, size) == (first, min(last, size - 1) + 1)


@given(size=SIZES, first=OFFSETS)
def test_from_an_offset_on(size: int, first: int) -> None:
    if first >= size:
        with pytest.raises(errors.InvalidRange):
            parse_range(f"bytes={first}-", size)
    else:
        assert parse_range(f"bytes={first}-", size) == (first, size)


@given(size=SIZES, count=OFFSETS)
def test_the_last_bytes(size: int, count: int) -> None:
    if count == 0 or size == 0:
        with pytest.raises(errors.InvalidRange):
            parse_range(f"bytes=-{count}", size)
    else:
        assert parse_range(f"bytes=-{count}", size) == (max(size - count, 0), size)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=1",
        "bytes=5-1",
        "bytes=1-2,4-5",
        "bytes=-1-2",
        "bytes=--1",
        "bytes=+1-2",
        "bytes=1_0-20",
        "bytes=1 - 2",
        "bytes=0x1-2",
        "bytes=\u0660-\u0663",
        "items=0-1",
        "0-1",
        "bytes=0-" + "9" * 30,
        "bytes=" + "0-0," * 100_000,
        "bytes=0-" + " " * 100_000,
    ],
)
def test_what_s3_ignores(header: str | None) -> None:
    assert parse_range(header, 10) is None


def test_spelling_that_s3_accepts() -> None:
    assert parse_range("Bytes=0-1", 10) == (0, 2)
    assert parse_range("bytes= 0-1 ", 10) == (0, 2)
    assert parse_range("bytes=9-", 10) == (9, 10)


@given(size=SIZES, first=OFFSETS, last=OFFSETS)
def test_copy_source_range_is_exact(size: int, first: int, last: int) -> None:
    header = f"bytes={first}-{last}"
    if first <= last < size:
        assert parse_copy_source_range(header, size) == (first, last + 1)
        return
    with pytest.raises(errors.InvalidRange if first <= last else errors.InvalidArgument):
        parse_copy_source_range(header, size)


@pytest.mark.parametrize(
    "header",
    ["", "0-1", "bytes=1", "bytes=0-", "bytes=-1", "bytes=0-1,3-4", "bytes 0-1", "bytes=0-" + "9" * 99],
)
def test_malformed_copy_source_range(header: str) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        parse_copy_source_range(header, 10)
    assert caught.value.message.startswith(
        "The x-amz-copy-source-range value must be of the form bytes=first-last"
    )


def test_no_copy_source_range() -> None:
    assert parse_copy_source_range(None, 10) is None


@given(st.text(), SIZES)
def test_any_text_is_a_range_or_ignored_or_refused(header: str, size: int) -> None:
    for parse, refusal in (
        (parse_range, errors.InvalidRange),
        (parse_copy_source_range, (errors.InvalidArgument, errors.InvalidRange)),
    ):
        try:
            span = parse("bytes=" + header, size)
        except refusal:
            continue
        assert span is None or 0 <= span.start < span.stop <= size
