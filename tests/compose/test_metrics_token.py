"""The token that scrapes must bring comes from the environment, fit for a header or not at all."""

import pytest

from compose.credentials import metrics_token
from compose.refusal import StartRefused


def test_without_the_variable_anybody_may_scrape() -> None:
    assert metrics_token({}) == ""
    assert metrics_token({"TRIVET_METRICS_TOKEN": ""}) == ""


def test_the_token_is_taken_as_it_is() -> None:
    assert metrics_token({"TRIVET_METRICS_TOKEN": "s3cret-t0ken"}) == "s3cret-t0ken"


@pytest.mark.parametrize(
    "token", ["short", "with space in it", "line\nbreak-in-it", "ümlaut-token", "x" * 257]
)
def test_a_token_that_no_header_carries_is_refused_without_being_named(token: str) -> None:
    """Red when it is not checked: every scrape would be refused, and nobody would know why."""
    with pytest.raises(StartRefused, match="TRIVET_METRICS_TOKEN") as refusal:
        metrics_token({"TRIVET_METRICS_TOKEN": token})
    assert token not in str(refusal.value)
