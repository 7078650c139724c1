"""``trivet metrics …``: what the fronts did, minute by minute, and what failed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from compose.cli.moments import FAR_MS, Range, moment_text, range_of
from compose.cli.store_access import AsJson, Data, answer, settings_of, with_catalog
from compose.refusal import CommandRefused

if TYPE_CHECKING:
    from catalog.engine import Catalog
    from catalog.history import Figures
    from catalog.statement import Reader
    from catalog.transaction import Transaction
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

Rows = list[tuple[int, str, "Figures"]]
_PAGE_ROWS = 2000


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

    _refuse_both(as_csv=as_csv, as_json=as_json)
    now_ms = wall_clock_ms()
    asked = range_of(from_, to, last, now_ms=now_ms)

    async def read(catalog: Catalog) -> tuple[list[OperationSummary], IncidentSummary]:
        return await catalog.read(lambda reader: _summaries(reader, asked, now_ms))

    operations, failures = with_catalog(settings_of(data), read)
    with _written(output) as file:
        if as_json:
            file.write(json.dumps(_summary_json(asked, operations, failures), indent=2) + "\n")
        elif as_csv:
            file.writelines(_summary_csv(operations))
        else:
            _print_summary(operations, failures, file)


def _summaries(reader: Reader, asked: Range, now_ms: int) -> tuple[list[OperationSummary], IncidentSummary]:
    from catalog import history
    from cluster.reports.incidents import incidents, summarise_incidents
    from s3front.metrics.summary import summarise

    operations = summarise(history.read(reader, asked.from_ms, asked.to_ms), now_ms=now_ms)
    return operations, summarise_incidents(incidents(reader, asked.from_ms, min(asked.to_ms, now_ms + 1)))


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
    from s3front.metrics.summary import as_csv as csv_lines

    _refuse_both(as_csv=as_csv, as_json=as_json)
    asked = range_of(from_, to, last, now_ms=wall_clock_ms())
    settings = settings_of(data)
    with _written(output) as file:

        async def write(catalog: Catalog) -> int:
            count = 0
            async for rows in _pages(catalog, asked):
                lines = csv_lines(rows)
                if as_json:
                    file.writelines(_json_lines(rows, first=not count))
                else:
                    header = next(iter(lines), "")
                    file.writelines((header, *lines) if not count else lines)
                count += len(rows)
            if not count and not as_json:
                file.writelines(csv_lines(()))
            if as_json:
                file.write("\n]\n" if count else "[]\n")
            return count

        count = with_catalog(settings, write)
    if output is not None:
        print(f"{output} holds {count:,} rows", file=sys.stderr)


async def _pages(catalog: Catalog, asked: Range) -> AsyncIterator[Rows]:
    """Whole minutes, not one read of everything: a reader that waits for a pipe would stop the log's checkpoints."""
    from_ms: int | None = asked.from_ms
    while from_ms is not None:
        rows, from_ms = await catalog.read(partial(_page, from_ms=from_ms, to_ms=asked.to_ms))
        if rows:
            yield rows


def _page(reader: Reader, from_ms: int, to_ms: int) -> tuple[Rows, int | None]:
    from catalog import history

    rows: Rows = []
    for row in history.read(reader, from_ms, to_ms):
        if len(rows) >= _PAGE_ROWS and row[0] != rows[-1][0]:
            return rows, row[0]
        rows.append(row)
    return rows, None


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

    async def forget(catalog: Catalog) -> None:
        def write(tx: Transaction) -> None:
            history.clear(tx)

        await catalog.write(write, frees=True)

    with_catalog(settings, forget)
    answer(
        {"cleared_at": moment_text(wall_clock_ms())}, "the history of requests is forgotten", as_json=as_json
    )


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
        "from_at": moment_text(asked.from_ms) if asked.from_ms else None,
        "to_at": moment_text(asked.to_ms) if asked.to_ms < FAR_MS else None,
        "operations": msgspec.to_builtins(operations, str_keys=True),
        "incidents": msgspec.to_builtins(failures, str_keys=True),
    }


def _json_lines(rows: Rows, *, first: bool) -> Iterator[str]:
    """The inside of an array, with the bracket before its first element."""
    import msgspec

    from catalog.history import MINUTE_MS
    from s3front.metrics.summary import summary_of

    for at, (minute_ms, operation, figures) in enumerate(rows):
        told = msgspec.to_builtins(summary_of(operation, figures, MINUTE_MS / 1000), str_keys=True)
        yield "[\n  " if first and not at else ",\n  "
        yield json.dumps({"minute_at": moment_text(minute_ms), **told})


def _summary_csv(operations: Iterable[OperationSummary]) -> Iterator[str]:
    import csv
    import io

    import msgspec

    from s3front.metrics.summary import OperationSummary

    names = [name for name in OperationSummary.__struct_fields__ if name != "by_status"]
    line = io.StringIO()
    writer = csv.writer(line)
    writer.writerow(names)
    for operation in operations:
        told = msgspec.structs.asdict(operation)
        writer.writerow([_number(told[name]) for name in names])
    yield line.getvalue()


def _number(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value


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
