"""``trivet key …``."""

from __future__ import annotations

import typer

key_app = typer.Typer(no_args_is_help=True, help="Access keys: who may use the store.")


@key_app.callback()
def key() -> None:
    """Holds the commands together."""
