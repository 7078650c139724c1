"""Times as people write them at the command line."""

from __future__ import annotations

import re
from typing import NamedTuple

from cluster.reports.moments import FAR_MS, ms_of
from compose.refusal import CommandRefused

_UNIT_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"([0-9]+)([smhd])")


class Range(NamedTuple):
    """From the first moment up to and without the second; milliseconds since 1970."""

    from_ms: int
    to_ms: int


def moment_ms(text: str, option: str) -> int:
    """Raises CommandRefused, naming the option."""
    try:
        return ms_of(text)
    except ValueError as error:
        raise CommandRefused(f"{option} {text} {error}") from None


def duration_ms(text: str, option: str) -> int:
    """`90s`, `15m`, `1h`, `7d`. Raises CommandRefused, naming the option."""
    found = _DURATION.fullmatch(text)
    if not found or not int(found[1]):
        raise CommandRefused(f"{option} {text} is not a length of time: write it as 90s, 15m, 1h or 7d")
    return int(found[1]) * _UNIT_MS[found[2]]


def range_of(from_: str | None, to: str | None, last: str | None, *, now_ms: int) -> Range:
    """What --from, --to and --last mean together; without any of them all there is. Raises CommandRefused."""
    if last is not None and (from_ is not None or to is not None):
        raise CommandRefused("--last goes without --from and --to: it ends now")
    if last is not None:
        return Range(max(0, now_ms - duration_ms(last, "--last")), now_ms + 1)
    asked = Range(
        moment_ms(from_, "--from") if from_ is not None else 0,
        moment_ms(to, "--to") if to is not None else FAR_MS,
    )
    if asked.from_ms >= asked.to_ms:
        raise CommandRefused("--from must be before --to")
    return asked
