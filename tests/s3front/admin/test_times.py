"""Times as the admin API reads and writes them."""

from __future__ import annotations

import pytest

from s3front.admin.problem import Problem
from s3front.admin.times import iso_at, iso_at_or_none, when_ms

MS = 1_795_339_800_123


def test_written_times_are_read_again() -> None:
    """To the millisecond."""
    assert iso_at(MS) == "2026-11-22T09:30:00.123Z"
    assert when_ms(iso_at(MS), "query.from") == MS
    assert when_ms(str(MS), "query.from") == MS
    assert iso_at_or_none(0) is None
    assert iso_at_or_none(None) is None


@pytest.mark.parametrize(
    "text", ["2026-11-22T10:30:00.123+01:00", "2026-11-22T10:30:00.123 01:00", "2026-11-22T09:30:00.123"]
)
def test_offsets(text: str) -> None:
    """UTC where none is given; a plus sign that was not encoded is a space by now."""
    assert when_ms(text, "query.from") == MS


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01", "-5", "9" * 40, "1.5", "1969-01-01"])
def test_what_is_no_time_names_its_field(text: str) -> None:
    """Red when fromisoformat's own error gets out, or a time before 1970."""
    with pytest.raises(Problem) as caught:
        when_ms(text, "query.to")
    assert caught.value.status == 400
    assert caught.value.errors[0].field == "query.to"
