"""What a program's marks say about what must be there after a crash, and what may be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence


def allowed(marks: Sequence[bytes]) -> dict[int, set[int]]:
    """Key to the versions it may have, from marks `try KEY VERSION` and `done KEY VERSION`; version 0 is "not
    there". The last one that was done, or one that was tried since; a key of which nothing was done may
    be missing."""
    found: dict[int, set[int]] = defaultdict(lambda: {0})
    for mark in marks:
        word, *numbers = mark.split()
        if word == b"try":
            key, version = map(int, numbers)
            found[key] = found[key] | {version}
        elif word == b"done":
            key, version = map(int, numbers)
            found[key] = {version}
    return found
