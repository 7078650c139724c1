"""``trivet repair``, ``scrub``, ``orphans``: what the steward does, and what it waits for."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compose.cli.operation_watch import Watch, follow, plain
from compose.cli.store_access import (
    AsJson,
    Data,
    answer,
    read_catalog,
    settings_of,
    with_catalog,
    write_catalog,
)
from compose.refusal import EXIT_NOT_DONE

if TYPE_CHECKING:
    from collections.abc import Callable

    from catalog.engine import Catalog
    from catalog.transaction import Transaction
    from cluster.reports.redundancy import RepairReport
    from cluster.reports.scrub import ScrubReport

repair_app = typer.Typer(no_args_is_help=True, help="See how whole the store is; go on after a pause.")
scrub_app = typer.Typer(no_args_is_help=True, help="Compare the catalog with what the nodes hold.")
orphans_app = typer.Typer(no_args_is_help=True, help="Blocks that no object refers to.")

WATCH_EVERY_S = 1.0


@orphans_app.callback()
def orphans() -> None:
    """Keeps `allow` a command of its own while it is the only one."""


@repair_app.command()
def status(
    watch: Annotated[
        bool,
        typer.Option("--watch", help="go on until every object is whole; exit code 1 when some can't be"),
    ] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Show how many objects have less than full redundancy, and how far their repair has come."""
    from cluster.reports.redundancy import repair_report

    async def show(catalog: Catalog) -> RepairReport:
        with ExitStack() as stack:
            say = _teller(stack, as_json=as_json, on_screen=watch and sys.stdout.isatty())
            while True:
                began = time.monotonic()
                report = await catalog.read(repair_report)
                say(report)
                if not watch or report.whole or report.stuck:
                    return report
                # To count many blobs takes its time: this must not become the store's main occupation.
                await asyncio.sleep(max(WATCH_EVERY_S, 10 * (time.monotonic() - began)))

    last = with_catalog(settings_of(data), show)
    if watch and last.stuck:
        raise typer.Exit(EXIT_NOT_DONE)


def _teller(stack: ExitStack, *, as_json: bool, on_screen: bool) -> Callable[[RepairReport], None]:
    """How a report is told: in JSON, one a line; on a screen that is kept up to date; or in words, those that
    are not said yet.
    """
    from compose.cli.repair_text import drawn, lines

    if as_json:
        return lambda report: print(json.dumps(_as_json(report)), flush=True)
    if on_screen:
        from rich.console import Group
        from rich.live import Live

        live = stack.enter_context(Live(auto_refresh=False))
        return lambda report: live.update(Group(*drawn(report, lines(report))), refresh=True)
    said: list[str] = []

    def say(report: RepairReport) -> None:
        nonlocal said
        if lines(report) != said:
            said = lines(report)
            print("\n".join(said), flush=True)

    return say


def _as_json(report: RepairReport) -> dict[str, Any]:
    import msgspec

    plain: dict[str, Any] = msgspec.to_builtins(report)
    return plain | {"whole": report.whole, "seconds_left": report.seconds_left}


@repair_app.command()
def resume(*, data: Data = None, as_json: AsJson = False) -> None:
    """End the pause of repair that a cancelled recovery began."""
    from cluster.operations import resume_repair

    was_paused = write_catalog(settings_of(data), resume_repair)
    words = "repair goes on" if was_paused else "repair was not paused"
    answer({"was_paused": was_paused}, words, as_json=as_json)


@scrub_app.command()
def now(*, watch: Watch = False, data: Data = None, as_json: AsJson = False) -> None:
    """Read and compare everything now; what is missing or bad is repaired. `trivet scrub status` tells how it went."""
    from cluster.operations import Operation, start_scrub
    from cluster.steward import progress

    def ask(tx: Transaction) -> tuple[Operation, int]:
        operation, request = start_scrub(tx), progress.read(tx, progress.ScrubRequest)
        assert request is not None, "it has just been written"
        return operation, request.number

    settings = settings_of(data)
    operation, number = write_catalog(settings, ask)
    if not (watch and as_json):
        answer(
            {"request": number, "operation": plain(operation)},
            "asked for; the steward begins within seconds while the store runs, see: trivet scrub status",
            as_json=as_json,
        )
    if watch:
        follow(settings, operation.id, as_json=as_json)


@scrub_app.command("status")
def scrub_status(*, data: Data = None, as_json: AsJson = False) -> None:
    """Show when the catalog was last compared with the nodes, and what was found."""
    import msgspec

    from cluster.reports.scrub import scrub_report

    report = read_catalog(settings_of(data), scrub_report)
    answer(msgspec.to_builtins(report), _scrub_words(report), as_json=as_json)


def _scrub_words(report: ScrubReport) -> str:
    found = f"{report.blobs:,} blobs compared, {report.missing_blocks:,} blocks missing, "
    found += f"{report.bad_blocks:,} bad, " if report.deep else ""
    found += f"{report.extra_blocks:,} to spare"
    if report.active:
        words = f"comparing since {report.started_at}: {found} so far"
    elif report.finished_at is None:
        words = "the catalog and the nodes were not compared yet"
    elif report.cancelled:
        words = f"the last comparison was cancelled at {report.finished_at}: {found} until then"
    else:
        words = f"last compared at {report.finished_at}: {found}"
    return words + ("\nanother comparison is asked for, and not begun" if report.asked_for else "")


@orphans_app.command()
def allow(*, data: Data = None, as_json: AsJson = False) -> None:
    """After a restore of the catalog: let blocks that it does not know be deleted again."""
    from catalog import leases, work

    def permit(tx: Transaction) -> None:
        leases.allow_orphans(tx)
        work.record_event(tx, "orphans-allowed")

    write_catalog(settings_of(data), permit)
    answer(
        {"orphans_allowed": True},
        "blocks that this catalog does not know are deleted again, after the usual wait",
        as_json=as_json,
    )
