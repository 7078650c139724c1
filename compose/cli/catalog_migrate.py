"""``trivet catalog migrate``: from the embedded catalog to PostgreSQL."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from compose.catalog_place import describe
from compose.cli.store_access import KILLED_WAIT_S, AsJson, Data, answer
from compose.data_dir import DataDir
from compose.refusal import CommandRefused, StartRefused
from compose.running import processes
from compose.settings import Settings

if TYPE_CHECKING:
    from catalog.moving import TableMoved


def migrate(
    *,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="URL",
            help="postgresql://USER@HOST:PORT/DATABASE [default: TRIVET_CATALOG or TRIVET_CATALOG_FILE, which "
            "unlike an option no other user of the machine can read]",
            show_default=False,
        ),
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Move the embedded catalog into an empty PostgreSQL database, while the store does not run.

    A move that was cut short goes on where it was. At the end every table was compared, by count and checksum.
    """
    from catalog.errors import CatalogError
    from catalog.new_file import moved_path

    settings = Settings.read(os.environ, {"data": data})
    url, place = to or settings.catalog, DataDir(settings.data)
    if not url:
        raise CommandRefused(
            "say where to: --to postgresql://USER@HOST:PORT/DATABASE, or TRIVET_CATALOG_FILE"
        )
    try:
        lock = place.hold(KILLED_WAIT_S)
        try:
            if running := sorted(processes(place)):
                raise CommandRefused(f"{', '.join(running)} still runs: stop the store first")
            tables = _moved(place.catalog, url)
        finally:
            os.close(lock)
    except (CatalogError, StartRefused) as error:
        raise CommandRefused(str(error)) from error
    rows = sum(table.rows for table in tables)
    answer(
        {"catalog": describe(url), "rows": rows, "tables": msgspec.to_builtins(tables)},
        "\n".join(f"{table.name:<22}{table.rows:>12,}  {table.checksum[:16]}" for table in tables)
        + f"\n{rows:,} rows are in {describe(url)} and the same there. Start the store with TRIVET_CATALOG (or "
        f"TRIVET_CATALOG_FILE) from now on; {moved_path(place.catalog)} is kept and needed no more",
        as_json=as_json,
    )


def _moved(path: Path, url: str) -> list[TableMoved]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    from catalog.moving import move

    columns = (TextColumn("{task.description:<30}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def show(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done, total=total)

        return move(path, url, progress=show)
