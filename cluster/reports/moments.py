"""Points in time as answers and people write them: ISO 8601 in UTC. Inside they are milliseconds since 1970."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import msgspec

At = Annotated[str, msgspec.Meta(description="ISO 8601, UTC", examples=["2026-11-22T09:30:00.000Z"])]
"""A time in an answer, as `iso_at` writes it."""

FAR_MS: Final = 253_402_300_800_000
"""The year 10,000: no end was asked for."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def iso_at(ms: int) -> str:
    """``2026-11-22T09:30:00.000Z``"""
    return (_EPOCH + ms * _MILLISECOND).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def iso_at_or_none(ms: int | None) -> str | None:
    """None, and 0 (never), stay none."""
    return iso_at(ms) if ms else None


def second_text(ms: int) -> str:
    """``2026-11-22T09:30:00Z``, for sentences."""
    return f"{iso_at(ms)[:19]}Z"


def ms_of(text: str) -> int:
    """What `iso_at` wrote, any other ISO 8601 (UTC where no offset is given), or milliseconds since 1970. Raises
    ValueError that says how it must be.
    """
    if text.isascii() and text.isdigit():
        ms = int(text)
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(
                "must be a time in ISO 8601, like 2026-11-22T09:30:00Z, or milliseconds since 1970"
            ) from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        ms = (moment - _EPOCH) // _MILLISECOND
    if not 0 <= ms < FAR_MS:
        raise ValueError("must lie between the years 1970 and 9999")
    return ms
