"""Points in time as the admin API reads and writes them: ISO 8601 in UTC, in milliseconds inside."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec

from s3front.admin.problem import invalid

At = Annotated[str, msgspec.Meta(description="ISO 8601, UTC", examples=["2026-11-22T09:30:00.000Z"])]
"""A time in an answer, as `iso_at` writes it."""

When = Annotated[
    str,
    msgspec.Meta(
        description="ISO 8601 (UTC where no offset is given), or milliseconds since 1970",
        examples=["2026-11-22T09:30:00Z", "1795339800000"],
        min_length=1,
        max_length=40,
    ),
]
"""A time in a question, as `when_ms` reads it."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_MS_MAX = 253_402_300_800_000  # the year 10,000


def iso_at(ms: int) -> str:
    """``2026-11-22T09:30:00.000Z``"""
    return (_EPOCH + ms * _MILLISECOND).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def iso_at_or_none(ms: int | None) -> str | None:
    """None, and 0 (never), stay none."""
    return iso_at(ms) if ms else None


def when_ms(text: str, field: str) -> int:
    """Milliseconds since 1970. Raises Problem that names `field` (``query.from``)."""
    if text.isascii() and text.isdigit():
        ms = int(text)
    else:
        # A plus sign that was not encoded arrives as a space.
        try:
            moment = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        except ValueError:
            raise invalid(
                field, "must be a time in ISO 8601, like 2026-11-22T09:30:00Z, or milliseconds since 1970"
            ) from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        ms = (moment - _EPOCH) // _MILLISECOND
    if not 0 <= ms < _MS_MAX:
        raise invalid(field, "must lie between the years 1970 and 9999")
    return ms
