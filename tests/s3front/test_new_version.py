"""What the headers of a PUT say of the version it makes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from catalog.bucket_model import LockConfiguration
from catalog.model import Attributes, Bucket, Retention, Versioning
from s3front import errors
from s3front.handlers.new_version import NewVersion, described
from s3front.request import Request
from s3front.wire.headers import METADATA_BYTES_MAX, REDIRECT_CHARS_MAX

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LOCKED = Bucket(1, "b", "o", "r", 0, Versioning.ENABLED, lock=LockConfiguration())
PLAIN = Bucket(1, "b", "o", "r", 0)
MODE, UNTIL = "x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date"
HOLD = "x-amz-object-lock-legal-hold"
LATER = "2030-01-01T00:00:00.000Z"


@dataclass
class Services:
    """As far as `described` looks at them."""

    now: datetime = field(default=NOW)

    def utc_now(self) -> datetime:
        return self.now


async def _no_body() -> Any:
    raise AssertionError("not read")


def _described(headers: dict[str, str], bucket: Bucket = LOCKED) -> NewVersion:
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    scope = {"method": "PUT", "raw_path": b"/b/k", "query_string": b"", "headers": [(b"host", b"h"), *pairs]}
    services: Any = Services()
    return described(services, Request(scope, _no_body, "ID", ()), bucket)


def test_all_of_it() -> None:
    found = _described(
        {
            "content-type": "text/plain",
            "cache-control": "no-cache",
            "x-amz-meta-a": "1",
            "x-amz-storage-class": "GLACIER",
            "x-amz-tagging": "a=b&c=%20",
            "x-amz-website-redirect-location": "https://example.com/",
            MODE: "COMPLIANCE",
            UNTIL: LATER,
            HOLD: "ON",
        }
    )
    assert found == NewVersion(
        "text/plain",
        Attributes(
            headers={"cache-control": "no-cache", "x-amz-website-redirect-location": "https://example.com/"},
            metadata={"a": "1"},
            storage_class="GLACIER",
            tags={"a": "b", "c": " "},
            retention=Retention("COMPLIANCE", 1_893_456_000_000),
            legal_hold=True,
        ),
    )


def test_nothing_of_it() -> None:
    """No hold that was put and no hold at all are two things: only the first can be asked for."""
    assert _described({}) == NewVersion("binary/octet-stream", Attributes())
    assert _described({HOLD: "OFF"}).attributes.legal_hold is False


@pytest.mark.parametrize(
    "headers",
    [
        {MODE: "GOVERNANCE"},
        {UNTIL: LATER},
        {MODE: "governance", UNTIL: LATER},
        {MODE: "GOVERNANCE", UNTIL: "soon"},
        {MODE: "GOVERNANCE", UNTIL: "1893456000000"},
        {MODE: "GOVERNANCE", UNTIL: "2026-11-23T12:00:00Z"},
        {MODE: "GOVERNANCE", UNTIL: "1969-01-01T00:00:00Z"},
        {MODE: "", UNTIL: LATER},
        {HOLD: "on"},
        {HOLD: ""},
    ],
)
def test_locks_that_are_refused(headers: dict[str, str]) -> None:
    """Red when one of the two headers of retention was enough, and when the date could be of the past."""
    with pytest.raises(errors.InvalidArgument):
        _described(headers)


@pytest.mark.parametrize("headers", [{MODE: "GOVERNANCE", UNTIL: LATER}, {HOLD: "ON"}, {HOLD: "OFF"}])
def test_no_lock_without_a_bucket_that_has_it(headers: dict[str, str]) -> None:
    """Red when it was stored nevertheless, where nobody can see or change it."""
    with pytest.raises(errors.InvalidRequest):
        _described(headers, PLAIN)


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"x-amz-tagging": "a=1&a=2"}, errors.InvalidArgument),
        ({"x-amz-tagging": "a=%21"}, errors.InvalidTag),
        ({"x-amz-storage-class": "PAPER"}, errors.InvalidStorageClass),
        ({"x-amz-meta-k": "v" * METADATA_BYTES_MAX}, errors.MetadataTooLarge),
        ({"x-amz-website-redirect-location": "elsewhere"}, errors.InvalidRedirectLocation),
        ({"x-amz-website-redirect-location": "/" * (REDIRECT_CHARS_MAX + 1)}, errors.InvalidRedirectLocation),
    ],
)
def test_what_else_is_refused(headers: dict[str, str], error: type[errors.S3Error]) -> None:
    with pytest.raises(error):
        _described(headers)
