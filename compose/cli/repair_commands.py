"""``trivet repair``, ``scrub``, ``orphans``: what the steward does, and what it waits for."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compose.cli.operation_watch import Watch, follow, plain
from compose.cli.store_access import AsJson, Data, answer, settings_of, with_catalog
from compose.refusal import EXIT_NOT_DONE

if TYPE_CHECKING:
    from collections.abc import Callable

    from catalog.engine import Catalog
    from catalog.statement import Reader
    from catalog.transaction import Transaction
    from cluster.reports.redundancy import RepairReport

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
    from compose.cli.repair_text import bar, lines

    if as_json:
        return lambda report: print(json.dumps(_as_json(report)), flush=True)
    if on_screen:
        from rich.live import Live

        live = stack.enter_context(Live(auto_refresh=False))
        return lambda report: live.update(bar(report), refresh=True)
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

    async def write(catalog: Catalog) -> bool:
        return await catalog.write(resume_repair)

    was_paused = with_catalog(settings_of(data), write)
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

    async def write(catalog: Catalog) -> tuple[Operation, int]:
        return await catalog.write(ask)

    settings = settings_of(data)
    operation, number = with_catalog(settings, write)
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
    from cluster.steward.progress import ScrubProgress, ScrubRequest, read

    async def ask(catalog: Catalog) -> tuple[ScrubProgress, bool]:
        def both(reader: Reader) -> tuple[ScrubProgress, bool]:
            state, request = read(reader, ScrubProgress) or ScrubProgress(), read(reader, ScrubRequest)
            return state, request is not None and request.number != state.request

        return await catalog.read(both)

    state, waiting = with_catalog(settings_of(data), ask)
    facts: dict[str, Any] = {
        "active": state.active,
        "cancelled": state.cancelled,
        "asked_for": waiting,
        "started": _time(state.started_ms),
        "finished": None if state.active else _time(state.finished_ms),
        "passes": state.passes,
        "blobs": state.blobs,
        "deep": state.deep,
        "missing_blocks": state.missing,
        "bad_blocks": state.corrupt,
        "extra_blocks": state.extra,
    }
    answer(facts, _scrub_words(facts), as_json=as_json)


def _scrub_words(facts: dict[str, Any]) -> str:
    found = f"{facts['blobs']:,} blobs compared, {facts['missing_blocks']:,} blocks missing, "
    found += f"{facts['bad_blocks']:,} bad, " if facts["deep"] else ""
    found += f"{facts['extra_blocks']:,} to spare"
    if facts["active"]:
        words = f"comparing since {facts['started']}: {found} so far"
    elif facts["finished"] is None:
        words = "the catalog and the nodes were not compared yet"
    elif facts["cancelled"]:
        words = f"the last comparison was cancelled at {facts['finished']}: {found} until then"
    else:
        words = f"last compared at {facts['finished']}: {found}"
    return words + ("\nanother comparison is asked for, and not begun" if facts["asked_for"] else "")


def _time(at_ms: int) -> str | None:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds") if at_ms else None


@orphans_app.command()
def allow(*, data: Data = None, as_json: AsJson = False) -> None:
    """After a restore of the catalog: let blocks that it does not know be deleted again."""
    from catalog import leases, work

    def permit(tx: Transaction) -> None:
        leases.allow_orphans(tx)
        work.record_event(tx, "orphans-allowed")

    async def write(catalog: Catalog) -> None:
        await catalog.write(permit)

    with_catalog(settings_of(data), write)
    answer(
        {"orphans_allowed": True},
        "blocks that this catalog does not know are deleted again, after the usual wait",
        as_json=as_json,
    )
