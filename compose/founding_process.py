"""The supervisor's side of ``trivet found`` (see compose.founding_plan)."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from compose.founding_plan import Addresses, FoundedStore, FoundingPlan
from compose.process import trivet_command
from compose.refusal import StartRefused

ANSWER_BYTES_MAX = 4 << 20

Listen = Callable[[FoundedStore], Awaitable[Addresses]]


async def found(
    plan: FoundingPlan, listen: Listen, *, environment: Mapping[str, str], lock: int
) -> FoundedStore:
    """Has catalog and node directories settled by a child; `listen` opens the sockets in the middle of it.

    Raises StartRefused when that could not be done; the child has logged why. `lock` keeps the data directory
    taken for as long as the child lives.
    """
    process = await asyncio.create_subprocess_exec(
        *trivet_command(),
        "found",
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=(lock,),
        process_group=0,
        limit=ANSWER_BYTES_MAX,
    )
    try:
        store = await _converse(process, plan, listen)
    except BaseException:
        if process.returncode is None:
            process.terminate()  # what it does is one transaction or one durable file at a time
            await process.wait()
        raise
    if store is None or process.returncode != 0:
        raise StartRefused("the catalog or the nodes' directories can't be used (the reason stands above)")
    return store


async def _converse(
    process: asyncio.subprocess.Process, plan: FoundingPlan, listen: Listen
) -> FoundedStore | None:
    """Until the process has ended; None when it did so without an answer."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(msgspec.json.encode(plan) + b"\n")
    answer = await process.stdout.readline()
    if not answer:
        await process.wait()
        return None
    store = msgspec.json.decode(answer, type=FoundedStore)
    await process.communicate(msgspec.json.encode(await listen(store)) + b"\n")
    return store
