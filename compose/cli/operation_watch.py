"""How commands follow a long operation to its end: a bar on a terminal, a line for each step, or JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from compose.cli.store_access import with_catalog
from compose.refusal import EXIT_NOT_DONE

if TYPE_CHECKING:
    from collections.abc import Callable

    from catalog.engine import Catalog
    from cluster.operations import Operation
    from compose.settings import Settings

LOOK_EVERY_S = 0.5

Watch = Annotated[
    bool, typer.Option("--watch", help="go on until it is over; exit code 1 when it failed or was cancelled")
]


def plain(operation: Operation) -> dict[str, Any]:
    """For programs: as the admin API tells it."""
    from s3front.admin.operations import operation_answer

    facts: dict[str, Any] = msgspec.to_builtins(operation_answer(operation))
    return facts


def follow(settings: Settings, number: int, *, as_json: bool) -> None:
    """Until it is over. With `as_json` each change is a line. Exits with EXIT_NOT_DONE when it failed or was
    cancelled; Ctrl-C ends the watching only.
    """
    from cluster.operations import get

    async def watch(catalog: Catalog) -> Operation:
        with ExitStack() as stack:
            say = _teller(stack, as_json=as_json)
            while True:
                operation = await catalog.read(lambda reader: get(reader, number))
                say(operation)
                if operation.state != "running":
                    return operation
                await asyncio.sleep(LOOK_EVERY_S)

    last = with_catalog(settings, watch)
    if last.state != "done":
        raise typer.Exit(EXIT_NOT_DONE)


def _teller(stack: ExitStack, *, as_json: bool) -> Callable[[Operation], None]:
    """Says what is new, and nothing twice."""
    if not as_json and sys.stdout.isatty():
        return _bar(stack)
    said = ""

    def say(operation: Operation) -> None:
        nonlocal said
        text = json.dumps(plain(operation)) if as_json else words(operation)
        if text != said:
            said = text
            print(text, flush=True)

    return say


def _bar(stack: ExitStack) -> Callable[[Operation], None]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    shown = stack.enter_context(
        Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} blobs"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
    )
    task = shown.add_task("", total=0)

    def say(operation: Operation) -> None:
        text = f"{subject(operation)}: {operation.state}"
        text += f" ({operation.detail})" if operation.detail else ""
        shown.update(task, description=text, completed=operation.done, total=operation.total)

    return say


def words(operation: Operation) -> str:
    """One line for a person."""
    text = f"{subject(operation)}: {operation.state}, {operation.done:,} of {operation.total:,} blobs"
    return f"{text} ({operation.detail})" if operation.detail else text


def subject(operation: Operation) -> str:
    """What is done, and to which node."""
    return f"{operation.kind} of {operation.node}" if operation.node else operation.kind
