"""Looks at a node's directory before a transaction does: a disk that hangs must hold up nobody but who asked."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import msgspec

from s3front.admin.problem import Problem

ANSWER_WAIT_S = 5.0

Directory = Annotated[
    str,
    msgspec.Meta(
        pattern="^/[^\x00]*$",
        max_length=4000,
        description="absolute path on the machine of the front that answers; empty, or not there yet",
        examples=["/srv/disk4/trivet"],
    ),
]


async def check_answers(directory: Path, wait_s: float = ANSWER_WAIT_S) -> None:
    """Raises Problem (503) when the directory's disk says nothing within `wait_s`. What it says is looked at in the
    transaction, which all writes of the store wait for."""
    try:
        async with asyncio.timeout(wait_s):
            await asyncio.to_thread(_touch, directory)
    except TimeoutError:
        raise Problem(
            503,
            "disk-silent",
            "A disk does not answer",
            f"nothing was heard of {directory} for {wait_s:g} s: see what is wrong with that disk, then try again",
        ) from None


def _touch(directory: Path) -> None:
    try:
        os.listdir(directory)
    except OSError:
        return  # it answered
