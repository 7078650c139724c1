"""``trivet config``: what is in force, and where each value comes from."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compose.cli.store_access import AsJson, Data, print_json
from compose.config_file import CONFIG_VARIABLE, SYSTEM_FILE

if TYPE_CHECKING:
    from compose.configuration import Row

config_app = typer.Typer(no_args_is_help=True, help="The configuration.")


def _take(path: Path | None) -> Path | None:
    """What reads settings later finds the file by its variable, in this process and in those it becomes."""
    if path is not None:
        os.environ[CONFIG_VARIABLE] = str(path.absolute())
    return path


ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        callback=_take,
        is_eager=True,
        expose_value=True,
        help=f"configuration file in TOML [{CONFIG_VARIABLE}; default: {SYSTEM_FILE}, where it is there]",
    ),
]


@config_app.command()
def show(*, data: Data = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show every setting with its value in force and where that comes from. Secrets are not shown.

    As the running store has them; without one, as a process that is started here would have them.
    """
    from compose import configuration

    del config  # taken by its callback
    shown = configuration.in_force(os.environ, data)
    if as_json:
        print_json([asdict(row) for row in shown.rows])
        return
    _print(shown.rows)
    file = f"configuration file: {shown.file}" if shown.file is not None else "no configuration file"
    typer.echo(
        f"{file}; " + ("as the running store has them" if shown.runs else "as a start here would have them")
    )


def _print(rows: tuple[Row, ...]) -> None:
    from rich.console import Console

    from compose.cli.tables import folding_table

    table = folding_table("setting", "value", "from")
    for row in rows:
        table.add_row(row.name, row.value, row.source, style=None if row.source == "default" else "bold")
    Console().print(table)
