"""How tests of the suite say what they expect: refusals, and things that happen in their own time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.exceptions import ClientError

POLL_S = 0.05


@contextmanager
def refused(status: int | tuple[int, ...], *codes: str) -> Iterator[None]:
    """What is done inside must be answered with this status (one of these) and one of these error codes. HEAD answers
    have no body: there the code is the status in digits, and none need be named.
    """
    with pytest.raises(ClientError) as caught:
        yield
    answer = caught.value.response
    statuses = status if isinstance(status, tuple) else (status,)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] in statuses, answer
    assert not codes or answer["Error"]["Code"] in codes, answer["Error"]


def header(answer: dict[str, Any], name: str) -> str | None:
    """One header of an answer, as it was sent."""
    value: str | None = answer["ResponseMetadata"]["HTTPHeaders"].get(name)
    return value


def until(condition: Callable[[], bool], what: str, *, wait_s: float) -> None:
    """Waits for what the endpoint does by itself; fails naming it."""
    give_up_at = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < give_up_at, f"not within {wait_s} s: {what}"
        time.sleep(POLL_S)
