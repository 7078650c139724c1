"""Conditional requests: AWS's precedence, for reads, copies and writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.model import Condition
from s3front import errors
from s3front.wire.conditions import (
    COPY_SOURCE_PREFIX,
    check_read,
    check_write_source,
    copy_conditions,
    delete_condition,
    matches,
    read_conditions,
    unquote_etag,
    write_condition,
)

ETAG = "9bb58f26192e4ba00f01e2e7b136bbd8"
SAME, OTHER = f'"{ETAG}"', '"0"'
MODIFIED_MS = 784_111_777_500
BEFORE, AT, AFTER = (f"Sun, 06 Nov 1994 08:49:{second} GMT" for second in (36, 37, 38))


def outcome(**headers: str) -> int:
    """Status of a GET with these headers."""
    found = read_conditions({name.replace("_", "-"): value for name, value in headers.items()})
    if found is None:
        return 200
    try:
        check_read(found, ETAG, MODIFIED_MS)
    except errors.S3Error as error:
        return error.status
    return 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"if_match": SAME}, 200),
        ({"if_match": OTHER}, 412),
        ({"if_match": "*"}, 200),
        ({"if_match": ETAG}, 200),
        ({"if_match": f"{OTHER}, {SAME}"}, 200),
        ({"if_none_match": SAME}, 304),
        ({"if_none_match": OTHER}, 200),
        ({"if_none_match": "*"}, 304),
        ({"if_none_match": f"W/{SAME}"}, 304),
        ({"if_modified_since": BEFORE}, 200),
        ({"if_modified_since": AT}, 304),
        ({"if_modified_since": AFTER}, 304),
        ({"if_unmodified_since": BEFORE}, 412),
        ({"if_unmodified_since": AT}, 200),
        ({"if_unmodified_since": AFTER}, 200),
        ({"if_match": SAME, "if_unmodified_since": BEFORE}, 200),
        ({"if_match": OTHER, "if_unmodified_since": AFTER}, 412),
        ({"if_none_match": SAME, "if_modified_since": BEFORE}, 304),
        ({"if_none_match": OTHER, "if_modified_since": AFTER}, 200),
        ({"if_match": OTHER, "if_none_match": SAME}, 412),
        ({"if_match": SAME, "if_none_match": SAME}, 304),
        ({"if_modified_since": "yesterday"}, 200),
        ({"if_unmodified_since": ""}, 200),
    ],
)
def test_read_precedence(headers: dict[str, str], status: int) -> None:
    assert outcome(**headers) == status


def test_failed_condition_is_named_and_304_carries_headers() -> None:
    wanted = read_conditions({"if-match": OTHER})
    assert wanted is not None
    with pytest.raises(errors.PreconditionFailed) as failed:
        check_read(wanted, ETAG, MODIFIED_MS)
    assert failed.value.elements == {"Condition": "If-Match"}
    wanted = read_conditions({"if-none-match": SAME})
    assert wanted is not None
    with pytest.raises(errors.NotModified) as unchanged:
        check_read(wanted, ETAG, MODIFIED_MS, ((b"etag", SAME.encode()),))
    assert unchanged.value.headers == ((b"etag", SAME.encode()),)


@pytest.mark.parametrize(
    ("headers", "condition"),
    [
        ({"if-match": SAME, "if-unmodified-since": BEFORE}, None),
        ({"if-match": OTHER}, "If-Match"),
        ({"if-none-match": SAME, "if-modified-since": BEFORE}, "If-None-Match"),
        ({"if-none-match": OTHER}, None),
        ({"if-modified-since": AT}, "If-Modified-Since"),
        ({"if-unmodified-since": BEFORE}, "If-Unmodified-Since"),
    ],
)
def test_copy_source_fails_with_412_only(headers: dict[str, str], condition: str | None) -> None:
    assert copy_conditions(headers) is None
    wanted = copy_conditions({f"x-amz-copy-source-{name}": value for name, value in headers.items()})
    assert wanted is not None
    if condition is None:
        check_write_source(wanted, ETAG, MODIFIED_MS, prefix=COPY_SOURCE_PREFIX)
        return
    with pytest.raises(errors.PreconditionFailed) as failed:
        check_write_source(wanted, ETAG, MODIFIED_MS, prefix=COPY_SOURCE_PREFIX)
    assert failed.value.elements == {"Condition": f"x-amz-copy-source-{condition}"}


def test_write_conditions() -> None:
    """With and without quotes; an ETag in If-None-Match means what it says, also beside If-Match."""
    assert write_condition({}) is None
    assert write_condition({"if-match": SAME}) == Condition(if_match=ETAG)
    assert write_condition({"if-match": ETAG}) == Condition(if_match=ETAG)
    assert write_condition({"if-none-match": "*"}) == Condition(if_none_match="*")
    assert write_condition({"if-none-match": SAME, "if-match": "*"}) == Condition("*", ETAG)


def test_delete_conditions() -> None:
    """Of headers (HTTP dates) and of XML (ISO dates), to the second. Red when the zone was ignored."""
    assert delete_condition(None, None, None) is None
    second_ms = 1_445_412_480_000
    for date in (
        "Wed, 21 Oct 2015 07:28:00 GMT",
        "2015-10-21T07:28:00.000Z",
        "2015-10-21T09:28:00+02:00",
        "2015-10-21T07:28:00",
    ):
        assert delete_condition(SAME, date, "5") == Condition(
            if_match=ETAG, if_match_modified_ms=second_ms, if_match_size=5
        )


@pytest.mark.parametrize(
    ("modified", "size"), [("yesterday", None), ("", None), (None, "-1"), (None, "5 MB")]
)
def test_delete_conditions_that_are_none(modified: str | None, size: str | None) -> None:
    """Not ignored: the delete would happen."""
    with pytest.raises(errors.InvalidArgument):
        delete_condition(None, modified, size)


@given(st.text(), st.text())
def test_any_text_matches_or_not(header: str, etag: str) -> None:
    assert matches(header, etag) in (True, False)
    assert len(unquote_etag(header)) <= len(header)
