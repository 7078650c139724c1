"""``trivet metrics …``: what the fronts did, minute by minute, and what failed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from cluster.reports.moments import FAR_MS, iso_at
from compose.cli.moments import Range, range_of
from compose.cli.store_access import (
    AsJson,
    Data,
    answer,
    read_catalog,
    settings_of,
    with_catalog,
    write_catalog,
)
from compose.refusal import CommandRefused

if TYPE_CHECKING:
    from catalog.engine import Catalog
    from cluster.reports.incidents import IncidentSummary
    from s3front.metrics.summary import OperationSummary

metrics_app = typer.Typer(
    no_args_is_help=True, help="What the store did: counts, latencies, failures and repairs."
)

From = Annotated[
    str | None, typer.Option("--from", metavar="TIME", help="ISO 8601 (UTC), or milliseconds since 1970")
]
To = Annotated[str | None, typer.Option("--to", metavar="TIME", help="likewise; without that moment")]
Last = Annotated[str | None, typer.Option(metavar="LENGTH", help="up to now, as 90s, 15m, 1h or 7d")]
AsCsv = Annotated[bool, typer.Option("--csv", help="answer in CSV, for spreadsheets")]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", metavar="FILE", help="write it there instead of to the terminal"),
]


@metrics_app.command()
def summary(
    *,
    from_: From = None,
    to: To = None,
    last: Last = None,
    as_csv: AsCsv = False,
    output: Output = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Show each operation in figures: count, latency, rate, success; and the failures of nodes with their MTTR.

    Running fronts hand in what they did every 5 seconds.
    """
    from catalog.engine import wall_clock_ms
    from s3front.admin.metrics import summed_up
    from s3front.metrics.summary import summaries_csv

    _refuse_both(as_csv=as_csv, as_json=as_json)
    now_ms = wall_clock_ms()
    asked = range_of(from_, to, last, now_ms=now_ms)

    operations, failures = read_catalog(settings_of(data), lambda reader: summed_up(reader, *asked, now_ms))
    with _written(output) as file:
        if as_json:
            file.write(json.dumps(_summary_json(asked, operations, failures), indent=2) + "\n")
        elif as_csv:
            file.writelines(summaries_csv(operations))
        else:
            _print_summary(operations, failures, file)


@metrics_app.command()
def export(
    *,
    from_: From = None,
    to: To = None,
    last: Last = None,
    as_csv: AsCsv = False,
    output: Output = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Write every operation of every minute: in CSV, or with --json as an array of objects."""
    from catalog.engine import wall_clock_ms
    from s3front.metrics.export import exported

    _refuse_both(as_csv=as_csv, as_json=as_json)
    asked = range_of(from_, to, last, now_ms=wall_clock_ms())
    settings = settings_of(data)
    with _written(output) as file:

        async def write(catalog: Catalog) -> int:
            count = 0
            async for piece in exported(catalog, "json" if as_json else "csv", *asked):
                file.write(piece.text)
                count += piece.rows
            return count

        count = with_catalog(settings, write)
    if output is not None:
        print(f"{output} holds {count:,} rows", file=sys.stderr)


@metrics_app.command()
def clear(
    *,
    yes: Annotated[bool, typer.Option("--yes", help="do it without asking")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Forget the history of requests. Events, and what /-/metrics counts, stay."""
    from catalog import history
    from catalog.engine import wall_clock_ms

    settings = settings_of(data)
    if not yes:
        if not sys.stdin.isatty():
            raise CommandRefused("this can't be taken back: say it with --yes")
        typer.confirm("Forget the history of requests?", abort=True)

    write_catalog(settings, history.clear, frees=True)
    answer({"cleared_at": iso_at(wall_clock_ms())}, "the history of requests is forgotten", as_json=as_json)


def _refuse_both(*, as_csv: bool, as_json: bool) -> None:
    if as_csv and as_json:
        raise typer.BadParameter("give --csv or --json, not both")


@contextmanager
def _written(output: Path | None) -> Iterator[IO[str]]:
    """Standard output, or a file that is there whole or not at all."""
    if output is None:
        yield sys.stdout
        return
    draft = output.with_name(f".{output.name}.part")
    try:
        with draft.open("w", encoding="utf-8", newline="") as file:
            yield file
        os.replace(draft, output)
    except OSError as error:
        raise CommandRefused(f"{output} can't be written: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)


def _summary_json(
    asked: Range, operations: list[OperationSummary], failures: IncidentSummary
) -> dict[str, Any]:
    import msgspec

    return {
        "from_at": iso_at(asked.from_ms) if asked.from_ms else None,
        "to_at": iso_at(asked.to_ms) if asked.to_ms < FAR_MS else None,
        "operations": msgspec.to_builtins(operations, str_keys=True),
        "incidents": msgspec.to_builtins(failures, str_keys=True),
    }


def _print_summary(operations: list[OperationSummary], failures: IncidentSummary, file: IO[str]) -> None:
    from rich.console import Console

    from compose.cli.metrics_text import failures_text, operations_table

    console = Console(file=file)
    if operations:
        console.print(operations_table(operations, console.width))
        console.print("latencies in ms", style="dim")
    else:
        console.print("no requests in that time (fronts hand in what they did every 5 seconds)")
    console.print(failures_text(failures), highlight=False)
