"""Headers that S3 stores with an object and hands back: content headers, user metadata, dates, overrides.

Values travel as Latin-1 text: the bytes a client sent are the bytes it gets back, UTF-8 and RFC 2047 words
included, because HTTP gives them no charset and guessing one would change them.
"""

from __future__ import annotations

from calendar import timegm
from collections.abc import Iterable, Mapping
from functools import lru_cache
from time import gmtime, strftime
from typing import NamedTuple

from cluster.reports.moments import ms_of
from s3front.errors import InvalidArgument, InvalidRedirectLocation, MetadataTooLarge

METADATA_PREFIX = b"x-amz-meta-"
METADATA_BYTES_MAX = 2048
"""User metadata, names without the prefix plus values ("Working with object metadata")."""

DEFAULT_CONTENT_TYPE = "binary/octet-stream"

REDIRECT_HEADER = "x-amz-website-redirect-location"
REDIRECT_CHARS_MAX = 2048

KEPT_HEADERS = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
    REDIRECT_HEADER,
)
"""Stored as sent, beside Content-Type, and returned by GET and HEAD."""

RESPONSE_OVERRIDES = {
    "response-cache-control": b"cache-control",
    "response-content-disposition": b"content-disposition",
    "response-content-encoding": b"content-encoding",
    "response-content-language": b"content-language",
    "response-content-type": b"content-type",
    "response-expires": b"expires",
}

_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH_NUMBERS = {name.lower(): number for number, name in enumerate(_MONTHS, 1)}
_UTC_NAMES = (
    "GMT",
    "UTC",
    "Z",
    "+0000",
    "0000",
)  # the last is "-0000", which boto3 sends, its "-" a space by then
_DATE_CHARS_MAX = 64


class ObjectHeaders(NamedTuple):
    """What a PUT, a copy with REPLACE or a multipart upload stores beside the bytes."""

    content_type: str
    headers: dict[str, str]
    metadata: dict[str, str]


def object_headers(headers: Iterable[tuple[bytes, bytes]]) -> ObjectHeaders:
    """The headers to store, from a request's lower-case names and raw values. Raises MetadataTooLarge and
    InvalidRedirectLocation.

    Several headers of one name are joined by commas. ``aws-chunked`` is the transfer's, not the object's, and
    leaves Content-Encoding.
    """
    content_type = ""
    kept: dict[str, str] = {}
    metadata: dict[str, str] = {}
    for raw_name, raw_value in headers:
        if raw_name.startswith(METADATA_PREFIX):
            _add(metadata, raw_name[len(METADATA_PREFIX) :].decode("latin-1"), raw_value)
        elif raw_name == b"content-type":
            content_type = raw_value.strip().decode("latin-1")
        elif (name := raw_name.decode("latin-1")) in KEPT_HEADERS:
            _add(kept, name, raw_value)
    if metadata:
        _check_size(metadata)
    if REDIRECT_HEADER in kept:
        _check_redirect(kept[REDIRECT_HEADER])
    if "content-encoding" in kept:
        encoding = without_aws_chunked(kept.pop("content-encoding"))
        if encoding:
            kept["content-encoding"] = encoding
    return ObjectHeaders(content_type or DEFAULT_CONTENT_TYPE, kept, metadata)


def _add(values: dict[str, str], name: str, raw_value: bytes) -> None:
    value = raw_value.strip().decode("latin-1")
    values[name] = f"{values[name]},{value}" if name in values else value


def _check_size(metadata: Mapping[str, str]) -> None:
    size = sum(len(name) + len(value) for name, value in metadata.items())
    if size > METADATA_BYTES_MAX:
        raise MetadataTooLarge(Size=size, MaxSizeAllowed=METADATA_BYTES_MAX)


def _check_redirect(location: str) -> None:
    if not location.startswith(("/", "http://", "https://")):
        raise InvalidRedirectLocation
    if len(location) > REDIRECT_CHARS_MAX:
        raise InvalidRedirectLocation(
            f"The length of website redirect location cannot exceed {REDIRECT_CHARS_MAX:,} characters."
        )


