"""``trivet verify``: reads every block of every object, and tells which objects are not whole."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from compose.cli.asking import refuse_silence, searching
from compose.cli.store_access import AsJson, Data, print_json, settings_of, with_store
from compose.refusal import EXIT_NOT_DONE, CommandRefused

if TYPE_CHECKING:
    from catalog.engine import Catalog
    from cluster.reports.verify import VerifyWalk
    from cluster.reports.verify_report import VerifyReport
    from cluster.topology import NodeSet

_SHOW_EVERY_S = 0.2
_PATIENCE_S = 10.0
"""A node that is started anew is back by then: it need not spoil hours of reading."""


def verify(
    bucket: Annotated[str | None, typer.Argument(metavar="BUCKET", help="default: the whole store")] = None,
    *,
    bytes_per_s: Annotated[
        int,
        typer.Option("--bytes-per-s", min=0, metavar="N", help="read from all disks together; 0: no limit"),
    ] = 0,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="do not hand what is bad to the repair queue")
    ] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Read every block of every object from the disks, beside the running store, and name what is not whole.

    Exit code 0: everything was read and is whole. 1: something is bad, or it was ended early (Ctrl-C).
    """

    async def walk_and_tell(catalog: Catalog, node_set: NodeSet) -> VerifyReport:
        refuse_silence(node_set)
        walk = await _walk(catalog, node_set, bucket, bytes_per_s=bytes_per_s, report=not report_only)
        total = await walk.total()
        began = time.monotonic()
        with _ends_on_signal(walk.stop):
            await _run(walk, total, quiet=as_json)
        seconds = time.monotonic() - began
        from cluster.reports.verify_report import verify_report

        with searching(quiet=as_json) as rows_read:
            return await verify_report(catalog, walk, bucket=bucket, seconds=seconds, searched=rows_read)

    report = with_store(settings_of(data), walk_and_tell)
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(report))
    else:
        from compose.cli.verify_view import lines

        print("\n".join(lines(report)))
    if not (report.whole and report.complete):
        raise typer.Exit(EXIT_NOT_DONE)


async def _walk(
    catalog: Catalog, node_set: NodeSet, bucket: str | None, *, bytes_per_s: int, report: bool
) -> VerifyWalk:
    from catalog import buckets
    from cluster.reports.blocks import NodeAsker
    from cluster.reports.verify import VerifyWalk

    bucket_id = None
    if bucket is not None:
        known = await buckets.get(catalog, bucket)
        if known is None:
            raise CommandRefused(f"there is no bucket {bucket} (trivet bucket list shows them)")
        bucket_id = known.id
    asker = NodeAsker(node_set, patience_s=_PATIENCE_S)
    return VerifyWalk(catalog, asker, bucket_id=bucket_id, bytes_per_s=bytes_per_s, report=report)


@contextmanager
def _ends_on_signal(stop: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C ends the walk, and what was seen is told; the second ends the command."""
    loop = asyncio.get_running_loop()

    def told() -> None:
        release()
        stop()

    def release() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told)
    try:
        yield
    finally:
        release()


async def _run(walk: VerifyWalk, total: tuple[int, int], *, quiet: bool) -> None:
    if quiet or not sys.stderr.isatty():
        await walk.run()
        return
    from compose.cli.verify_view import VerifyBar

    with VerifyBar(total) as bar:
        walking = asyncio.ensure_future(walk.run())
        while not walking.done():
            await asyncio.wait([walking], timeout=_SHOW_EVERY_S)
            bar.show(walk.tally)
        await walking
