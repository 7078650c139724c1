"""A disk that hangs holds up who asked, and nobody else."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from s3front.admin import disks
from s3front.admin.problem import Problem


async def test_a_disk_that_answers_is_taken_whatever_it_says(tmp_path: Path) -> None:
    """Whether the directory is fit is decided in the transaction."""
    await disks.check_answers(tmp_path)
    await disks.check_answers(tmp_path / "missing")
    (tmp_path / "file").touch()
    await disks.check_answers(tmp_path / "file")


async def test_a_disk_that_hangs_is_a_problem_and_the_loop_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red when the directory is listed on the loop: the front then answers nobody, and its supervisor kills it."""
    ends = threading.Event()
    monkeypatch.setattr(os, "listdir", lambda _path: ends.wait(30))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.01)
            turns += 1

    serving = asyncio.create_task(others())
    with pytest.raises(Problem, match="nothing was heard") as caught:
        await disks.check_answers(tmp_path, wait_s=0.3)
    ends.set()
    serving.cancel()
    assert caught.value.status == 503
    assert turns > 5
