"""``trivet settings``: what is in force."""

from __future__ import annotations

import os
from typing import Any

import typer

from compose import running
from compose.cli.store_access import AsJson, Data, print_json
from compose.data_dir import DataDir
from compose.settings import Settings, default_text, option_name, table


def settings(*, data: Data = None, as_json: AsJson = False) -> None:
    """Show every setting: as the running store has it, or as a store started here would have it.

    Secrets are no settings, and not shown.
    """
    here = Settings.read(os.environ, {"data": data})
    supervisor = running.supervisor_pid(DataDir(here.data))
    known = here.to_environment()
    in_force = {} if supervisor is None else running.environment_of(supervisor)
    rows = [
        {
            "name": name,
            "option": option_name(name),
            "variable": setting.env,
            "value": in_force.get(setting.env, known[setting.env]),
            "default": default_text(name),
            "running": setting.env in in_force,
        }
        for name, setting in table().items()
    ]
    if as_json:
        print_json(rows)
    else:
        _print(rows, runs=bool(in_force))


def _print(rows: list[dict[str, Any]], *, runs: bool) -> None:
    from rich.console import Console

    from compose.cli.tables import folding_table

    shown = folding_table("setting", "value", "default")
    for row in rows:
        changed = row["value"] != row["default"]
        shown.add_row(
            row["variable"],
            row["value"],
            row["default"] if changed else "",
            style="bold" if changed else None,
        )
    Console().print(shown)
    typer.echo("as the running store has them" if runs else "as a store that is started here would have them")
