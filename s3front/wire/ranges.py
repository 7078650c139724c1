"""Byte ranges as S3 reads them: one range; everything else is either ignored or refused."""

from __future__ import annotations

from typing import NamedTuple

from s3front.errors import InvalidArgument, InvalidRange

RANGE_CHARS_MAX = 64
"""Two 64-bit numbers fit; a longer Range header is not a range that S3 honours."""

_DIGITS_MAX = 19


class Span(NamedTuple):
    """The bytes [start, stop) of an object; never empty."""

    start: int
    stop: int


def parse_range(header: str | None, size: int) -> Span | None:
    """What a Range header selects of an object of `size` bytes.

    None means the whole object with status 200: no header, several ranges, another unit or bad syntax, all of
    which S3 ignores (RFC 9110, 14.2). Raises InvalidRange for a range that begins past the end.
    """
    if header is None or len(header) > RANGE_CHARS_MAX:
        return None
    unit, equals, spec = header.partition("=")
    first, dash, last = spec.strip().partition("-")
    if not equals or not dash or unit.strip().lower() != "bytes":
        return None
    if not all(_is_number(number) for number in (first, last) if number):
        return None
    if first:
        start = int(first)
        stop = min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    elif last:
        start, stop = max(size - int(last), 0), size
    else:
        return None
    if start >= size:
        raise InvalidRange(RangeRequested=header, ActualObjectSize=size)
    return Span(start, stop)


def parse_copy_source_range(header: str | None, size: int) -> Span | None:
    """What ``x-amz-copy-source-range`` selects of a source of `size` bytes; None, the whole, without the header.

    Unlike a Range header it must be exact: raises InvalidArgument for bad syntax and InvalidRange for bytes that the
    source has not.
    """
    if header is None:
        return None
    unit, _, spec = header.partition("=")
    first, _, last = spec.partition("-")
    if unit != "bytes" or not _is_number(first) or not _is_number(last) or int(last) < int(first):
        raise InvalidArgument(
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are "
            "the zero-based offsets of the first and last bytes to copy",
            ArgumentName="x-amz-copy-source-range",
            ArgumentValue=header[:RANGE_CHARS_MAX],
        )
    if int(last) >= size:
        raise InvalidRange(RangeRequested=header, ActualObjectSize=size)
    return Span(int(first), int(last) + 1)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX
