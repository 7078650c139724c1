"""Times as answers have them, and as people write them."""

import pytest

from cluster.reports.moments import FAR_MS, iso_at, iso_at_or_none, ms_of, second_text

MS = 1_795_339_800_123


def test_written_times_are_read_again() -> None:
    """To the millisecond, over the whole range."""
    assert iso_at(MS) == "2026-11-22T09:30:00.123Z"
    assert second_text(MS) == "2026-11-22T09:30:00Z"
    for ms in (0, 1, MS, FAR_MS - 1):
        assert ms_of(iso_at(ms)) == ms_of(str(ms)) == ms


def test_never_is_no_time() -> None:
    assert (iso_at_or_none(0), iso_at_or_none(None)) == (None, None)
    assert iso_at_or_none(MS) == iso_at(MS)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-11-22T10:30:00.123+01:00", MS),
        ("2026-11-22T09:30:00.123", MS),
        ("2026-11-22", MS - MS % 86_400_000),
    ],
)
def test_utc_where_no_offset_is_given(text: str, ms: int) -> None:
    assert ms_of(text) == ms


@pytest.mark.parametrize("text", ["", "soon", "12:00", "-5", "1.5", "9" * 40, "1969-12-31", str(FAR_MS), "٣"])
def test_what_is_no_time_is_told(text: str) -> None:
    """Red when fromisoformat's own words get out."""
    with pytest.raises(ValueError, match=r"^must "):
        ms_of(text)
