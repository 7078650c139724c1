"""Headers that are stored, dates, overrides."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3front import errors
from s3front.wire.headers import (
    DEFAULT_CONTENT_TYPE,
    METADATA_BYTES_MAX,
    http_date,
    iso_date,
    object_headers,
    parse_http_date,
    response_overrides,
    without_aws_chunked,
)


def test_object_headers() -> None:
    found = object_headers(
        [
            (b"host", b"h"),
            (b"content-type", b" text/plain "),
            (b"cache-control", b"no-cache"),
            (b"content-encoding", b"aws-chunked, gzip"),
            (b"x-amz-meta-a", b"1"),
            (b"x-amz-meta-b", b" two  spaces "),
            (b"x-amz-meta-a", b"2"),
            (b"x-amz-acl", b"private"),
            (b"x-amz-website-redirect-location", b"/x"),
        ]
    )
    assert found.content_type == "text/plain"
    assert found.metadata == {"a": "1,2", "b": "two  spaces"}
    assert found.headers == {
        "cache-control": "no-cache",
        "content-encoding": "gzip",
        "x-amz-website-redirect-location": "/x",
    }


def test_defaults() -> None:
    found = object_headers([(b"content-encoding", b"aws-chunked"), (b"content-type", b"")])
    assert found == (DEFAULT_CONTENT_TYPE, {}, {})


@given(st.binary(max_size=50))
def test_metadata_bytes_come_back_as_sent(raw: bytes) -> None:
    value = raw.strip()
    found = object_headers([(b"x-amz-meta-k", raw)]).metadata["k"]
    assert found.encode("latin-1") == value


def test_metadata_limit_counts_names_and_values() -> None:
    name = b"x-amz-meta-" + b"n" * 48
    object_headers([(name, b"v" * (METADATA_BYTES_MAX - 48))])
    with pytest.raises(errors.MetadataTooLarge) as caught:
        object_headers([(name, b"v" * (METADATA_BYTES_MAX - 47))])
    assert caught.value.elements == {"Size": METADATA_BYTES_MAX + 1, "MaxSizeAllowed": METADATA_BYTES_MAX}


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("gzip", "gzip"),
        ("aws-chunked", ""),
        ("AWS-Chunked,gzip", "gzip"),
        ("gzip, aws-chunked", "gzip"),
        ("br , gzip", "br , gzip"),
        ("aws-chunked,,", ""),
    ],
)
def test_aws_chunked_is_not_the_objects_encoding(sent: str, stored: str) -> None:
    assert without_aws_chunked(sent) == stored


def test_response_overrides() -> None:
    query = {"response-content-type": "text/html; charset=utf-8", "response-expires": "é", "prefix": "x"}
    assert response_overrides(query) == {
        b"content-type": b"text/html; charset=utf-8",
        b"expires": "é".encode(),
    }


@pytest.mark.parametrize("value", ["a\r\nset-cookie: x", "a\nb", "a\x00", "\x7f"])
def test_response_overrides_cannot_write_other_headers(value: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        response_overrides({"response-content-disposition": value})


# -- dates -----------------------------------------------------------------------------------------------------


def test_dates_as_s3_writes_them() -> None:
    assert http_date(784_111_777_999) == b"Sun, 06 Nov 1994 08:49:37 GMT"
    assert iso_date(784_111_777_009) == "1994-11-06T08:49:37.000Z"


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 -0000",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
    ],
)
def test_dates_clients_send(text: str) -> None:
    assert parse_http_date(text) == 784_111_777


@given(st.integers(0, 253_402_300_799))
def test_dates_are_read_back(second: int) -> None:
    assert parse_http_date(http_date(second * 1000).decode()) == second
    assert parse_http_date(formatdate(second, usegmt=True)) == second
    assert iso_date(second * 1000) == time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(second))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "Sun, 06 Nov 1994 08:49:37 CET",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:49 GMT",
        "Sun, 06 Nov 1900 08:49:37 GMT",
        "Sun, 06 Nov ٣٣٣٣ 08:49:37 GMT",
        "1 " * 1000,
        "9" * 10_000,
    ],
)
def test_no_dates(text: str) -> None:
    assert parse_http_date(text) is None


@given(st.text(max_size=80))
def test_any_text_is_a_date_or_none(text: str) -> None:
    found = parse_http_date(text)
    assert found is None or found >= 0