def without_aws_chunked(content_encoding: str) -> str:
    """Content-Encoding as the object has it: ``aws-chunked,gzip`` is stored as ``gzip``, the rest as sent."""
    if "aws-chunked" not in content_encoding.lower():
        return content_encoding
    codings = (coding.strip() for coding in content_encoding.split(","))
    return ",".join(coding for coding in codings if coding and coding.lower() != "aws-chunked")


def response_overrides(query: Mapping[str, str]) -> dict[bytes, bytes]:
    """Headers that ``response-…`` parameters put in place of the stored ones. Raises InvalidArgument.

    Control characters are refused: they would let whoever makes a URL write headers of their own.
    """
    overrides: dict[bytes, bytes] = {}
    for parameter, header in RESPONSE_OVERRIDES.items():
        value = query.get(parameter)
        if value is None:
            continue
        raw = value.encode("utf-8", "surrogateescape")
        if any(byte < 0x20 or byte == 0x7F for byte in raw):
            raise InvalidArgument(
                "Header values can't contain control characters", ArgumentName=parameter, ArgumentValue=value
            )
        overrides[header] = raw.strip()
    return overrides


# -- dates ---------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _http_date_of_second(second: int) -> bytes:
    t = gmtime(second)
    return b"%s, %02d %s %04d %02d:%02d:%02d GMT" % (
        _WEEKDAYS[t.tm_wday].encode(),
        t.tm_mday,
        _MONTHS[t.tm_mon - 1].encode(),
        t.tm_year,
        t.tm_hour,
        t.tm_min,
        t.tm_sec,
    )


def http_date(ms: int) -> bytes:
    """Milliseconds since 1970 as Last-Modified has them: IMF-fixdate, rounded down (RFC 9110)."""
    return _http_date_of_second(ms // 1000)


def iso_date(ms: int) -> str:
    """Milliseconds since 1970 as S3 writes times in XML: ``2009-10-12T17:50:30.000Z``.

    Rounded down to the second, so that a listing and Last-Modified name the same instant.
    """
    return _iso_second(ms // 1000)


@lru_cache(maxsize=4096)
def _iso_second(second: int) -> str:
    return strftime("%Y-%m-%dT%H:%M:%S.000Z", gmtime(second))


def parse_iso_date(value: str) -> int | None:
    """Milliseconds since 1970 of an ISO 8601 date with or without time and zone (UTC without one), as XML bodies and
    lock headers have them; None when it is no such date, or before 1970. Finer parts are cut off."""
    text = value.strip()
    if len(text) > _DATE_CHARS_MAX or text.isdigit():
        return None
    try:
        return ms_of(text)
    except ValueError:
        return None


def parse_http_date(value: str) -> int | None:
    """Seconds since 1970 of an HTTP date in any of the three forms of RFC 9110; None when it is no date."""
    if len(value) > _DATE_CHARS_MAX or not value.isascii():
        return None
    words = value.replace(",", " ").replace("-", " ").split()
    try:
        if len(words) == 5:
            _, month, day, clock, year = words
        elif len(words) == 6 and words[5].upper() in _UTC_NAMES:
            _, day, month, year, clock, _ = words
        else:
            return None
        return _epoch_second(year, _MONTH_NUMBERS[month.lower()], day, clock)
    except (KeyError, ValueError):
        return None


def _epoch_second(year_text: str, month: int, day_text: str, clock: str) -> int:
    """Raises ValueError for what is no date."""
    hour_text, minute_text, second_text = clock.split(":")
    texts = (year_text, day_text, hour_text, minute_text, second_text)
    if not all(text.isdigit() for text in texts):
        raise ValueError("not a number")
    year, day, hour, minute, second = map(int, texts)
    if len(year_text) == 2:
        year += 1900 if year >= 70 else 2000
    if not 1970 <= year <= 9999:
        raise ValueError("year out of range")
    midnight = timegm((year, month, day, 0, 0, 0))
    back = gmtime(midnight)
    if (back.tm_mon, back.tm_mday) != (month, day) or hour > 23 or minute > 59 or second > 60:
        raise ValueError("no such day or time")
    return midnight + hour * 3600 + minute * 60 + second
