"""Points in time in questions to the admin API."""

from __future__ import annotations

from typing import Annotated

import msgspec

from cluster.reports.moments import ms_of
from s3front.admin.problem import invalid

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


def when_ms(text: str, field: str) -> int:
    """Milliseconds since 1970. Raises Problem that names `field` (``query.from``)."""
    try:
        # A plus sign that was not encoded arrives as a space.
        return ms_of(text.replace(" ", "+") if "T" in text else text)
    except ValueError as error:
        raise invalid(field, str(error)) from None
