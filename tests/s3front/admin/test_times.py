"""Times as the admin API reads them."""

from __future__ import annotations

import pytest

from s3front.admin.problem import Problem
from s3front.admin.times import when_ms

MS = 1_795_339_800_123


@pytest.mark.parametrize("text", ["2026-11-22T10:30:00.123+01:00", "2026-11-22T10:30:00.123 01:00", str(MS)])
def test_a_plus_sign_that_was_not_encoded_is_a_space_by_now(text: str) -> None:
    assert when_ms(text, "query.from") == MS


@pytest.mark.parametrize("text", ["", "soon", "1969-01-01"])
def test_what_is_no_time_names_its_field(text: str) -> None:
    """Red when ValueError gets out."""
    with pytest.raises(Problem) as caught:
        when_ms(text, "query.to")
    assert caught.value.status == 400
    assert caught.value.errors[0].field == "query.to"
