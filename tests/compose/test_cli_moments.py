"""Times at the command line."""

import pytest

from compose.cli.moments import Range, duration_ms, moment_ms, range_of
from compose.refusal import CommandRefused

NOON_MS = 1_795_348_800_000


def test_a_time_is_read() -> None:
    assert moment_ms("2026-11-22T12:00:00", "--from") == moment_ms(str(NOON_MS), "--from") == NOON_MS


@pytest.mark.parametrize("text", ["", "yesterday", "-1", "12:00", "999999999999999999", "2026-13-01"])
def test_what_is_no_time_is_refused_by_the_options_name(text: str) -> None:
    with pytest.raises(CommandRefused, match=r"^--to "):
        moment_ms(text, "--to")


@pytest.mark.parametrize(
    ("text", "ms"), [("90s", 90_000), ("15m", 900_000), ("1h", 3_600_000), ("7d", 604_800_000)]
)
def test_a_length_of_time_is_read(text: str, ms: int) -> None:
    assert duration_ms(text, "--last") == ms


@pytest.mark.parametrize("text", ["", "0s", "1", "1w", "-1h", "1.5h"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(CommandRefused, match="--last"):
        duration_ms(text, "--last")


def test_a_range_is_put_together() -> None:
    assert range_of(None, None, "1m", now_ms=NOON_MS) == Range(NOON_MS - 60_000, NOON_MS + 1)
    assert range_of("1000", "2000", None, now_ms=NOON_MS) == Range(1000, 2000)
    everything = range_of(None, None, None, now_ms=NOON_MS)
    assert everything.from_ms == 0
    assert everything.to_ms > NOON_MS


@pytest.mark.parametrize(
    ("given", "said"), [(("1", None, "1h"), "--last"), (("5", "5", None), "before --to")]
)
def test_ranges_that_mean_nothing_are_refused(
    given: tuple[str | None, str | None, str | None], said: str
) -> None:
    with pytest.raises(CommandRefused, match=said):
        range_of(*given, now_ms=NOON_MS)
